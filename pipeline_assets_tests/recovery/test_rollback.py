"""Undo a run, or go back to one: what becomes of the tables, of Dagster's view, and of the runs after it."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from deltalake import DeltaTable

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.delta.table import open_table
from pipeline_assets.errors import NotMaterialized
from pipeline_assets.recovery.owed import owed
from pipeline_assets.recovery.resume import resume
from pipeline_assets.recovery.rollback import roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.recovery.rollback_store import DONE, Store
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import evidence, gathering
from pipeline_assets_tests.recovery.rolling import Shop, shown, values


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def owes(shop: Shop) -> list[tuple[str, str]]:
    return [(one.stage, one.why) for one in owed(shop.instance, shop.job)]


def test_the_newest_run_is_undone(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    done = shop.undo(second)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert owes(shop) == []
    stored = Store(shop.tables).read()
    assert (stored.plans[done.id].state, stored.owner, stored.open) == (DONE, None, None)


def test_the_only_run_is_undone_to_nothing_and_nobody_reads_that(shop: Shop) -> None:
    first = shop.run(1)
    shop.undo(first)
    assert shop.values() == {"a": None, "b": None, "c": None}
    assert owes(shop) == []
    lonely = shop.run(2, "b")
    errors = [
        entry.dagster_event.step_failure_data.error.to_string()
        for entry in shop.instance.all_logs(lonely, of_type=dg.DagsterEventType.STEP_FAILURE)
    ]
    assert NotMaterialized.__name__ in errors[0]


def test_what_another_run_has_replaced_stays_and_is_told_to_be_stale(shop: Shop) -> None:
    first = shop.run(1)
    shop.run(2, "c")
    shop.undo(first)
    assert shop.values() == {"a": None, "b": None, "c": 1}
    assert owes(shop) == [("shop/c", "stale")]


def test_an_older_run_is_undone_beneath_a_newer_one_that_stays(shop: Shop) -> None:
    first = shop.run(1)
    shop.run(2)
    before = [shown(place) for place in shop.places()]
    shop.undo(first)
    assert [shown(place) for place in shop.places()] == before
    assert owes(shop) == []


def test_what_was_undone_is_never_gone_back_to(shop: Shop) -> None:
    runs = [shop.run(value) for value in (1, 2, 3)]
    shop.undo(runs[1])
    shop.undo(runs[2])
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    shop.undo(runs[0])
    assert shop.values() == {"a": None, "b": None, "c": None}


def test_one_stage_is_undone_alone_and_what_was_made_from_it_is_told(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.undo(second, stage="shop/a")
    assert shop.values() == {"a": 1, "b": 2, "c": 2}
    assert owes(shop) == [("shop/b", "stale"), ("shop/c", "stale")]
    shop.run(0, "b", "c")
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert owes(shop) == []


def test_back_to_a_run_undoes_all_later_ones(shop: Shop) -> None:
    first = shop.run(1)
    later = [shop.run(2), shop.run(3, "a", "b")]
    done = shop.back_to(first)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert sorted(done.plan.fences) == sorted(later)
    assert owes(shop) == []


def test_an_undone_run_is_made_again_by_a_resume(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.undo(second)
    shop.tell(2)
    resumed = resume(shop.instance, second, shop.job)
    assert (resumed.success, shop.computed) == (True, ["a", "b", "c"])
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
    shop.undo(second)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_a_new_run_after_a_rollback_writes(shop: Shop) -> None:
    shop.undo(shop.run(1))
    shop.run(2)
    assert shop.values() == {"a": 2, "b": 2, "c": 2}


def test_a_run_that_kept_what_is_undone_is_owed_and_its_resume_goes_on(shop: Shop) -> None:
    shop.broken = "b"
    old = shop.run(1)
    shop.broken = ""
    new = shop.run(2)
    kept = resume(shop.instance, old, shop.job)
    assert (kept.success, shop.values()["b"]) == (True, 2)
    shop.undo(new)
    assert shop.values() == {"a": 1, "b": None, "c": None}
    assert ("shop/b", "kept") in owes(shop)
    shop.tell(1)
    assert resume(shop.instance, old, shop.job).success
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert owes(shop) == []


def test_dagster_is_told_what_is_there_now_and_of_what_it_was_made(shop: Shop) -> None:
    def stale() -> dict[str, StaleStatus]:
        graph = shop.defs.resolve_asset_graph()
        resolver = CachingStaleStatusResolver(shop.instance, graph, LoadingContextForTest(shop.instance))
        return {name: resolver.get_status(dg.AssetKey(["shop", name])) for name in "abc"}

    fresh = dict.fromkeys("abc", StaleStatus.FRESH)
    first = shop.run(1)
    made = evidence.events(shop.instance, "shop/b")[0]
    second = shop.run(2)
    assert stale() == fresh

    shop.undo(second, stage="shop/a")
    assert stale() == {**fresh, "b": StaleStatus.STALE}  # Dagster looks one step up
    shop.undo(second)
    assert stale() == fresh

    told = evidence.events(shop.instance, "shop/b")[0]
    changed = {"delta/version", "checkpoint/restored", "run"}
    assert told["checkpoint/restored"] is True
    assert {name: told[name] for name in made if name not in changed} == {
        name: value for name, value in made.items() if name not in changed
    }
    assert (told["delta/version"], told["checkpoint/chain"]) == (evidence.version(shop.places()[1]), first)
    shop.undo(first)
    told = evidence.events(shop.instance, "shop/b")[0]
    assert (told["checkpoint/restored"], told["dagster/row_count"]) == (True, 0)


def test_stages_that_are_skipped_when_unchanged_run_again_after_it(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    shop = Shop(instance, tables, skip=True)
    shop.run(1)
    shop.run(1, "b", "c")
    assert shop.computed == []
    shop.undo(shop.run(2))
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    shop.run(1, "b", "c")
    assert shop.computed == ["b", "c"]


def days_of(tables: Location) -> list[Any]:
    return [values(tables.child("days", name), "day") for name in ("rows", "all_days")]


def test_a_day_goes_back_alone_and_what_gathered_it_is_owed(instance: dg.DagsterInstance, tables: Location) -> None:
    job = gathering.definitions().resolve_job_def("days_job")

    def run(key: str) -> str:
        return job.execute_in_process(instance=instance, partition_key=key).run_id

    runs = [run(key) for key in gathering.KEYS[:3]]
    done = roll_back(instance, job, Asked(UNDO, runs[1]))
    one, _, three = gathering.KEYS[:3]
    assert days_of(tables) == [[one, three], gathering.KEYS[:3]]
    states = {
        entry.partition: entry.state for of in done.plan.tables for entry in of.entries if of.stage == "days/rows"
    }
    assert states == {gathering.KEYS[1]: "live"}
    found = [(owes.stage, owes.why) for owes in owed(instance, job)]
    assert found == [("days/all_days", "stale"), ("days/counted", "stale")]
    gathered = job.execute_in_process(instance=instance, partition_key=three)
    assert gathered.success
    assert days_of(tables) == [[one, three], [one, three]]
    assert owed(instance, job) == []


def test_a_gathering_table_that_goes_back_is_behind_what_other_days_hold(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    defs = gathering.definitions()
    job, rows = defs.resolve_job_def("days_job"), defs.resolve_job_def("rows_job")
    one, two = gathering.KEYS[:2]
    first = job.execute_in_process(instance=instance, partition_key=one).run_id
    rows.execute_in_process(instance=instance, partition_key=two)
    roll_back(instance, job, Asked(UNDO, first))
    assert days_of(tables) == [[two], []]
    assert [(owes.stage, owes.why) for owes in owed(instance, job)] == [("days/all_days", "behind")]


def test_an_appended_table_loses_the_rows_of_the_undone_run_alone(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    told = [0]

    @dg.asset(key_prefix="journal", metadata={"mode": "append"})
    def lines() -> pl.DataFrame:
        return pl.DataFrame({"n": [told[0]]})

    defs = dg.Definitions([lines], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()

    def run(number: int) -> str:
        told[0] = number
        return job.execute_in_process(instance=instance).run_id

    runs = [run(number) for number in (1, 2, 3)]
    roll_back(instance, job, Asked(UNDO, runs[1]))
    place = tables.child("journal", "lines")
    assert values(place, "n") == [1, 3]
    roll_back(instance, job, Asked(UNDO, runs[2]))
    assert values(place, "n") == [1]
    told[0] = 2
    assert resume(instance, runs[1], job).success
    assert values(place, "n") == [1, 2]


def test_what_was_there_before_our_first_commit_comes_back_and_is_read(shop: Shop) -> None:
    """A table that somebody else made, and that the stage has begun to write."""
    pl.DataFrame({"value": [7]}).write_delta(shop.places()[0].uri)
    shop.undo(shop.run(1))
    assert shop.values() == {"a": 7, "b": None, "c": None}
    shop.run(0, "b", "c")
    assert shop.values() == {"a": 7, "b": 7, "c": 7}


def test_one_partition_of_a_range_is_undone_and_a_resume_makes_that_alone(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    keys = ["a", "b", "c"]
    made: list[str] = []

    @dg.asset(
        key_prefix="range",
        partitions_def=dg.StaticPartitionsDefinition(keys),
        metadata={"partition_expr": "key"},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def rows(context: dg.AssetExecutionContext) -> pl.DataFrame:
        made.append(context.run.run_id)
        return pl.DataFrame({"key": context.partition_keys, "by": len(made)})

    defs = dg.Definitions([rows], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    window = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    run = job.execute_in_process(instance=instance, tags=window).run_id
    place = tables.child("range", "rows")
    roll_back(instance, job, Asked(UNDO, run, partition="b"))
    assert values(place, "key") == ["a", "c"]
    assert resume(instance, run, job).success
    assert evidence.rows(place).rows() == [(1, "a"), (1, "c"), (2, "b")]


def forget(place: Location) -> None:
    """Clean the log up to its newest entry."""
    DeltaTable(place.uri).create_checkpoint()
    *old, _ = sorted(Path(place.uri, "_delta_log").glob("*.json"))
    for entry in old:
        entry.unlink()
    log_of.cache_clear()


def test_what_the_table_s_log_has_forgotten_of_a_run_is_undone_by_the_event_log(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.run(3, "b")
    b = shop.places()[1]
    forget(b)
    shop.undo(second)
    table = open_table(b)
    assert table is not None
    assert [name.partition for name in table.undone()] == ["*"]
    assert shop.values() == {"a": 1, "b": 2, "c": 1}  # the third b was made of the second a


def test_what_was_undone_is_known_when_the_log_has_forgotten_the_rollback(shop: Shop) -> None:
    """Whichever tool cleaned it up: a resume makes it again, and nobody takes it for there."""

    def undone() -> list[int]:
        tables = filter(None, map(open_table, shop.places()))
        return [len(table.undone()) for table in tables]

    shop.run(1)
    second = shop.run(2)
    shop.undo(second, stage="shop/a")
    shop.undo(second, stage="shop/b")
    shop.run(3, "a", "b")
    assert undone() == [1, 1, 0]
    for place in shop.places():
        forget(place)
    assert undone() == [1, 1, 0]
    shop.tell(2)
    assert resume(shop.instance, second, shop.job).success
    assert shop.computed == ["a", "b", "c"]
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
