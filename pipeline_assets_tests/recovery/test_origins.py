"""Runs of every origin and kind are continued, or refused by name; and what cannot be told from here is not guessed."""

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipeline_assets import processes
from pipeline_assets.delta.location import Location
from pipeline_assets.processes import PLACE_TAG
from pipeline_assets.recovery.resume import NotResumable, last_run, left_runs, resumable, resume
from pipeline_assets_tests.recovery import children, evidence, locations, story
from pipeline_assets_tests.recovery.test_story import break_it, by_materialize, mend_it

MODULE = locations.__name__


def job(name: str) -> dg.JobDefinition:
    """With tables where the environment says now."""
    defs = dg.Definitions(
        locations.defs.assets,
        jobs=list(locations.defs.jobs or ()),
        resources={**(locations.defs.resources or {}), "io_manager": locations.io_manager()},
        executor=dg.in_process_executor,
    )
    return defs.resolve_job_def(name)


def broken_run(instance: dg.DagsterInstance, of: dg.JobDefinition, **how: Any) -> str:
    break_it()
    run = of.execute_in_process(instance=instance, raise_on_error=False, **how)
    mend_it()
    assert not run.success
    return run.run_id


def test_a_run_of_dg_materialize_is_continued_from_the_command_line(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    break_it()
    by_materialize(instance)
    mend_it()
    done = children.pipeline_assets("resume", "--last", "-m", story.__name__)
    assert done.returncode == 0, done.stderr
    assert evidence.steps_of(instance, instance.get_runs()[0].run_id) == ["story__by_customer", "story__report"]


def test_what_a_blocking_check_refused_is_made_again_and_not_kept(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """The checkpoint is the chain's own, from the same inputs, and live: but it does not count."""
    value = [1]

    @dg.asset(key_prefix="checked")
    def source() -> pl.DataFrame:
        return pl.DataFrame({"n": [0]})

    spec = dg.AssetCheckSpec("is_two", asset=["checked", "made"], blocking=True)

    @dg.asset(key_prefix="checked", check_specs=[spec])
    def made(source: pl.DataFrame) -> Any:
        yield dg.Output(source.with_columns(n=pl.lit(value[0])))
        yield dg.AssetCheckResult(passed=value[0] == 2)

    @dg.asset(key_prefix="checked")
    def after(made: pl.DataFrame) -> pl.DataFrame:
        return made

    chosen = dg.define_asset_job("checked", selection=dg.AssetSelection.all())
    defs = dg.Definitions([source, made, after], jobs=[chosen], resources={"io_manager": locations.io_manager()})
    of = defs.resolve_job_def("checked")  # with Dagster's own executor: resumed in this process all the same
    failed = of.execute_in_process(instance=instance, raise_on_error=False)
    assert not failed.success
    value[0] = 2
    assert resume(instance, failed.run_id, of).success
    for name in ("made", "after"):
        assert evidence.rows(tables.child("checked", name))["n"].to_list() == [2]


def test_a_range_of_dynamic_partitions_is_continued(instance: dg.DagsterInstance, tables: Location) -> None:
    instance.add_dynamic_partitions("shops", ["a", "b", "c"])
    window = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    failed = broken_run(instance, job("shops_job"), tags=window)
    done = resume(instance, failed, job("shops_job"))
    assert done.success
    assert evidence.steps_of(instance, str(done.run_id)) == ["many__counted"]
    assert evidence.rows(tables.child("many", "counted"))["shop"].to_list() == ["a", "b", "c"]


def test_a_job_with_loggers_of_its_own_is_continued_by_the_command(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    broken_run(instance, job("logging_job"))
    done = children.pipeline_assets("resume", "--last", "-m", MODULE)
    assert done.returncode == 0, done.stderr


def test_of_a_dynamic_graph_only_the_mapped_steps_that_are_left_are_run(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    failed = broken_run(instance, job("dynamic_job"))
    done = resume(instance, failed, job("dynamic_job"))
    assert done.success
    assert evidence.steps_of(instance, str(done.run_id)) == ["mapped[k1]", "collected"]


def test_what_stages_print_is_not_on_stdout_beside_the_document(instance: dg.DagsterInstance, tables: Location) -> None:
    instance.add_dynamic_partitions("shops", ["a"])
    crash = children.crash_at("before_write", "many/shops")
    tags = ["--tags", '{"dagster/partition": "a"}']
    killed = children.run(["-m", "dagster", "job", "execute", "-m", MODULE, "-j", "shops_job", *tags], crash)
    assert killed.returncode == children.KILLED, killed.stderr
    done = children.pipeline_assets("resume", "--last", "--json", "-m", MODULE)
    assert json.loads(done.stdout)["success"], done.stderr
    assert "printed by a stage" in done.stderr


def test_a_dry_run_changes_nothing(instance: dg.DagsterInstance, tables: Location) -> None:
    killed = children.run(children.materialize(story.__name__), children.crash_at("after_commit", "story/priced"))
    assert killed.returncode == children.KILLED
    before = instance.get_runs()[0].status, len(evidence.events(instance, "story/priced"))
    done = children.pipeline_assets("resume", "--last", "--dry-run", "-m", story.__name__)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"  adopted   story/priced +version 0, made .*\n  run       story/by_customer  not reached", done.stdout
    )
    assert (instance.get_runs()[0].status, len(evidence.events(instance, "story/priced"))) == before
    assert len(instance.get_runs()) == 1


def test_the_last_run_is_one_that_nobody_has_continued(instance: dg.DagsterInstance, tables: Location) -> None:
    older, newer = (broken_run(instance, story.job()) for _ in range(2))
    assert resume(instance, newer, story.job()).success
    assert last_run(instance).run_id == older
    assert resume(instance, older, story.job()).success
    assert list(left_runs(instance)) == []


def test_other_runs_that_are_left_are_named_with_their_command(instance: dg.DagsterInstance, tables: Location) -> None:
    older, _ = (broken_run(instance, story.job()) for _ in range(2))
    done = children.pipeline_assets("resume", "--last", "-m", story.__name__)
    assert f"Also left: a run of story_job; `pipeline-assets resume {older} -m {story.__name__}`" in done.stderr


def test_a_stage_that_the_code_location_has_no_more_is_refused(instance: dg.DagsterInstance, tables: Location) -> None:
    failed = broken_run(instance, story.job())
    rest = dg.Definitions(
        story.ASSETS[:3],
        jobs=[dg.define_asset_job("story_job", selection=dg.AssetSelection.all())],
        resources={"io_manager": locations.io_manager()},
    )
    with pytest.raises(NotResumable, match="planned story__report, which the code location has no more"):
        resume(instance, failed, rest.resolve_job_def("story_job"))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("no_such_module", "cannot be loaded"),
        (f"{children.__name__}", "cannot be loaded"),
        (MODULE, "has no job story_job"),
    ],
)
def test_a_code_location_that_is_not_the_run_s_is_refused(
    module: str, said: str, instance: dg.DagsterInstance, tables: Location
) -> None:
    broken_run(instance, story.job())
    done = children.pipeline_assets("resume", "--last", "-m", module)
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(instance.get_runs()) == 1


def test_without_a_code_location_the_command_asks_for_one(instance: dg.DagsterInstance, tables: Location) -> None:
    broken_run(instance, story.job())
    done = children.pipeline_assets("resume", "--last")
    assert done.returncode == 3
    assert "name it with -m MODULE" in done.stderr


def test_without_a_home_the_command_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))  # where the child is started
    done = children.pipeline_assets("resume", "--last", more={"DAGSTER_HOME": ""})
    assert done.returncode == 3
    assert "DAGSTER_HOME is not set" in done.stderr
    assert os.listdir(tmp_path) == []


def a_run_of(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, place: str = "", parent: str | None = None
) -> dg.DagsterRun:
    """A run that got so far, and whose process left no trace; place: as its tag has it, `{run}` for its id."""
    run_id = str(uuid.uuid4())
    tags = ("dagster/parent_run_id", "dagster/root_run_id", "pipeline_assets/continues")
    parents = dict.fromkeys(tags, parent) if parent else {}
    return instance.create_run_for_job(
        story.job(),
        run_id=run_id,
        status=status,
        tags={PLACE_TAG: place.format(run=run_id), **parents},
        parent_run_id=parent,
        root_run_id=parent,
    )


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_run_that_died_before_it_named_its_process_can_be_resumed_a_little_later(
    status: dg.DagsterRunStatus, instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run_of(instance, status)
    with pytest.raises(NotResumable, match=f"is {status.value}"):
        resumable(instance, run.run_id)
    monkeypatch.setattr(processes, "PATIENCE_SECONDS", -1.0)
    assert resume(instance, run.run_id, story.job()).success


def test_a_resume_that_died_before_its_run_began_is_seen_at_once(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    failed = broken_run(instance, story.job())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    place = processes.place_tag("{run}")[PLACE_TAG].replace(f" {os.getpid()}", f" {dead.pid}")
    child = a_run_of(instance, dg.DagsterRunStatus.NOT_STARTED, place, parent=failed)
    assert last_run(instance).run_id == child.run_id
    done = resume(instance, failed, story.job())
    assert done.success
    assert done.plan.run.run_id == child.run_id


def test_a_run_on_another_host_is_not_taken_for_dead(instance: dg.DagsterInstance, tables: Location) -> None:
    run = a_run_of(instance, dg.DagsterRunStatus.STARTED, "{run} elsewhere 11-22 pid:[33] 44")
    with pytest.raises(NotResumable, match=f"on host elsewhere.*resume {run.run_id} --gone"):
        resumable(instance, run.run_id)
    assert resumable(instance, run.run_id, gone=True).is_failure


def test_a_run_of_before_this_host_was_restarted_is_gone(instance: dg.DagsterInstance, tables: Location) -> None:
    place = f"{{run}} {processes.here().host} another-boot pid:[33] 44"
    run = a_run_of(instance, dg.DagsterRunStatus.STARTED, place)
    assert resumable(instance, run.run_id).is_failure


def test_a_run_whose_parent_was_deleted_is_refused(instance: dg.DagsterInstance, tables: Location) -> None:
    failed = broken_run(instance, story.job())
    break_it()
    child = resume(instance, failed, story.job())
    mend_it()
    instance.delete_run(failed)
    with pytest.raises(NotResumable, match="was deleted"):
        resume(instance, str(child.run_id), story.job())


def test_a_fault_point_that_there_is_not_is_refused(instance: dg.DagsterInstance, tables: Location) -> None:
    done = children.run(children.materialize(story.__name__), {"PIPELINE_ASSETS_CRASH": "after_comit:story/orders"})
    assert done.returncode == 1
    assert "names no fault point; there are before_compute" in done.stderr


def test_a_run_that_this_host_sees_alive_is_not_gone_by_anybodys_word(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    run = a_run_of(instance, dg.DagsterRunStatus.STARTED, processes.place_tag("{run}")[PLACE_TAG])
    with pytest.raises(NotResumable, match="wait for its end"):
        resumable(instance, run.run_id, gone=True)
    assert not instance.get_run_by_id(run.run_id).is_finished
