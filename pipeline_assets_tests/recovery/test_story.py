"""The story that the product exists for: the third of four stages dies, is mended, and only what is left is run."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.resume import NotResumable, resume
from pipeline_assets_tests.recovery import children, evidence, story

MODULE = "pipeline_assets_tests.recovery.story"
THIRD_AND_FOURTH = ["story__by_customer", "story__report"]


def of(tables: Location) -> dict[str, Location]:
    return {stage: tables.child("story", stage) for stage in story.STAGES}


def foreign_write(table: Location) -> None:
    """Somebody puts other rows into a table, with delta-rs."""
    odd = evidence.rows(table).head(3).with_columns(order=pl.lit(10**6, pl.Int64))
    odd.write_delta(table.uri, mode="overwrite", delta_write_options={"predicate": "true"})


def break_it() -> None:
    story.switch().touch()


def mend_it() -> None:
    story.switch().unlink()


def by_execute_in_process(instance: dg.DagsterInstance) -> str:
    return story.job().execute_in_process(instance=instance, raise_on_error=False).run_id


def by_materialize(instance: dg.DagsterInstance) -> str:
    resources = {"io_manager": story.io_manager()}
    return dg.materialize(story.ASSETS, instance=instance, resources=resources, raise_on_error=False).run_id


def is_as_if_it_never_failed(
    instance: dg.DagsterInstance, tables: Location, never_failed: Location, stages: tuple[str, ...]
) -> None:
    for stage in stages:
        evidence.same_rows(of(tables)[stage], never_failed.child(stage))
    evidence.all_lawful(instance, of(tables).values())


@pytest.mark.parametrize("interfere", [False, True], ids=["alone", "foreign write in between"])
@pytest.mark.parametrize("launch", [by_execute_in_process, by_materialize])
def test_after_an_exception_only_what_is_left_is_run(
    launch: Callable[[dg.DagsterInstance], str],
    interfere: bool,
    instance: dg.DagsterInstance,
    tables: Location,
    never_failed: Location,
) -> None:
    break_it()
    failed = launch(instance)
    assert instance.get_run_by_id(failed).is_failure
    before = {stage: evidence.writes(of(tables)[stage]) for stage in ("orders", "priced")}
    if interfere:
        foreign_write(of(tables)["orders"])
        foreign_write(of(tables)["priced"])
    mend_it()

    done = resume(instance, failed, story.job())

    assert done.success
    assert evidence.steps_of(instance, done.run_id) == THIRD_AND_FOURTH
    assert {stage: evidence.writes(of(tables)[stage]) for stage in before} == before
    stages = story.STAGES[2:] if interfere else story.STAGES
    is_as_if_it_never_failed(instance, tables, never_failed, stages)


def test_a_stage_that_is_still_broken_fails_again_and_can_be_resumed_again(
    instance: dg.DagsterInstance, tables: Location, never_failed: Location
) -> None:
    break_it()
    failed = by_execute_in_process(instance)
    again = resume(instance, failed, story.job())
    assert not again.success
    mend_it()

    done = resume(instance, failed, story.job())

    assert done.success
    assert done.plan.run.run_id == again.run_id, "the chain goes on from its newest run"
    assert evidence.steps_of(instance, done.run_id) == THIRD_AND_FOURTH
    is_as_if_it_never_failed(instance, tables, never_failed, story.STAGES)


@pytest.mark.parametrize("point", ["before_write", "after_commit"])
def test_by_command_line_after_an_exception_and_a_sigkill(
    point: str, instance: dg.DagsterInstance, tables: Location, never_failed: Location
) -> None:
    break_it()
    first = children.run(children.materialize(MODULE))
    assert first.returncode == 1
    assert "Broken" in first.stderr
    before = {stage: evidence.version(of(tables)[stage]) for stage in ("orders", "priced")}
    mend_it()

    killed = children.start(
        ["-c", "from pipeline_assets.cli import main; main()", "resume", "--last", "-m", MODULE],
        children.crash_at(point, "story/by_customer"),
    )
    ended = children.end(killed)
    assert ended.returncode == 1
    assert "why       Its process was killed by SIGKILL.\n" in ended.stderr
    foreign_write(of(tables)["orders"])
    done = children.pipeline_assets("resume", "--last", "--json", "-m", MODULE)

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["success"]
    states = {step["step"]: step["state"] for step in said["steps"]}
    assert states["story__orders"] == states["story__priced"] == "finished"
    third = "committed" if point == "after_commit" else "left"
    assert (states["story__by_customer"], states["story__report"]) == (third, "left")
    after = {stage: evidence.version(of(tables)[stage]) for stage in before}
    assert after == {**before, "orders": before["orders"] + 1}
    is_as_if_it_never_failed(instance, tables, never_failed, story.STAGES[1:])


def test_what_the_resume_says_to_people(instance: dg.DagsterInstance, tables: Location) -> None:
    killed = children.run(children.materialize(MODULE), children.crash_at("before_write", "story/by_customer"))
    assert killed.returncode == children.KILLED
    done = children.pipeline_assets("resume", "--last", "-m", MODULE)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        "  finished story/orders \\(version 0\\)\n"
        "  finished story/priced \\(version 0\\)\n"
        "  run      story/by_customer \\(killed\\)\n"
        "  run      story/report \\(not reached\\)\n"
        "Run [-0-9a-f]{36} of __ASSET_JOB is continued by run ([-0-9a-f]{36}).\n"
        "story/by_customer begins\n"
        "story/by_customer done after [0-9.]+ s: .* rows, version 0\n"
        "story/report begins\n"
        "story/report done after [0-9.]+ s: 1 rows, version 0\n"
        "Done, by run \\1.\n",
        done.stdout,
    )


def test_a_resume_that_fails_again_ends_with_1_and_names_the_next_command(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    break_it()
    by_execute_in_process(instance)
    done = children.pipeline_assets("resume", "--last", "-m", MODULE)
    assert done.returncode == 1
    run = instance.get_runs()[0].run_id
    assert f"continued by run {run}.\nstory/by_customer begins\nstory/by_customer failed after" in done.stdout
    assert done.stderr.endswith(f"continue  pipeline-assets resume {run} -m {MODULE}\n")


def refused(*arguments: str) -> str:
    """The text of a refusal, which must be the same thing as JSON."""
    plain = children.pipeline_assets(*arguments, "-m", MODULE)
    as_json = children.pipeline_assets(*arguments, "-m", MODULE, "--json")
    assert (plain.returncode, as_json.returncode) == (3, 3), plain.stderr
    assert plain.stdout == ""
    text = plain.stderr.removeprefix("Refused: ").strip()
    assert json.loads(as_json.stdout)["why"] == text
    return text


def test_a_run_that_is_unknown_or_finished_is_refused_by_name(instance: dg.DagsterInstance, tables: Location) -> None:
    assert "No run has failed" in refused("resume", "--last")
    unknown = "00000000-0000-4000-8000-000000000000"
    assert unknown in refused("resume", unknown)
    finished = by_execute_in_process(instance)
    versions = [evidence.version(table) for table in of(tables).values()]
    text = refused("resume", finished)
    assert finished in text
    assert "has succeeded" in text
    assert [evidence.version(table) for table in of(tables).values()] == versions


def test_a_run_that_is_at_work_is_refused(instance: dg.DagsterInstance, tables: Location) -> None:
    """The pid of its events is this process's, which is alive."""
    refusals = []

    def while_at_work(context: dg.HookContext) -> None:
        with pytest.raises(NotResumable, match=f"Run {context.run_id} is STARTED") as refusal:
            resume(instance, context.run_id, story.job())
        refusals.append(refusal)

    hook = dg.success_hook(required_resource_keys=set())(while_at_work)
    job = dg.Definitions(
        story.ASSETS,
        jobs=[dg.define_asset_job("story_job", hooks={hook})],
        resources={"io_manager": story.io_manager()},
    ).resolve_job_def("story_job")
    assert job.execute_in_process(instance=instance).success
    assert len(refusals) == 4


@pytest.mark.parametrize(
    "arguments", [["resume"], ["resume", "a", "--last"], ["resume", "--lost"], ["rezume"], ["adopt"]]
)
def test_wrong_usage_ends_with_2_and_a_hint(arguments: list[str], home: Path) -> None:
    done = children.pipeline_assets(*arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(home) == ["dagster.yaml"] or "history" in os.listdir(home)
