"""What `status` says: of each stage by the event log, and where the tables disagree."""

import contextlib
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable

from pipeline_assets.cli.shown import document
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.io.hearing import RECENT
from pipeline_assets.recovery.disagreements import ANEW, FOREIGN, LOST, REMOVED, UNREADABLE
from pipeline_assets.recovery.owed import BEHIND, STALE
from pipeline_assets.recovery.resume import resume
from pipeline_assets.recovery.status import StageStatus, Status, status
from pipeline_assets.recovery.told import newest_ids
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import children, gathering, story
from pipeline_assets_tests.recovery.children import KILLED
from pipeline_assets_tests.recovery.commanding import DAYS, SHOP, STORY, Parts, command, said
from pipeline_assets_tests.recovery.rolling import Shop, on_disk
from pipeline_assets_tests.recovery.rolling_processes import end, rollback


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def of(shop: Shop) -> Status:
    return status(shop.instance, shop.defs.get_repository_def())


def stages(found: Status) -> dict[str, StageStatus]:
    return {one.stage.rpartition("/")[2]: one for one in found.stages}


def wrong(found: Status) -> list[tuple[str, str, str]]:
    return [(one.stage, one.partition, one.kind) for stage in found.stages for one in stage.disagreements]


def owed(found: Status) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(one.stage, one.partition, one.why, one.inputs) for stage in found.stages for one in stage.owed]


def test_the_third_of_four_stages_failed(instance: dg.DagsterInstance, tables: Location) -> None:
    story.switch().touch()
    run = story.job().execute_in_process(instance=instance, raise_on_error=False).run_id
    before = on_disk(tables)
    found = said("status", "story", module=STORY)
    states = [(one["stage"], one["state"], one["version"], one["rows"], one["attempts"]) for one in found["stages"]]
    assert states == [
        ("story/orders", "materialized", 0, 1000, 1),
        ("story/priced", "materialized", 0, 1000, 1),
        ("story/by_customer", "failed", None, None, 1),
        ("story/report", "not reached", None, None, 0),
    ]
    assert found["stages"][2]["error"] == "Broken"
    done = command("status", "story", module=STORY)
    assert f"Run {run} of story_job has failed; `pipeline-assets resume {run} -m {STORY}` continues it" in done.stdout
    assert "\x1b" not in done.stdout
    story.switch().unlink()
    again = resume(instance, run, story.job()).run_id
    found = said("status", "story_job", module=STORY)
    assert [(one["state"], one["chain"]) for one in found["stages"]] == [("materialized", run)] * 4
    assert [(one["run"], one["attempts"]) for one in found["stages"]] == [(run, 1), (run, 1), (again, 2), (again, 1)]
    assert found["runs"] == []
    assert before == [name for name in on_disk(tables) if name in before]


def test_what_the_code_location_does_not_have_is_refused_by_name(shop: Shop) -> None:
    done = command("status", "nope")
    assert (done.exit_code, "no pipeline nope" in done.stderr, "shop, shop_job" in done.stderr) == (3, True, True)
    done = command("status", "shop", "--stage", "shop/nope")
    assert (done.exit_code, "no stage shop/nope" in done.stderr, "shop/a, shop/b" in done.stderr) == (3, True, True)


def append(table: Location) -> None:
    pl.DataFrame({"value": [9]}).write_delta(table.uri, mode="append")


def remove(table: Location) -> None:
    shutil.rmtree(table.uri)


def make_anew(table: Location) -> None:
    remove(table)
    pl.DataFrame({"value": [9]}).write_delta(table.uri)


def cut_off(table: Location) -> None:
    with open(f"{table.uri}/_delta_log/{0:020}.json", "wb"):
        pass


def compact(table: Location) -> None:
    DeltaTable(table.uri).optimize.compact()
    DeltaTable(table.uri).vacuum(0, dry_run=False, enforce_retention_duration=False)


@pytest.mark.parametrize(
    ("act", "kind", "mend"),
    [
        (append, FOREIGN, "pipeline-assets adopt shop/b"),
        (remove, REMOVED, "dagster asset materialize --select shop/b"),
        (make_anew, ANEW, "pipeline-assets adopt shop/b"),
        (cut_off, UNREADABLE, "pipeline-assets doctor"),
        (compact, None, ""),
    ],
)
def test_where_a_table_disagrees_it_says_so(
    act: Callable[[Location], None], kind: str | None, mend: str, shop: Shop
) -> None:
    shop.run(1)
    assert wrong(of(shop)) == []
    act(shop.places()[1])
    found = of(shop)
    assert wrong(found) == ([("shop/b", "*", kind)] if kind else [])
    assert all(one.mend.startswith(mend) for one in stages(found)["b"].disagreements)
    assert stages(found)["b"].whole.state == "materialized"


def test_a_commit_whose_events_were_deleted_is_to_be_adopted(shop: Shop) -> None:
    run = shop.run(1)
    shop.instance.delete_run(run)
    found = of(shop)
    assert wrong(found) == [(f"shop/{name}", "*", LOST) for name in "abc"]
    done = command("adopt", "shop/b")
    assert done.exit_code == 0, done.output
    assert wrong(of(shop)) == [("shop/a", "*", LOST), ("shop/c", "*", LOST)]
    assert stages(of(shop))["b"].whole.event.flags == ("adopted",)


def test_a_run_that_was_killed_after_its_commit(shop: Shop) -> None:
    """It says so, that the event was lost, and what continues; after that nothing is left to say."""
    shop.tell(1)
    died = children.run(children.materialize(SHOP), children.crash_at("after_commit", "shop/b"))
    assert died.returncode == KILLED, died.stderr
    run = shop.instance.get_runs()[0].run_id
    found = of(shop)
    assert [stages(found)[name].whole.state for name in "abc"] == ["materialized", "killed", "not reached"]
    assert [(one.run, one.state, one.resume) for one in found.runs] == [(run, "killed", run)]
    assert wrong(found) == [("shop/b", "*", LOST)]
    assert stages(found)["b"].disagreements[0].mend == f"pipeline-assets resume {run}"
    assert f"was killed; `pipeline-assets resume {run} -m {SHOP}` continues it" in command("status").stdout
    assert not shop.instance.get_run_by_id(run).is_finished
    assert resume(shop.instance, run, shop.job).success
    found = of(shop)
    assert ([one.whole.state for one in found.stages], found.runs, wrong(found)) == (["materialized"] * 3, [], [])


def forget(home: Path, run: str) -> None:
    """Of a run the materializations, as if they had never been sent; what it planned stays."""
    with closing(sqlite3.connect(home / "history" / "runs" / "index.db")) as database, database:
        words = "DELETE FROM event_logs WHERE run_id = ? AND dagster_event_type = 'ASSET_MATERIALIZATION'"
        assert database.execute(words, [run]).rowcount > 0


def test_what_is_at_work_has_lost_no_event_yet(shop: Shop, home: Path) -> None:
    """Between its commit and its event a run is alive."""
    seen: list[Status] = []

    def look(run: str) -> None:
        forget(home, run)
        seen.append(of(shop))

    shop.meanwhile = look
    run = shop.run(1)
    assert [one.whole.state for one in seen[0].stages] == ["materialized", "running", "queued"]
    assert ([(one.run, one.state) for one in seen[0].runs], wrong(seen[0])) == ([(run, "running")], [])
    assert wrong(of(shop)) == [("shop/a", "*", LOST)]


def test_stages_made_from_what_is_undone_are_stale_and_those_older_than_their_inputs_behind(shop: Shop) -> None:
    shop.run(1)
    assert owed(of(shop)) == []
    shop.run(2, "a")
    assert owed(of(shop)) == [("shop/b", "*", BEHIND, ("shop/a",))]
    shop.undo(shop.run(3), stage="shop/a")
    found = of(shop)
    assert owed(found) == [("shop/b", "*", STALE, ("shop/a",)), ("shop/c", "*", STALE, ("shop/b",))]
    assert (stages(found)["a"].whole.state, stages(found)["a"].whole.event.flags) == ("materialized", ("restored",))
    assert "shop/b is stale: made from what is undone of shop/a" in command("status").stdout


def test_a_stage_of_which_a_rollback_left_nothing_is_undone(shop: Shop) -> None:
    shop.undo(shop.run(1))
    found = of(shop)
    assert [(one.whole.state, one.whole.event.rows) for one in found.stages] == [("undone", 0)] * 3
    assert (wrong(found), owed(found)) == ([], [])


def test_a_rollback_that_is_open_is_named_with_what_ends_it(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    assert end(rollback("--undo", second, "--yes", crash="rollback:6")) == KILLED
    found = said("status")
    assert (found["rollback"]["state"], found["rollback"]["id"].isdecimal()) == ("restoring", True)
    assert f"is open (restoring); `pipeline-assets rollback --continue -m {SHOP}`" in command("status").stdout
    diagnosis = said("doctor")["findings"]
    errors = [(one["check"], one["mend"]) for one in diagnosis if one["severity"] == "error"]
    assert errors == [("rollback", f"pipeline-assets rollback --continue -m {SHOP}")]


def test_a_gathering_table_is_behind_when_a_day_came_after_it(instance: dg.DagsterInstance, tables: Location) -> None:
    job = gathering.definitions().resolve_job_def("days_job")
    job.execute_in_process(instance=instance, partition_key="day-0")
    gathering.definitions().resolve_job_def("rows_job").execute_in_process(instance=instance, partition_key="day-1")
    found = said("status", module=DAYS)
    rows, all_days, counted = found["stages"]
    assert rows["partitions"]["counts"]["materialized"] == 2
    assert (rows["partitions"]["counts"]["missing"], rows["rows"], rows["state"]) == (22, 2, "partial")
    assert [(one["why"], one["inputs"]) for one in all_days["owed"]] == [("behind", ["days/rows"])]
    assert (counted["owed"], counted["partitions"]) == ([], None)


def test_partitions_are_counted_and_the_first_bad_ones_named(instance: dg.DagsterInstance, tables: Location) -> None:
    parts = Parts(instance, io_manager())
    parts.run("x")
    parts.run("y")
    parts.broken = {"y"}
    failed = parts.run("y")
    parts.broken = set()
    parts.run("x", "first")
    found = stages(status(instance, parts.repository))
    counts = {name: {state: count for state, count in one.counts.items() if count} for name, one in found.items()}
    assert counts["first"] == {"materialized": 1, "failed": 1, "missing": 1}
    assert counts["second"] == {"materialized": 1, "not reached": 1, "missing": 1}
    assert [(one.partition, one.error, one.resume) for one in found["first"].bad] == [("y", "ValueError: no y", failed)]
    assert (found["first"].whole.state, found["first"].rows) == ("failed", 2)
    assert [(one.partition, one.why) for one in found["second"].owed] == [("x", BEHIND)]
    detailed = stages(status(instance, parts.repository, stage="parts/second"))["second"]
    versions = [(one.partition, one.state, one.event and one.event.checkpoint.version) for one in detailed.partitions]
    assert versions == [("x", "materialized", 0), ("y", "not reached", 1), ("z", "missing", None)]


def test_a_foreign_commit_is_told_of_the_partitions_that_it_touched(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    parts = Parts(instance, io_manager())
    parts.run("x")
    parts.run("y")
    frame = pl.DataFrame({"key": ["x"], "n": [7]})
    frame.write_delta(tables.child("parts", "first").uri, mode="append")
    assert wrong(status(instance, parts.repository)) == [("parts/first", "x", FOREIGN)]
    parts.run("x")
    assert wrong(status(instance, parts.repository)) == []


def test_a_partition_whose_event_was_lost_is_found_also_long_after(
    instance: dg.DagsterInstance, tables: Location, home: Path
) -> None:
    """It has no event at all, or only one from before."""
    parts = Parts(instance, io_manager())
    parts.run("x", "first")
    lost = parts.run("x", "first")
    deleted = parts.run("y", "first")
    assert wrong(status(instance, parts.repository)) == []
    table = DeltaTable(tables.child("parts", "first").uri)
    for _ in range(RECENT):
        table.alter.set_table_properties({"delta.checkpointInterval": "100"})
    forget(home, lost)
    instance.delete_run(deleted)
    assert wrong(status(instance, parts.repository)) == [("parts/first", "x", LOST), ("parts/first", "y", LOST)]


def test_our_query_says_what_dagsters_own_say(instance: dg.DagsterInstance, tables: Location) -> None:
    """Also of an asset that was wiped."""
    parts = Parts(instance, io_manager())
    parts.run("x", "first")
    instance.wipe_assets([dg.AssetKey(["parts", "first"])])
    parts.run("z")
    parts.broken = {"y"}
    parts.run("y")
    keys = [dg.AssetKey(["parts", name]) for name in ("first", "second")]
    kinds = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    found = newest_ids(instance, [one.asset_entry for one in instance.get_asset_records(keys)])
    for key in keys:
        asked = (instance.event_log_storage.get_latest_storage_id_by_partition(key, kind) for kind in kinds)
        assert found[key] == tuple(asked)
        assert [sorted(ids) for ids in found[key]] == [["z"], ["y", "z"]]


def test_integers_that_a_reader_of_json_may_round_are_strings() -> None:
    assert document({"n": 2**53, "more": [2**53 + 1, -(2**60)], "yes": True}) == (
        '{"n": 9007199254740992, "more": ["9007199254740993", "-1152921504606846976"], "yes": true}'
    )


def test_the_document_has_the_same_types_for_every_stage(instance: dg.DagsterInstance, tables: Location) -> None:
    gathering.definitions().resolve_job_def("days_job").execute_in_process(instance=instance, partition_key="day-0")
    text, number = (str, type(None)), (int, type(None))
    types = {"stage": str, "pipeline": str, "state": str, "version": number, "rows": number, "at": text, "chain": text}
    types |= {"run": text, "attempts": number, "error": text, "resume": text, "flags": list, "owed": list}
    types |= {"disagreements": list, "partition": text, "partitions": (dict, type(None))}  # type: ignore[dict-item]
    for one in said("status", module=DAYS)["stages"]:
        assert one.keys() == types.keys()
        assert all(isinstance(one[name], kind) for name, kind in types.items())


def test_a_partition_whose_commit_log_clean_up_took_is_judged_by_its_event(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    parts = Parts(instance, io_manager())
    parts.run("x", "first")
    parts.run("x", "second")
    parts.run("y")
    delta = DeltaTable(tables.child("parts", "second").uri)
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    DeltaTable(delta.table_uri).create_checkpoint()
    DeltaTable(delta.table_uri).cleanup_metadata()
    log_of.cache_clear()  # as another process finds it
    found = status(instance, parts.repository)
    assert (owed(found), wrong(found)) == ([], [])
    parts.run("x", "first")
    assert owed(status(instance, parts.repository)) == [("parts/second", "x", BEHIND, ("parts/first",))]


def test_on_a_terminal_it_is_a_table_in_colours(instance: dg.DagsterInstance, tables: Location) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", "from pipeline_assets.cli import main; main()", "status", "-m", STORY]
    child = subprocess.Popen(
        words, stdout=theirs, stderr=subprocess.PIPE, env={**children.environment(), "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 0, said.decode()
    assert b"story/orders" in shown
    assert b"\x1b[1mstage" in shown
