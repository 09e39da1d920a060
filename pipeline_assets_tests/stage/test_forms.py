"""A stage is an asset: whatever form an asset may have, a stage may have."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from pipeline_assets import stage
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.policy.policies import NO_BACKOFF
from pipeline_assets_tests.io_manager.running import rows, run, told

DAYS = dg.StaticPartitionsDefinition(["a", "b"])
ONE = pl.DataFrame({"n": [1]})


def test_a_function_is_a_stage_with_and_without_parentheses(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage
    def bare() -> pl.DataFrame:
        return ONE

    @stage(key_prefix="public", group_name="some", owners=["team:data"])
    def called(context: dg.AssetExecutionContext, bare: pl.LazyFrame) -> pl.LazyFrame:
        assert context.asset_key == dg.AssetKey(["public", "called"])
        return bare

    run(instance, tmp_path, [bare, called])
    assert rows(tmp_path, "called") == [(1,)]


def test_a_stage_called_by_hand_is_its_function() -> None:
    @stage(timeout=5)
    def doubled(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers * 2

    assert doubled(ONE).rows() == [(2,)]


def test_a_stage_called_by_hand_in_another_is_its_function_there(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(skip_if_unchanged=True, fingerprint=lambda: 1)
    def inner() -> pl.DataFrame:
        return ONE

    @stage(skip_if_unchanged=True, fingerprint=lambda: 1)
    def outer() -> pl.DataFrame:
        made: pl.DataFrame = inner() * 3
        return made

    for _ in range(2):
        run(instance, tmp_path, [outer])
    assert rows(tmp_path, "outer") == [(3,)]


def test_a_generator_with_several_outputs_is_a_stage(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
    def both() -> Iterator[dg.Output[pl.DataFrame]]:
        yield dg.Output(ONE, output_name="left")
        yield dg.Output(ONE * 2, output_name="right")

    run(instance, tmp_path, [both])
    assert (rows(tmp_path, "left"), rows(tmp_path, "right")) == ([(1,)], [(2,)])


def test_a_tuple_of_outputs_is_a_stage(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(outs={"left": dg.AssetOut(), "right": dg.AssetOut()}, skip_if_unchanged=True, fingerprint=lambda: 1)
    def both() -> tuple[pl.DataFrame, pa.Table]:
        return ONE, (ONE * 2).to_arrow()

    run(instance, tmp_path, [both])
    run(instance, tmp_path, [both])
    assert (rows(tmp_path, "left"), rows(tmp_path, "right")) == ([(1,)], [(2,)])


def test_of_several_assets_some_may_be_selected(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(
        outs={"left": dg.AssetOut(is_required=False), "right": dg.AssetOut(is_required=False)},
        can_subset=True,
        skip_if_unchanged=True,
        fingerprint=lambda: 1,
    )
    def both(context: dg.AssetExecutionContext) -> Iterator[dg.Output[pl.DataFrame]]:
        for key in sorted(context.selected_asset_keys):
            yield dg.Output(ONE, output_name=key.path[-1])

    run(instance, tmp_path, [both], selection=["left"])
    skipped = run(instance, tmp_path, [both], selection=["left"])
    assert told(skipped, "left")[None]["checkpoint/skipped"] is True
    assert rows(tmp_path, "left") == [(1,)]
    assert not (tmp_path / "public" / "right").exists()


def test_specs_make_a_stage_whose_assets_have_its_code_version(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(specs=[dg.AssetSpec("left"), dg.AssetSpec("right", code_version="7")])
    def both() -> Iterator[dg.MaterializeResult[None]]:
        yield dg.MaterializeResult(asset_key="left")
        yield dg.MaterializeResult(asset_key="right")

    run(instance, tmp_path, [both])
    versions = both.code_versions_by_key
    assert versions[dg.AssetKey("left")]
    assert versions[dg.AssetKey("right")] == "7"


def test_a_coroutine_is_a_stage(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage
    async def waiting() -> pl.DataFrame:
        await asyncio.sleep(0)
        return ONE

    run(instance, tmp_path, [waiting])
    assert rows(tmp_path, "waiting") == [(1,)]


def test_an_asynchronous_generator_is_a_stage(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage
    async def waiting():  # type: ignore[no-untyped-def]  # noqa: ANN202  Dagster knows no AsyncIterator
        await asyncio.sleep(0)
        yield dg.Output(ONE)

    run(instance, tmp_path, [waiting])
    assert rows(tmp_path, "waiting") == [(1,)]


def test_a_stage_has_partitions_and_reads_a_dict_of_them(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(partitions_def=DAYS, metadata={"partition_expr": "day"})
    def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"day": [context.partition_key], "n": [1]})

    @stage
    def gathered(daily: dict[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.DataFrame({"days": ["".join(sorted(daily))]})

    for key in ("a", "b"):
        run(instance, tmp_path, [daily], key)
    run(instance, tmp_path, [daily, gathered], selection=["gathered"])
    assert rows(tmp_path, "gathered") == [("ab",)]


def test_a_stage_takes_configuration_and_resources(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    class Rows(dg.Config):
        rows: int = 2

    @stage
    def configured(config: Rows) -> pl.DataFrame:
        return pl.DataFrame({"n": range(config.rows)})

    run(instance, tmp_path, [configured])
    assert len(rows(tmp_path, "configured")) == 2


def test_the_op_has_the_stock_retry_policy_and_tags_that_the_ui_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NO_BACKOFF)

    @stage(max_retries=4, min_retry_interval=7, timeout=60, op_tags={"mine": "too"})
    def often() -> None: ...

    policy = often.op.retry_policy
    assert policy is not None
    assert (policy.max_retries, policy.delay) == (4, 7)
    assert often.op.tags == {
        "mine": "too",
        "pipeline_assets/retries": "4, 7 to 300 s apart",
        "pipeline_assets/timeout": "60 s",
        "pipeline_assets/retry_on_timeout": "false",
        "pipeline_assets/skip_if_unchanged": "false",
    }


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"max_retries": -1}, "max_retries is negative"),
        ({"max_retries": 2.5}, "max_retries is no whole number"),
        ({"retry_on_timeout": "no", "timeout": 1}, "retry_on_timeout is neither True nor False"),
        ({"skip_if_unchanged": "yes"}, "skip_if_unchanged is neither True nor False"),
        ({"transient": [int]}, "<class 'int'> in transient or permanent is neither"),
        ({"min_retry_interval": -1}, "min_retry_interval is negative"),
        ({"min_retry_interval": 9, "max_retry_interval": 5}, "max_retry_interval is below min_retry_interval"),
        ({"timeout": 0}, "timeout is not above 0"),
        ({"retry_on_timeout": True}, "retry_on_timeout is set without a timeout"),
        ({"retry_on_timeout": True, "timeout": 1, "max_retries": 0}, "retry_on_timeout is set with max_retries=0"),
        ({"fingerprint": lambda: 1}, "fingerprint is given without skip_if_unchanged"),
        ({"transient": ["ConnectionError"]}, "'ConnectionError' in transient or permanent is neither"),
        ({"retry_policy": dg.RetryPolicy()}, "with retry_policy: it is made from max_retries"),
        ({"skip_if_unchanged": True}, "it has no input whose version could be compared"),
        (
            {
                "skip_if_unchanged": True,
                "fingerprint": lambda: 1,
                "check_specs": [dg.AssetCheckSpec("c", asset="wrong_stage")],
            },
            "with check_specs: a stage that is skipped evaluates no checks",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(wrong: dict[str, object], why: str) -> None:
    def wrong_stage() -> pl.DataFrame:
        return ONE

    with pytest.raises(ConfigurationError, match="Stage wrong_stage cannot be defined") as refused:
        stage(**wrong)(wrong_stage)  # type: ignore[call-overload]
    assert why in str(refused.value)
