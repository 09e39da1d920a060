"""What the plan of a resume says, that no other than the agreed one is executed, and what is made again on demand."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from dagster._core.errors import DagsterExecutionInterruptedError

from pipeline_assets.chains import chain_of
from pipeline_assets.cli import cli
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.plan import AGAIN, FINISHED, LEFT, Kept, Plan
from pipeline_assets.recovery.resume import NotResumable, StalePlan, planned, resumable, resume
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.recovery.rolling import Shop, on_disk, shown, values

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch) -> Shop:
    found = Shop(instance, tables)
    offer(monkeypatch, module_of(tables), found.defs)
    return found


def offer(patch: pytest.MonkeyPatch, name: str, defs: dg.Definitions) -> None:
    """A code location that the command line can load, under a name of its own: Dagster remembers them."""
    location = ModuleType(name)
    location.defs = defs
    patch.setitem(sys.modules, name, location)


def offer_file(patch: pytest.MonkeyPatch, folder: Path, name: str, versioned: str) -> None:
    """One that the process that executes a run can load, too."""
    code = f"from {__name__} import Versioned\n\ndefs = {versioned}.defs\n"
    (folder / f"{name}.py").write_text(code)
    patch.setattr(sys, "path", [*sys.path, str(folder)])  # not the first: Dagster takes that away while it loads


def module_of(tables: Location) -> str:
    return f"resumed_of_{Path(tables.uri).parent.name}"


def command(tables: Location, *arguments: str) -> tuple[int, str, str]:
    """`pipeline-assets resume` in this process: its exit status, stdout, stderr."""
    done = CliRunner().invoke(cli, ["resume", *arguments, "-m", module_of(tables)])
    return done.exit_code, done.stdout, done.stderr


def plan_of(shop: Shop, run: str, **choices: Any) -> Plan:
    return planned(shop.instance, resumable(shop.instance, run, dry=True), shop.job, **choices)


def said(plan: Plan) -> list[tuple[str, str, str]]:
    return [(step.name.removeprefix("shop/"), step.state, step.why) for step in plan.steps]


def failed_at(shop: Shop, stage: str, value: int) -> str:
    shop.broken = stage
    run = shop.run(value)
    shop.broken = ""
    return run


def test_the_plan_says_of_each_stage_what_becomes_of_it_and_why(shop: Shop) -> None:
    shop.run(1)
    failed = failed_at(shop, "b", 2)
    before = everything(shop)
    status, out, _ = command(shop.tables, failed, "--dry-run")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("  finished  shop/a  version 1, made 20")
    assert [line.replace("less than", "about").split("  about")[0].rstrip() for line in lines[1:3]] == [
        "  run       shop/b  failed: ValueError: b",
        "  run       shop/c  not reached",
    ]
    assert lines[1].index(" s") == lines[2].index(" s")
    assert re.fullmatch(r"(Less than|About) \d+ s by earlier durations\. Nothing was changed\. Plan \w{16}\.", lines[3])
    document = json.loads(command(shop.tables, failed, "--dry-run", "--json")[1])
    assert document["plan"] == lines[3].split()[-1].rstrip(".")
    kept, left, _ = document["steps"]
    assert (kept["state"], kept["versions"], kept["why"], kept["seconds"]) == (FINISHED, {"shop/a": 1}, None, None)
    assert kept["made"].endswith("+00:00")
    assert (left["state"], left["why"], left["made"]) == (LEFT, "failed: ValueError: b", None)
    assert 0 < left["seconds"] < document["seconds"] < 60
    assert everything(shop) == before


def everything(shop: Shop) -> object:
    """What a resume could change: files, tables, runs with their status and tags, events."""
    runs = [(run.run_id, run.status, dict(run.tags)) for run in shop.instance.get_runs()]
    logged = [len(shop.instance.all_logs(run_id)) for run_id, _, _ in runs]
    events = [len(evidence.events(shop.instance, f"shop/{stage}")) for stage in "abc"]
    return on_disk(shop.tables), [shown(place) for place in shop.places()], runs, logged, events


def test_how_long_it_takes_is_not_guessed(shop: Shop) -> None:
    plan = plan_of(shop, failed_at(shop, "b", 1))
    assert [step.seconds for step in plan.steps] == [None, None, None]
    assert plan.seconds is None


def test_what_a_rollback_has_undone_is_said_to_be(shop: Shop) -> None:
    run = shop.run(1)
    shop.undo(run)
    plan = plan_of(shop, run)
    assert said(plan) == [(name, LEFT, "undone by a rollback") for name in "abc"]


def test_what_was_made_from_what_was_removed_is_made_again_as_well_as_a_chain_of_its_own(shop: Shop) -> None:
    shop.broken = "c"
    failed = shop.run(1)
    shop.broken = ""
    shutil.rmtree(shop.places()[0].uri)
    shop.tell(2)
    plan = plan_of(shop, failed)
    assert said(plan) == [
        ("a", LEFT, "its table was removed"),
        ("b", AGAIN, "follows from shop/a"),
        ("c", LEFT, "failed: ValueError: c"),
    ]
    assert plan.begins
    assert resume(shop.instance, failed, shop.job).success
    assert shop.values() == {"a": 2, "b": 2, "c": 2}


def test_what_was_removed_is_made_again_and_what_never_had_a_table_is_not(
    shop: Shop, instance: dg.DagsterInstance, tables: Location
) -> None:
    failed = failed_at(shop, "c", 1)
    shutil.rmtree(shop.places()[1].uri)
    assert said(plan_of(shop, failed)) == [
        ("a", FINISHED, ""),
        ("b", LEFT, "its table was removed"),
        ("c", LEFT, "failed: ValueError: c"),
    ]
    assert resume(instance, failed, shop.job).success
    assert shop.values() == {"a": 1, "b": 1, "c": 1}

    @dg.asset(key_prefix="code")
    def nothing() -> None: ...

    @dg.asset(key_prefix="code", deps=[nothing])
    def four() -> pl.DataFrame:
        raise ValueError

    defs = dg.Definitions([nothing, four], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(instance=instance, raise_on_error=False)
    assert [step.state for step in planned(instance, resumable(instance, run.run_id), job).steps] == [FINISHED, LEFT]


@pytest.mark.parametrize("asked", [True, False])
def test_what_was_interrupted_is_said_to_be(asked: bool, instance: dg.DagsterInstance, tables: Location) -> None:
    @dg.asset(key_prefix="code")
    def four(context: dg.AssetExecutionContext) -> pl.DataFrame:
        if asked:
            context.instance.report_run_canceling(context.run)
        raise DagsterExecutionInterruptedError

    job = dg.Definitions([four], resources={"io_manager": io_manager()}).resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(instance=instance, raise_on_error=False)
    plan = planned(instance, resumable(instance, run.run_id), job)
    assert [(step.state, step.why) for step in plan.steps] == [(LEFT, "cancelled" if asked else "interrupted")]


def test_what_a_check_refused_is_said_to_be(instance: dg.DagsterInstance, tables: Location) -> None:
    spec = dg.AssetCheckSpec("is_two", asset=["checked", "made"], blocking=True)

    @dg.asset(key_prefix="checked", check_specs=[spec])
    def made() -> Any:
        yield dg.Output(pl.DataFrame({"n": [1]}))
        yield dg.AssetCheckResult(passed=False)

    job = dg.Definitions([made], resources={"io_manager": io_manager()}).resolve_implicit_global_asset_job_def()
    failed = job.execute_in_process(instance=instance, raise_on_error=False)
    plan = planned(instance, resumable(instance, failed.run_id), job)
    assert [(step.state, step.why) for step in plan.steps] == [(LEFT, "its check is_two failed")]


def test_another_plan_than_the_agreed_one_is_refused_and_nothing_is_changed(shop: Shop) -> None:
    failed = failed_at(shop, "c", 1)
    plan = plan_of(shop, failed)
    assert plan_of(shop, failed).made_from == plan.made_from
    shop.undo(failed)
    before = everything(shop)
    status, out, why = command(shop.tables, failed, "--plan", plan.made_from)
    assert (status, out) == (3, "")
    now = plan_of(shop, failed).made_from
    assert f"The plan {plan.made_from} of run {failed} is stale" in why
    assert (
        f"the plan is {now} now. Nothing was changed; `pipeline-assets resume {failed} --dry-run -m {module_of(shop.tables)}`"
        in why
    )
    with pytest.raises(StalePlan):
        resume(shop.instance, failed, shop.job, agreed=plan)
    assert everything(shop) == before
    assert resume(shop.instance, failed, shop.job, agreed=now).plan.made_from == now
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_a_resume_that_failed_meanwhile_makes_a_plan_stale(shop: Shop) -> None:
    failed = failed_at(shop, "b", 1)
    plan = plan_of(shop, failed)
    shop.broken = "b"
    assert not resume(shop.instance, failed, shop.job).success
    with pytest.raises(StalePlan):
        resume(shop.instance, failed, shop.job, agreed=plan.made_from)


@pytest.mark.parametrize("choice", [["--last"], [UNKNOWN], ["{finished}"], ["{finished}", "--recompute", "changed"]])
def test_what_cannot_be_resumed_is_refused_by_name_and_nothing_is_changed(choice: list[str], shop: Shop) -> None:
    finished = shop.run(1)
    named = [one.format(finished=finished) for one in choice]
    for more in ([], ["--dry-run"]):
        before = everything(shop)
        status, out, why = command(shop.tables, *named, *more)
        assert (status, out) == (3, "")
        assert ("No run has failed" if named == ["--last"] else named[0]) in why
        assert everything(shop) == before


def test_a_run_that_is_at_work_or_continued_by_one_is_refused(shop: Shop) -> None:
    failed = failed_at(shop, "b", 1)
    refusals = []

    def while_at_work(run: str) -> None:
        for named in (run, failed):
            before = everything(shop)
            refusals.append(command(shop.tables, named))
            assert everything(shop) == before

    shop.meanwhile = while_at_work
    done = resume(shop.instance, failed, shop.job)
    assert done.success
    (first, _, at_work), (second, _, continued) = refusals
    assert (first, second) == (3, 3)
    assert f"Run {done.run_id} is STARTED. Nothing was changed" in at_work
    assert f"Run {failed} is continued by run {done.run_id} already, which is STARTED" in continued


class Versioned:
    """`one` → `two` → `three`, whose second raises while it is told to; code versions and configuration as one likes."""

    def __init__(self, **code: str | None) -> None:
        self.broken = False

        @dg.asset(key_prefix="code", code_version=code.get("one"))
        def one() -> pl.DataFrame:
            return pl.DataFrame({"n": [1]})

        @dg.asset(key_prefix="code", code_version=code.get("two"), config_schema={"by": dg.Field(int, default_value=1)})
        def two(context: dg.AssetExecutionContext, one: pl.DataFrame) -> pl.DataFrame:
            return one.with_columns(n=pl.col("n") * context.op_execution_context.op_config["by"])

        @dg.asset(key_prefix="code")
        def three(two: pl.DataFrame) -> pl.DataFrame:
            if self.broken:
                raise ValueError
            return two

        self.defs = dg.Definitions(
            [one, two, three],
            jobs=[dg.define_asset_job("code_job")],
            resources={"io_manager": io_manager()},
            executor=dg.in_process_executor,
        )
        self.job = self.defs.resolve_job_def("code_job")

    def fail(self, instance: dg.DagsterInstance) -> str:
        self.broken = True
        return self.job.execute_in_process(instance=instance, raise_on_error=False).run_id


def test_what_other_code_made_is_said_and_made_again_on_demand_as_a_chain_of_its_own(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = Versioned(one="1", two="1").fail(instance)
    offer_file(monkeypatch, tmp_path, module_of(tables), "Versioned(one='1', two='2')")
    status, out, why = command(tables, failed, "--dry-run")
    assert status == 0, why
    assert "Made by other code: code/two\n`--recompute changed` makes that" in out
    status, out, _ = command(tables, failed, "--dry-run", "--recompute", "changed", "--json")
    plan = json.loads(out)
    assert [(step["state"], step["why"]) for step in plan["steps"]] == [
        (FINISHED, None),
        (AGAIN, "made by other code"),
        (LEFT, "failed: ValueError"),
    ]
    assert plan["new_chain"]
    assert len(instance.get_runs()) == 1

    status, out, why = command(tables, failed, "--recompute", "changed", "--plan", plan["plan"], "--json")

    assert status == 0, why
    run = instance.get_run_by_id(json.loads(out)["run"])
    assert evidence.steps_of(instance, run.run_id) == ["code__two", "code__three"]
    assert (run.parent_run_id, chain_of(instance, run).runs) == (failed, (run.run_id,))
    written = {name: [chain for _, _, chain, _ in evidence.writes(tables.child("code", name))] for name in NAMES}
    assert written == {"one": [failed], "two": [failed, run.run_id], "three": [run.run_id]}
    evidence.all_lawful(instance, [tables.child("code", name) for name in NAMES])
    status, _, why = command(tables, failed)
    assert (status, f"answered by run {run.run_id}, which is SUCCESS" in why) == (3, True)


NAMES = ("one", "two", "three")


def test_of_code_without_a_version_nothing_is_said(instance: dg.DagsterInstance, tables: Location) -> None:
    failed = Versioned().fail(instance)
    new = Versioned()
    assert not any(step.changed for step in planned(instance, resumable(instance, failed), new.job).steps)


def test_another_configuration_is_taken_and_said(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed = Versioned().fail(instance)
    offer_file(monkeypatch, tmp_path, module_of(tables), "Versioned()")
    config = tmp_path / "config.yaml"
    config.write_text("ops: {code__two: {config: {by: 7}}}")
    _, out, _ = command(tables, failed, "--config", str(config), "--dry-run")
    assert "Made by other configuration: code/two" in out
    status, _, why = command(tables, failed, "--config", str(config), "--recompute", "changed")
    assert status == 0, why
    assert values(tables.child("code", "three"), "n") == [7]


@pytest.mark.parametrize("text", ["- a", "a: ["])
def test_a_file_that_is_no_configuration_is_refused(text: str, shop: Shop, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    status, _, why = command(shop.tables, failed_at(shop, "b", 1), "--config", str(config))
    assert (status, f"The file {config} holds no run configuration" in why) == (3, True)
    assert len(shop.instance.get_runs()) == 1


def test_a_stage_that_is_asked_for_is_made_again_with_what_follows(shop: Shop) -> None:
    shop.run(1)
    failed = failed_at(shop, "c", 2)
    with pytest.raises(NotResumable, match="has no stage shop/z; it has shop/a, shop/b, shop/c"):
        plan_of(shop, failed, recompute=["shop/z"])
    assert said(plan_of(shop, failed, recompute=["shop/a"])) == [
        ("a", AGAIN, "asked for"),
        ("b", AGAIN, "follows from shop/a"),
        ("c", LEFT, "failed: ValueError: c"),
    ]
    shop.tell(3)
    done = resume(shop.instance, failed, shop.job, recompute=["shop/a"])
    assert done.success
    assert shop.values() == {"a": 3, "b": 3, "c": 3}


def test_of_a_chain_that_a_newer_one_has_overtaken_the_plan_says_what_will_stay(shop: Shop) -> None:
    failed = failed_at(shop, "b", 1)
    newer = shop.run(2)
    plan = plan_of(shop, failed)
    told = {step.name: step.keeps for step in plan.steps}
    assert told == {
        "shop/a": (),
        "shop/b": (Kept("shop/b", "*", 0, newer),),
        "shop/c": (Kept("shop/c", "*", 0, newer),),
    }
    _, out, _ = command(shop.tables, failed, "--dry-run")
    assert f"    shop/b: version 0, of run {newer}, will stay" in out
    done = resume(shop.instance, failed, shop.job, agreed=plan)
    assert done.success
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
    assert [len(evidence.writes(place)) for place in shop.places()] == [2, 1, 1]


def test_what_an_older_chain_made_or_a_rollback_took_away_will_not_stay(shop: Shop) -> None:
    shop.run(1)
    failed = failed_at(shop, "b", 2)
    newer = shop.run(3)
    shop.undo(newer)
    assert [step.keeps for step in plan_of(shop, failed).steps] == [(), (), ()]
    assert resume(shop.instance, failed, shop.job).success
    assert shop.values() == {"a": 2, "b": 2, "c": 2}


def test_nor_will_what_was_made_from_something_undone(shop: Shop) -> None:
    """Though that was newer than what the chain itself reads."""
    failed = failed_at(shop, "b", 2)
    newer = shop.run(3)
    shop.run(4, "a")
    shop.undo(newer, stage="shop/a")
    assert [step.keeps for step in plan_of(shop, failed).steps] == [(), (), ()]
    assert resume(shop.instance, failed, shop.job).success
    assert shop.values() == {"a": 4, "b": 2, "c": 2}
