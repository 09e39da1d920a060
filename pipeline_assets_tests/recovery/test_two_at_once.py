"""Several processes at once: the invariants hold, nobody ends red, nobody is missing."""

import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.resume import resume
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import children, gathering, story
from pipeline_assets_tests.recovery.children import Done
from pipeline_assets_tests.recovery.evidence import all_lawful, rows, writes, written_once

TABLES = ("rows", "all_days", "counted")


def at_once(keys: Sequence[str], folder: Path, *job: str) -> list[Done]:
    """A process for each key; all go at the same moment."""
    folder.mkdir()
    worker = ["-m", gathering.__name__]
    processes = [children.start([*worker, key, str(folder), *job]) for key in keys]
    deadline = time.monotonic() + children.SECONDS
    while len(list(folder.glob("ready-*"))) < len(keys):
        assert time.monotonic() < deadline, [children.end(process).stderr for process in processes]
        time.sleep(0.02)
    (folder / "go").touch()
    return [children.end(process) for process in processes]


def days(tables: Location) -> dict[str, Location]:
    return {name: tables.child("days", name) for name in TABLES}


def test_days_that_gather_at_once_are_all_there_and_none_ends_red(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    done = at_once(gathering.KEYS, tmp_path / "signs")
    assert [one.returncode for one in done] == [0] * len(done), "\n".join(one.stderr[-2000:] for one in done)
    found = days(tables)
    assert sorted(rows(found["all_days"])["day"]) == gathering.KEYS
    assert rows(found["counted"])["days"].to_list() == [len(gathering.KEYS)]
    all_lawful(instance, found.values())


def test_the_same_day_by_two_is_one_of_theirs_everywhere(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    done = at_once([gathering.KEYS[0]] * 3, tmp_path / "signs")
    assert [one.returncode for one in done] == [0, 0, 0], "\n".join(one.stderr[-2000:] for one in done)
    found = days(tables)
    assert rows(found["rows"]).height == 1
    assert rows(found["all_days"])["by"].to_list() == rows(found["rows"])["by"].to_list()
    for table in found.values():
        written_once(table)


def test_an_old_run_resumed_after_a_newer_one_ends_green_and_changes_nothing(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    story.switch().touch()
    old = story.job().execute_in_process(instance=instance, raise_on_error=False)
    story.switch().unlink()
    new = story.job().execute_in_process(instance=instance)
    places = [tables.child("story", stage) for stage in story.STAGES]
    before = [(writes(place), rows(place).rows()) for place in places]
    resumed = resume(instance, old.run_id, story.job())
    assert resumed.success
    assert [(writes(place), rows(place).rows()) for place in places] == before
    told = [entry.user_message for entry in instance.all_logs(str(resumed.run_id))]
    kept = [text for text in told if "was kept, nothing was written" in text]
    assert len(kept) == 2
    assert all(new.run_id in text for text in kept)


def test_so_does_one_whose_stages_read_the_one_before_alone(instance: dg.DagsterInstance, tables: Location) -> None:
    """The last reads what was kept: from the same as the newer run's, so that stays, too."""
    broken = [True]

    @dg.asset(key_prefix="row")
    def first() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset(key_prefix="row")
    def second(first: pl.DataFrame) -> pl.DataFrame:
        if broken:
            raise ValueError
        return first

    @dg.asset(key_prefix="row")
    def third(second: pl.DataFrame) -> pl.DataFrame:
        return second

    resources = {"io_manager": io_manager()}
    chosen = dg.define_asset_job("row", selection=dg.AssetSelection.all())
    defs = dg.Definitions([first, second, third], jobs=[chosen], resources=resources, executor=dg.in_process_executor)
    job = defs.resolve_job_def("row")
    old = job.execute_in_process(instance=instance, raise_on_error=False)
    broken.clear()
    assert job.execute_in_process(instance=instance).success
    before = [writes(tables.child("row", name)) for name in ("first", "second", "third")]
    assert resume(instance, old.run_id, job).success
    assert [writes(tables.child("row", name)) for name in ("first", "second", "third")] == before


def test_24_partitions_of_one_table_at_once(instance: dg.DagsterInstance, tables: Location, tmp_path: Path) -> None:
    done = at_once(gathering.MANY, tmp_path / "signs", "rows_job")
    assert [one.returncode for one in done] == [0] * 24, "\n".join(one.stderr[-2000:] for one in done)
    found = days(tables)["rows"]
    assert sorted(rows(found)["day"]) == sorted(gathering.MANY)
    assert pl.scan_delta(found.uri).collect().height == 24
    all_lawful(instance, [found])
