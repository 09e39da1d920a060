"""Python values in and out, and steps with one output, several, or none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets_tests.io_manager.running import failure, rows, run, told, version

FRAME = pl.DataFrame({"n": [1, 2, 3]})
READER = FRAME.to_arrow().to_reader


@pytest.mark.parametrize(
    "make", [FRAME.lazy, FRAME.clone, FRAME.to_arrow, READER], ids=["lazy", "frame", "arrow", "reader"]
)
@pytest.mark.parametrize("wants", [pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader])
def test_what_one_stage_returns_another_gets_as_it_asks(
    instance: dg.DagsterInstance, root: Path, make: Any, wants: Any
) -> None:
    @dg.asset
    def table() -> Any:
        return make()

    def copied(table: Any) -> Any:
        assert isinstance(table, wants)
        return table

    copied.__annotations__["table"] = wants
    run(instance, root, [table, dg.asset(copied)])
    assert rows(root, "copied") == [(1,), (2,), (3,)]


def test_an_input_without_annotation_is_lazy(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME

    @dg.asset
    def copied(table):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        assert isinstance(table, pl.LazyFrame)
        return table

    run(instance, root, [table, copied])
    assert rows(root, "copied") == [(1,), (2,), (3,)]


def test_a_subclass_may_say_as_what_such_an_input_is_loaded(instance: dg.DagsterInstance, root: Path) -> None:
    """As with dagster-deltalake's managers, whose polars one says DataFrame."""

    class Eager(DeltaCheckpointIOManager):
        @staticmethod
        def default_load_type() -> type:
            return pl.DataFrame

    seen = []

    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME

    @dg.asset
    def other(table) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        seen.append(type(table))

    resources = {"io_manager": Eager(root_uri=str(root))}
    assert dg.materialize([table, other], instance=instance, resources=resources).success
    assert seen == [pl.DataFrame]


def test_only_the_columns_asked_for_are_read(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME.with_columns(m=pl.col("n") * 2)

    @dg.asset(ins={"table": dg.AssetIn(metadata={"columns": ["m"]})})
    def copied(table: pl.DataFrame) -> pl.DataFrame:
        return table

    run(instance, root, [table, copied])
    assert DeltaTable(root / "public" / "copied").schema().to_arrow().names == ["m"]


def test_a_stage_that_returns_nothing_writes_nothing(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def nothing() -> None: ...

    @dg.asset
    def told_only() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"seen": 1})

    run(instance, root, [nothing, told_only])
    assert list(root.iterdir()) == []


def test_none_where_a_frame_was_promised_is_an_error(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> pl.DataFrame | None:
        return None

    assert "Unexpected 'None' output value" in failure(run(instance, root, [table], ok=False))


def test_a_type_that_is_no_table_is_refused_by_name(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> int:
        return 1

    said = failure(run(instance, root, [table], ok=False))
    assert "Output 'result' of table is of type int" in said
    assert "DeltaLakeIOManager does not have a handler for type '<class 'int'>'" in said


@pytest.mark.parametrize(
    ("type_", "mend"), [(dict, "annotate the values, too: `dict[str, pl.DataFrame]`"), (int, "annotate the input")]
)
def test_an_input_that_is_no_table_is_refused_with_the_stage_that_asks_for_it(
    instance: dg.DagsterInstance, root: Path, type_: type, mend: str
) -> None:
    def reader(table: Any) -> pl.DataFrame:
        raise NotImplementedError

    reader.__annotations__["table"] = type_
    said = failure(run(instance, root, [frame_asset(), dg.asset(reader)], ok=False))
    assert "Input 'table' of reader is of type" in said
    assert mend in said
    assert not (root / "public" / "reader").exists()


def frame_asset() -> dg.AssetsDefinition:
    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME

    return table


def test_what_the_user_says_of_an_output_stays(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> dg.Output[pl.DataFrame]:
        return dg.Output(FRAME, metadata={"mine": "yes"})

    @dg.asset
    def other() -> dg.MaterializeResult[pl.DataFrame]:
        return dg.MaterializeResult(value=FRAME, metadata={"mine": "too"})

    result = run(instance, root, [table, other])
    assert told(result, "table")[None]["mine"] == "yes"
    assert told(result, "other")[None]["mine"] == "too"
    assert told(result, "other")[None]["delta/version"] == 0


def test_the_metadata_of_a_checkpoint_is_what_the_design_says(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME

    @dg.asset
    def copied(table: pl.LazyFrame) -> pl.LazyFrame:
        return table

    result = run(instance, root, [table, copied])
    said = dict(told(result, "copied")[None])
    assert [column.type for column in said.pop("dagster/column_schema").columns] == ["long"]
    assert said.pop("checkpoint/attempt") > 1_700_000_000_000
    assert said.pop("delta/table_id") == str(DeltaTable(root / "public" / "copied").metadata().id)
    assert said == {
        "checkpoint/chain": result.run_id,
        "checkpoint/engine": "polars",
        "checkpoint/format": 1,
        "checkpoint/input_tables": {"table": str(DeltaTable(root / "public" / "table").metadata().id)},
        "checkpoint/inputs": {"table": 0},
        "checkpoint/rows_dropped": 0,
        "checkpoint/rows_in": 3,
        "checkpoint/rows_quarantined": 0,
        "dagster/row_count": 3,
        "dagster/table_name": "public.copied",
        "dagster/uri": str(root / "public" / "copied"),
        "delta/version": 0,
    }


def several(fail: Path) -> dg.AssetsDefinition:
    @dg.multi_asset(outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
    def both(table: pl.DataFrame) -> Iterator[Any]:
        yield dg.Output(table, "left")
        if fail.exists():
            raise ValueError
        yield dg.Output(table, "right")

    return both


def test_one_output_of_several_stays_when_the_next_fails(
    instance: dg.DagsterInstance, root: Path, tmp_path: Path
) -> None:
    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME

    fail = tmp_path / "fail"
    fail.touch()
    run(instance, root, [table, several(fail)], ok=False)
    assert rows(root, "left") == [(1,), (2,), (3,)]
    assert not (root / "public" / "right").exists()


def test_a_retry_adopts_the_output_that_was_committed_and_reads_what_it_read(
    instance: dg.DagsterInstance, root: Path, tmp_path: Path
) -> None:
    @dg.asset
    def table() -> pl.DataFrame:
        return FRAME

    tries = []

    @dg.multi_asset(outs={"left": dg.AssetOut(), "right": dg.AssetOut()}, retry_policy=dg.RetryPolicy(max_retries=1))
    def both(table: pl.DataFrame) -> Iterator[Any]:
        tries.append(table.height)
        yield dg.Output(table, "left")
        if len(tries) == 1:
            FRAME.write_delta(str(root / "public" / "table"), mode="append")
            raise ValueError
        yield dg.Output(table, "right")

    result = run(instance, root, [table, both])
    assert tries == [3, 3]
    assert (version(root, "left"), version(root, "right")) == (0, 0)
    assert told(result, "left")[None]["checkpoint/adopted"] is True


@dg.op(out=dg.Out(metadata={"schema": "made"}))
def numbers() -> pl.DataFrame:
    return FRAME


@dg.op(out=dg.Out(metadata={"schema": "added"}))
def plus_one(frame: pl.DataFrame) -> pl.DataFrame:
    return frame + 1


@dg.graph
def added() -> None:
    plus_one(numbers())


def job(root: Path, graph: dg.GraphDefinition, **manager: Any) -> dg.JobDefinition:
    return graph.to_job(resource_defs={"io_manager": DeltaCheckpointIOManager(root_uri=str(root), **manager)})


def test_outputs_of_ops_lie_by_their_schema_and_name(instance: dg.DagsterInstance, root: Path) -> None:
    for _ in range(2):
        assert job(root, added).execute_in_process(instance=instance).success
    assert rows(root, "result", "made") == [(1,), (2,), (3,)]
    assert rows(root, "result", "added") == [(2,), (3,), (4,)]


def test_several_ops_may_append_to_one_table(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.graph
    def twice() -> None:
        numbers.alias("one")()
        numbers.alias("other")()

    assert job(root, twice, mode="append").execute_in_process(instance=instance).success
    assert rows(root, "result", "made") == [(1,), (1,), (2,), (2,), (3,), (3,)]


def test_mapped_ops_write_one_table_in_turn_and_each_is_read_as_it_was(
    instance: dg.DagsterInstance, root: Path
) -> None:
    @dg.op(out=dg.DynamicOut(io_manager_key="memory"))
    def keys() -> Iterator[Any]:
        yield dg.DynamicOutput(1, "a")
        yield dg.DynamicOutput(2, "b")

    @dg.op
    def made(number: int) -> pl.DataFrame:
        return pl.DataFrame({"n": [number]})

    @dg.op
    def gathered(frames: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(frames)

    @dg.graph
    def mapped() -> None:
        gathered(keys().map(made).collect())

    io = DeltaCheckpointIOManager(root_uri=str(root))
    resources = {"io_manager": io, "memory": dg.mem_io_manager}
    assert mapped.to_job(resource_defs=resources).execute_in_process(instance=instance).success
    assert rows(root, "result") == [(1,), (2,)]
