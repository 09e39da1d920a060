"""Maintenance: fewer files, the same rows, and whatever the rollback window needs is there afterwards."""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.delta.commit import Deadline, Proposal, commit_when
from pipeline_assets.delta.files import Sink
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.delta.record import VACUUM, Record, chain_id
from pipeline_assets.delta.restorable import NotRestorable
from pipeline_assets.delta.table import open_table
from pipeline_assets.recovery.adopt import adopt
from pipeline_assets.recovery.maintenance import Maintained, Wanted, maintain
from pipeline_assets.recovery.maintenance_job import maintenance_job
from pipeline_assets.recovery.rollback import roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.recovery.rollback_store import AtWork, Store
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.rolling import Shop, code_location, on_disk, shown, values

DAY = timedelta(days=1)
NO_WINDOW = timedelta()


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def maintained(shop: Shop, window: timedelta = DAY, **more: Any) -> dict[str, Maintained]:
    """What became of each table of the shop."""
    return {one.stage[-1]: one for one in maintain(shop.instance, shop.job, Wanted(window, **more))}


def age(place: Location, days: float, until: int | None = None) -> None:
    """Let the data files of a table be older, and its log entries, up to a version, with the times that they say."""
    moment = time.time() - days * 86_400
    for path in Path(place.uri).rglob("*"):
        is_entry = path.suffix == ".json" and path.stem.isdigit()
        if path.is_dir() or (is_entry and until is not None and int(path.stem) > until):
            continue
        if is_entry:
            path.write_text(re.sub(r'("deletionTimestamp":)\d+', rf"\g<1>{int(moment * 1000)}", path.read_text()))
        os.utime(path, (moment, moment))
    log_of.cache_clear()


def parquet(place: Location) -> set[str]:
    return {path.name for path in Path(place.uri).rglob("*.parquet") if "_delta_log" not in str(path)}


def test_what_the_window_needs_stays_and_the_rest_goes(shop: Shop) -> None:
    runs = [shop.run(value) for value in (1, 2, 3)]
    place = shop.places()[0]
    three = parquet(place)
    assert maintained(shop)["a"].removed.files == 0
    assert parquet(place) == three
    shop.undo(runs[2])
    shop.undo(runs[1])
    assert shop.values() == {"a": 1, "b": 1, "c": 1}

    done = maintained(shop, NO_WINDOW)["a"]
    assert (done.removed.files, len(parquet(place))) == (2, 1)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert shop.run(4)
    assert shop.values() == {"a": 4, "b": 4, "c": 4}


def test_a_file_that_was_removed_twice_stays_while_the_second_time_is_in_the_window(shop: Shop) -> None:
    runs = [shop.run(value) for value in (1, 2, 3)]
    shop.undo(runs[2])
    place = shop.places()[0]
    age(place, 30)
    late = shop.run(4)
    assert maintained(shop, timedelta(days=7))["a"].removed.files == 2
    shop.undo(late)
    assert shop.values() == {"a": 2, "b": 2, "c": 2}


def test_a_dry_run_says_the_same_and_changes_nothing(shop: Shop) -> None:
    shop.run(1)
    shop.run(2)
    before = on_disk(shop.tables)
    said = maintained(shop, NO_WINDOW, dry_run=True)
    assert on_disk(shop.tables) == before
    done = maintained(shop, NO_WINDOW)
    assert {name: one.removed.files for name, one in said.items()} == {"a": 1, "b": 1, "c": 1}
    assert {name: one.removed for name, one in done.items()} == {name: one.removed for name, one in said.items()}


def orphan(place: Location, run: str, attempt: int = 7) -> str:
    """A file that an attempt of a run has written, and that no commit names."""
    table = open_table(place)
    assert table is not None
    (file,) = Sink(place, table.schema, [], chain_id(run), attempt).write(pl.LazyFrame({"value": [9]}))
    return Path(file.path).name


def test_a_file_without_a_commit_goes_when_it_is_old_and_its_run_is_over(shop: Shop) -> None:
    place = shop.places()[0]
    seen: list[Maintained] = []

    def meanwhile(run: str) -> None:
        of_this_run.append(orphan(place, run))
        age(place, 3)
        young.append(orphan(place, over))
        Path(place.uri, "below=1").mkdir()
        Path(place.uri, "below=1", "somebodys.parquet").touch()
        seen.append(maintained(shop)["a"])

    of_this_run: list[str] = []
    young: list[str] = []
    over = shop.run(1)
    old = orphan(place, over)
    shop.meanwhile = meanwhile
    shop.run(2)
    left = parquet(place)
    assert old not in left
    assert {*of_this_run, *young, "somebodys.parquet"} <= left
    assert seen[0].done[1:3] == ["1 files vacuumed", "1 files that no commit names"]
    assert seen[0].kept[:2] == [
        "1 files without a commit younger than the window",
        "1 files without a commit of runs at work",
    ]
    assert shop.values() == {"a": 2, "b": 2, "c": 2}


def by_day(instance: dg.DagsterInstance, **metadata: Any) -> tuple[dg.JobDefinition, Callable[..., str]]:
    """A stage with days, and a function that makes one and returns its run."""
    told = [0]

    @dg.asset(
        key_prefix="days",
        partitions_def=dg.StaticPartitionsDefinition(["a b", "é/x"]),
        metadata={"partition_expr": "day", **metadata},
    )
    def rows(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"day": [context.partition_key], "n": [told[0]]})

    defs = dg.Definitions([rows], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()

    def run(number: int, day: str = "a b") -> str:
        told[0] = number
        return job.execute_in_process(instance=instance, partition_key=day).run_id

    return job, run


def test_small_files_become_one_and_a_rollback_across_it_works(instance: dg.DagsterInstance, tables: Location) -> None:
    job, run = by_day(instance, mode="append")
    runs = [run(number, day) for number in (1, 2, 3) for day in ("a b", "é/x")]
    place = tables.child("days", "rows")
    before = shown(place)["entries"]
    done = maintain(instance, job, Wanted(DAY))[0]
    assert (done.before.files, done.after.files) == (6, 6)
    assert done.kept[0] == "small files of 2 partitions, appended to within the window"

    done = maintain(instance, job, Wanted(NO_WINDOW))[0]
    assert (done.before.files, done.after.files, len(parquet(place))) == (6, 2, 2)
    assert "6 small files of 2 partitions compacted, 4 files fewer" in done.done
    assert values(place, "n") == [1, 1, 2, 2, 3, 3]
    assert shown(place)["entries"] == before
    with pytest.raises(NotRestorable, match="cannot be told apart"):
        roll_back(instance, job, Asked(UNDO, runs[0]))
    late = run(4)
    roll_back(instance, job, Asked(UNDO, late))
    assert values(place, "n") == [1, 1, 2, 2, 3, 3]


def test_a_compaction_leaves_the_log_as_it_is(instance: dg.DagsterInstance, tables: Location) -> None:
    """delta-rs's own would delete what is older than 30 days, and with it whose data is live."""
    job, run = by_day(instance, mode="append")
    for number in range(3):
        run(number)
    place = tables.child("days", "rows")
    age(place, 40)
    maintain(instance, job, Wanted(NO_WINDOW, clean_log=False))
    done = maintain(instance, job, Wanted(DAY))[0]
    assert done.before.files == 1
    assert f"{0:020}.json" in os.listdir(Path(place.uri, "_delta_log"))


def test_a_state_that_was_compacted_is_gone_back_to(shop: Shop) -> None:
    """Also when the files that it had before are vacuumed, and the pins of those who read it hold."""
    shop.run(1)
    for _ in range(2):
        pl.DataFrame({"value": [1]}).write_delta(shop.places()[0].uri, mode="append")
    adopt(shop.instance, shop.defs.get_repository_def(), "shop/a")
    done = maintained(shop, NO_WINDOW)["a"]
    assert (done.before.files, done.after.files, len(parquet(shop.places()[0]))) == (3, 1, 1)
    assert shop.run(0, "c")
    shop.undo(shop.run(2))
    assert values(shop.places()[0], "value") == [1, 1, 1]


def test_the_log_is_cleaned_up_to_what_the_window_needs(shop: Shop) -> None:
    runs = [shop.run(value) for value in range(1, 13)]
    place = shop.places()[0]
    age(place, 30, until=10)
    done = maintained(shop, timedelta(days=7))["a"]
    entries = sorted(name for name in os.listdir(Path(place.uri, "_delta_log")) if name.endswith(".json"))
    assert entries[0] == f"{10:020}.json"
    assert "10 log entries deleted" in done.done
    log_of.cache_clear()
    shop.undo(runs[-1])
    assert shop.values() == {"a": 11, "b": 11, "c": 11}
    log_of.cache_clear()
    assert shop.run(20)
    shop.back_to(runs[-2])
    assert shop.values() == {"a": 11, "b": 11, "c": 11}


def test_a_partition_that_began_after_the_log_goes_back_to_nothing(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    job, run = by_day(instance)
    for number in range(12):
        run(number)
    place = tables.child("days", "rows")
    age(place, 30)
    maintain(instance, job, Wanted(timedelta(days=7)))
    late = run(1, "é/x")
    log_of.cache_clear()
    assert f"{0:020}.json" not in os.listdir(Path(place.uri, "_delta_log"))
    roll_back(instance, job, Asked(UNDO, late))
    assert values(place, "day") == ["a b"]


def test_maintenance_and_rollbacks_take_turns(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    before = on_disk(shop.tables)
    with Store(shop.tables).locked("A rollback"):
        done = maintained(shop, NO_WINDOW)
    assert all("A rollback is at work" in one.kept[0] for one in done.values())
    with Store(shop.tables).locked("Maintenance of shop/a"), pytest.raises(AtWork, match="Maintenance of shop/a is at"):
        shop.undo(second)
    store = Store(shop.tables)
    stored = store.begin({})
    with pytest.raises(AtWork, match=f"Rollback {stored.id} is not at its end"):
        maintained(shop, NO_WINDOW)
    assert [one for one in on_disk(shop.tables) if "pipeline_rollbacks" not in one] == before


def test_a_vacuum_of_ours_that_died_is_ended_and_one_of_others_is_not(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    a, b, _ = map(open_table, shop.places())
    assert a is not None
    assert b is not None
    commit_when(a, lambda now: Proposal(Record(VACUUM, "", now.id)), Deadline(20))
    info = {"timestamp": 1, "operation": "VACUUM START", "operationParameters": {}}
    Path(b.location.uri, "_delta_log", f"{2:020}.json").write_text(json.dumps({"commitInfo": info}) + "\n")
    for stage in ("shop/a", "shop/b"):
        with pytest.raises(NotRestorable, match="a VACUUM began at version 2 and has not ended"):
            shop.undo(second, stage=stage)
    assert "somebody else's VACUUM began at version 2" in maintained(shop)["b"].kept[0]
    shop.undo(second, stage="shop/a")
    with pytest.raises(NotRestorable, match="a VACUUM began at version 2 and has not ended"):
        shop.undo(second, stage="shop/b")
    age(shop.places()[1], 2)
    maintained(shop, timedelta(days=7))
    shop.undo(second, stage="shop/b")


def test_a_table_that_keeps_more_by_its_own_word_is_left_what_it_keeps(shop: Shop) -> None:
    shop.run(1)
    shop.run(2)
    DeltaTable(shop.places()[0].uri).alter.set_table_properties(
        {"delta.deletedFileRetentionDuration": "interval 30 days"}
    )
    assert {name: one.removed.files for name, one in maintained(shop, NO_WINDOW).items()} == {"a": 0, "b": 1, "c": 1}


def test_the_job_shows_a_row_for_each_table(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    defs = dg.Definitions.merge(shop.defs, dg.Definitions(jobs=[maintenance_job(lambda: NO_WINDOW)]))
    monkeypatch.setitem(sys.modules, shop.module, code_location(shop.module, defs))
    shop.run(1)
    shop.run(2)
    job = CodeLocation(shop.module).job("maintenance_job")

    def launch(**config: Any) -> dg.DagsterEvent:
        run_config = {"ops": {"maintenance": {"config": config}}}
        done = dg.execute_job(job, shop.instance, run_config, raise_on_error=False)
        return next(one for one in done.all_events if one.is_successful_output or one.is_step_failure)

    event = launch(stages=["shop/z"])
    assert "has no stage shop/z" in event.step_failure_data.user_failure_data.description
    lines = launch(stages=["shop/a", "shop/b"]).step_output_data.metadata["tables"].value.splitlines()
    assert lines[0] == "| table | files | bytes | deleted | log entries | done | kept |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| shop/a", "| shop/b"]
    assert "| 1 → 1 |" in lines[2]
    assert "1 files vacuumed" in lines[2]


@pytest.mark.parametrize("theirs", ["append", "delete"])
def test_a_checkpoint_that_somebody_has_written_upon_stays_readable(shop: Shop, theirs: str) -> None:
    """Readers keep to it, however long ago the foreign commit was: what it names is neither compacted nor vacuumed."""
    shop.run(1)
    place = shop.places()[0]
    if theirs == "append":
        pl.DataFrame({"value": [7]}).write_delta(place.uri, mode="append")
    else:
        DeltaTable(place.uri).delete("value = 1")
    before = parquet(place)
    for _ in range(2):
        maintained(shop, NO_WINDOW)
        assert before <= parquet(place)
    run = shop.run(2, "b", "c")
    assert shop.instance.get_run_by_id(run).is_success
    assert values(shop.places()[1], "value") == [1]


def test_what_was_vacuumed_is_not_vacuumed_again(shop: Shop) -> None:
    for value in (1, 2):
        shop.run(value)
    assert maintained(shop, NO_WINDOW)["a"].removed.files == 1
    version = DeltaTable(shop.places()[0].uri).version()
    assert maintained(shop, NO_WINDOW)["a"].removed.files == 0
    assert DeltaTable(shop.places()[0].uri).version() == version
