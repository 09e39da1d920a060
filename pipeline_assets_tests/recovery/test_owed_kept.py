"""A chain that kept or skipped what a rollback has undone is owed what it gave up, unless it is undone itself."""

import sys

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from pipeline_assets.cli import cli
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.launch import Pipeline, narrowed
from pipeline_assets.recovery.owed import KEPT, owed
from pipeline_assets.recovery.refresh import refresh
from pipeline_assets.recovery.resume import resume
from pipeline_assets.recovery.rollback import roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.rolling import Shop, code_location, values

STAGES = ("shop/a", "shop/b", "shop/c")


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables, skip=True)


def kept(shop: Shop) -> list[tuple[str, str | None]]:
    return [(one.stage, one.run) for one in owed(shop.instance, shop.job) if one.why == KEPT]


def overtaken(shop: Shop) -> tuple[str, str, str]:
    """A good run, one that failed and was continued after the third: it kept what that one had made."""
    good = shop.run(1)
    shop.broken = "b"
    old = shop.run(2)
    shop.broken = ""
    new = shop.run(3)
    assert resume(shop.instance, old, shop.job).success
    assert shop.values() == {"a": 3, "b": 3, "c": 3}
    return good, old, new


def test_who_goes_back_to_a_run_undoes_those_that_kept_what_came_after_it_too(shop: Shop) -> None:
    good, _, _ = overtaken(shop)
    done = shop.back_to(good)
    assert kept(shop) == []
    assert refresh(shop.instance, shop.job, done.id, STAGES).runs == []
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_who_goes_back_to_a_run_undoes_those_that_skipped_since_too(shop: Shop) -> None:
    good = shop.run(1)
    shop.run(2)
    shop.run(2, "b", "c")
    assert shop.computed == []
    done = shop.back_to(good)
    assert kept(shop) == []
    assert refresh(shop.instance, shop.job, done.id, STAGES).runs == []
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_a_chain_that_kept_and_was_undone_by_name_is_owed_nothing(shop: Shop) -> None:
    _, old, new = overtaken(shop)
    shop.undo(new)
    assert {stage for stage, _ in kept(shop)} == {"shop/b", "shop/c"}
    done = shop.undo(old)
    assert kept(shop) == []
    assert refresh(shop.instance, shop.job, done.id, STAGES).runs == []
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_a_chain_that_did_not_end_green_is_a_person_s_to_continue(shop: Shop) -> None:
    shop.run(1)
    shop.broken = "c"
    failed = shop.run(2)
    shop.run(2, "b", "c")
    assert shop.computed == []
    shop.undo(failed)
    assert kept(shop) == []
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_who_went_back_to_a_run_has_not_undone_that_run_nor_those_before_it(shop: Shop) -> None:
    shop.run(1)
    shop.broken = "c"
    failed = shop.run(2)
    shop.broken = ""
    green = shop.run(2, "b", "c")
    assert shop.computed == ["c"]
    shop.run(3)
    shop.back_to(green)
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
    shop.undo(failed)
    assert kept(shop) == [("shop/b", green)]


def test_a_chain_that_ended_green_by_a_resume_is_owed_what_it_skipped(shop: Shop) -> None:
    shop.run(1)
    shop.broken = "c"
    failed = shop.run(2)
    skipped = shop.run(2, "b", "c")
    shop.broken = ""
    assert resume(shop.instance, skipped, shop.job).success
    shop.undo(failed)
    assert [stage for stage, _ in kept(shop)] == ["shop/b"]


def test_what_is_owed_is_made_with_the_configuration_of_what_is_there(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    made: list[int] = []

    @dg.asset(key_prefix="code")
    def first() -> pl.DataFrame:
        made.append(len(made))
        return pl.DataFrame({"n": made[-1:]})

    @dg.asset(key_prefix="code", config_schema={"times": dg.Field(int, default_value=1)})
    def second(context: dg.AssetExecutionContext, first: pl.DataFrame) -> pl.DataFrame:
        return first.select(n=10 + pl.col("n") * context.op_execution_context.op_config["times"])

    defs = dg.Definitions([first, second], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    config = {"ops": {"code__second": {"config": {"times": 7}}}}
    runs = [job.execute_in_process(config, instance=instance).run_id for _ in range(2)]
    assert values(tables.child("code", "second"), "n") == [17]
    done = roll_back(instance, job, Asked(UNDO, runs[1], "code/first"))
    instance.delete_run(runs[1])
    refused = refresh(instance, job, done.id, ["code/first"])
    assert (refused.success, [one.stage for one in refused.left]) == (False, ["code/second"])
    assert f"Run {runs[1]}, which made what is there of code/second, was deleted" in refused.failure
    assert job.execute_in_process(config, instance=instance, asset_selection=[dg.AssetKey(["code", "first"])]).success
    job.execute_in_process(config, instance=instance)
    again = job.execute_in_process(config, instance=instance).run_id
    done = roll_back(instance, job, Asked(UNDO, again, "code/first"))
    assert refresh(instance, job, done.id, ["code/first"]).success
    assert values(tables.child("code", "second"), "n") == [10 + 7 * 3]


def test_nothing_is_made_again_of_what_a_deleted_run_has_made_and_it_says_which_command_does(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, shop.module, code_location(shop.module, shop.defs))
    shop.run(1)
    second = shop.run(2)
    shop.undo(second, stage="shop/a")
    shop.instance.delete_run(second)
    before = shop.values()
    done = CliRunner().invoke(cli, ["rollback", "--refresh", "-m", shop.module])
    assert done.exit_code == 1
    both = 'key:"shop/b" or key:"shop/c"'
    assert done.stderr == (
        f"Not made again: Run {second}, which made what is there of shop/b, was deleted, so it is not known how it was "
        f"configured. Nothing was started; `pipeline-assets run default --select '{both}' -m {shop.module}` makes it, with "
        "--config FILE where it is to be configured.\n"
    )
    assert (shop.values(), len(shop.instance.get_runs())) == (before, 1)
    chosen = narrowed(shop.defs.get_repository_def(), shop.job, Pipeline("shop_job"), both)
    assert chosen.assets == {dg.AssetKey(["shop", "b"]), dg.AssetKey(["shop", "c"])}
