"""`pipeline-assets rollback`: undo a run, or go back to one."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
from dagster import DagsterInstance, JobDefinition

from pipeline_assets.cli.completion import runs, stages
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.refusals import DONE, FAILED, printing_to_stderr, refusing
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.restorable import ChangedUnderHold
from pipeline_assets.errors import PermanentError, describe
from pipeline_assets.policy.commands import located, named_by
from pipeline_assets.recovery.code_location import ANY_ASSETS
from pipeline_assets.recovery.failure_report import FailureReport, report_of
from pipeline_assets.recovery.refresh import Refreshed, owing
from pipeline_assets.recovery.rollback import RolledBack, continue_, open_rollback, roll_back
from pipeline_assets.recovery.rollback_plan import TO, UNDO, Asked, Plan
from pipeline_assets.recovery.rollback_planning import plan_of
from pipeline_assets.recovery.rollback_store import Store, not_at_its_end
from pipeline_assets.recovery.rollback_targets import LIVE, NEVER
from pipeline_assets.recovery.rollback_words import becomes, is_owed
from pipeline_assets.recovery.tables import outputs_of, roots_of


class NotConfirmed(PermanentError):
    """A plan to which nobody has said yes; nothing was changed."""


@click.command("rollback")
@click.option(
    "--undo",
    metavar="RUN",
    shell_complete=runs,
    help="What the run (its chain) wrote goes back to what was there before.",
)
@click.option(
    "--to",
    metavar="RUN",
    shell_complete=runs,
    help="Every table of the pipeline goes back to what it was when the run ended.",
)
@click.option("--continue", "go_on", is_flag=True, help="Ends the rollback that a crash has left open.")
@click.option("--stage", help="Only this stage, as flights/legs.", shell_complete=stages)
@click.option("--partition", help="Only this partition.")
@click.option("--refresh", "refreshing", is_flag=True, help="Make again what is owed then, in order.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--gone", is_flag=True, help="The run's process is gone, though that cannot be told from this host.")
@click.option(
    "--overwrite", is_flag=True, help="With --continue: what others wrote may go, lost targets become nothing."
)
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def rollback_command(
    undo: str | None,
    to: str | None,
    go_on: bool,
    stage: str | None,
    partition: str | None,
    refreshing: bool,
    dry_run: bool,
    yes: bool,
    gone: bool,
    overwrite: bool,
    module: str | None,
    as_json: bool,
) -> int:
    """Undo a run, or go back to one: all its tables, or none.

    Prints what becomes of each stage and partition, asks, does it, and lists what is to be made again.
    """
    forms = [bool(undo), bool(to), go_on].count(True)
    owed_only = refreshing and forms == 0 and not (stage or partition or dry_run or gone)
    if forms != 1 and not owed_only:
        raise click.UsageError("Say one of --undo RUN, --to RUN, --continue; or --refresh alone, to make what is owed.")
    if go_on and (stage or partition or dry_run or gone):
        raise click.UsageError("--continue ends what was begun, as it was planned; it takes no other choice.")
    if overwrite and not go_on:
        raise click.UsageError("--overwrite goes with --continue.")
    asked = Asked(UNDO if undo else TO, str(undo or to), stage, partition, gone)
    with instance() as opened:
        said = Saying(opened, module, refreshing, as_json)
        try:
            if owed_only:
                return _make_owed(said)
            if go_on:
                return _continue(said, overwrite=overwrite)
            return _roll_back(said, asked, dry_run=dry_run, yes=yes)
        except ChangedUnderHold as error:  # not refused: some tables may be back
            why = located(str(error), module)
            click.echo(json.dumps({"stopped": why}) if as_json else f"Stopped: {why}", err=not as_json)
            return FAILED


@dataclass(frozen=True)
class Saying:
    """Where a command is, and how it speaks."""

    opened: DagsterInstance
    module: str | None
    refreshing: bool
    as_json: bool

    printed: list[bytes] = field(default_factory=list)
    """What the processes of a refresh have printed."""

    @contextmanager
    def working(self) -> Iterator[CodeLocation]:
        """While something is done; what stages print goes to stderr where stdout is a document's."""
        with printing_to_stderr(self.as_json):
            yield CodeLocation(self.module)

    def job_of(self, location: CodeLocation, run_id: str) -> JobDefinition:
        """The job of a run; of one that is not there any asset's."""
        run = self.opened.get_run_by_id(run_id)
        return location.job(run.job_name if run is not None else ANY_ASSETS).get_definition()


def _roll_back(said: Saying, asked: Asked, *, dry_run: bool, yes: bool) -> int:
    with said.working() as location:
        job = said.job_of(location, asked.run)
        plan = plan_of(said.opened, job, asked)
    if not said.as_json:
        click.echo("\n".join(_lines(plan)))
    if dry_run:
        click.echo(json.dumps({"rollback": None, "plan": _document(plan)}) if said.as_json else "Nothing was changed.")
        return DONE
    if not yes:
        _ask(as_json=said.as_json)
    with said.working():
        done = roll_back(said.opened, job, asked, plan)
    return _owing(said, done)


def _continue(said: Saying, *, overwrite: bool) -> int:
    with said.working() as location:
        job = location.job(ANY_ASSETS).get_definition()
        stored = open_rollback(said.opened, job)
        if stored is not None:
            job = said.job_of(location, Plan.of_json(stored.plan).asked.run)
        done = continue_(said.opened, job, overwrite=overwrite)
    return _owing(said, done)


def _ask(*, as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise NotConfirmed(
            "Nobody is there to be asked, so nothing was changed; say --yes, or --dry-run to see the plan."
        )
    if not click.confirm("Roll back?", err=True):
        raise NotConfirmed("Nothing was changed.")


def _make_owed(said: Saying) -> int:
    """Make what earlier rollbacks have left to be made again."""
    with said.working() as location:
        job = location.job(ANY_ASSETS)
        outputs = outputs_of(said.opened, job.get_definition())
        found = [Store(root).read() for root in roots_of(outputs.values())]
        still_open = next((one.open for one in found if one.open is not None), None)
        if still_open is not None:
            raise not_at_its_end(still_open)
        newest = max((number for one in found for number in one.plans), default=0)
        made = owing(said.opened, job, newest, outputs, make=True, output=said.printed.append)
    return _say_owed(said, made, {})


def _owing(said: Saying, done: RolledBack) -> int:
    """Say what is owed, in all of the code location, or make it."""
    stages = [one.stage for one in done.plan.tables]
    if not said.as_json:
        replaced = not any(entry.state == LIVE for one in done.plan.tables for entry in one.entries)
        rows = ": other runs had replaced all of it, so no rows were changed" if replaced else ""
        click.echo(f"Done, by rollback {done.id}{rows}.")
    with said.working() as location:
        job, printed = location.job(ANY_ASSETS), said.printed.append
        made = owing(said.opened, job, done.id, stages, make=said.refreshing, output=printed)
    return _say_owed(said, made, {"rollback": str(done.id), "plan": _document(done.plan)})


def _say_owed(said: Saying, made: Refreshed, document: Mapping[str, Any]) -> int:
    report = None if made.success else _report(said, made)
    if report is not None and not report.stages:  # what stages print, and their failures' traces, are in the run's logs
        sys.stderr.buffer.write(b"".join(said.printed))
        sys.stderr.flush()
    if said.as_json:
        left = [{**one.__dict__, "partition": None if one.partition == WHOLE else one.partition} for one in made.left]
        failure = {"failure": report.as_json()} if report is not None else {}
        refused = {"not_made": located(made.refused, said.module)} if made.refused else {}
        click.echo(json.dumps({**document, "runs": list(made.runs), "owed": left, **failure, **refused}))
        return DONE if made.success else FAILED
    for run in made.runs if made.success or made.refused else made.runs[:-1]:
        click.echo(f"Made again by run {run}.")
    if made.left:
        click.echo("To be made again:")
        click.echo("\n".join(f"  {is_owed(one, said.module)}" for one in made.left))
        click.echo(f"`pipeline-assets rollback --refresh{named_by(said.module)}` makes it.")
    elif said.refreshing and not made.runs:
        click.echo("Nothing is owed.")
    for line in report.lines() if report is not None else ():
        click.echo(line, err=True)
    if made.refused:
        click.echo(f"Not made again: {located(made.refused, said.module)}", err=True)
    return DONE if made.success else FAILED


def _report(said: Saying, made: Refreshed) -> FailureReport | None:
    """Of the run that failed while what is owed was made."""
    run = said.opened.get_run_by_id(made.runs[-1]) if made.runs and not made.refused else None
    if run is None:
        return None
    with said.working() as location:
        return report_of(said.opened, run, location.job(run.job_name), said.module)


def _lines(plan: Plan) -> list[str]:
    named = [(describe(one.stage, entry.partition), entry) for one in plan.tables for entry in one.entries]
    width = max((len(name) for name, _ in named), default=0)
    return [f"  {name:<{width}}  {becomes(entry)}" for name, entry in named if entry.state != NEVER]


def _document(plan: Plan) -> dict[str, Any]:
    entries = [
        {
            "stage": one.stage,
            "partition": None if entry.partition == WHOLE else entry.partition,
            "state": entry.state,
            "version": entry.version,
            "back_to": entry.back_to,
            "of": entry.part.chain if entry.part is not None else None,
            "undoes": list(entry.chains),
        }
        for one in plan.tables
        for entry in one.entries
    ]
    return {"form": plan.asked.form, "run": plan.asked.run, "chains": sorted(plan.fences), "entries": entries}
