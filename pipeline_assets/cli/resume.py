"""`pipeline-assets resume`: continue a run chain at the failed stage."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import click
from dagster import DagsterInstance, DagsterRun
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.cli.completion import runs
from pipeline_assets.cli.configuration import run_configuration
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.progress import Shown, shown
from pipeline_assets.cli.refusals import DONE, FAILED, printing_to_stderr, refusing
from pipeline_assets.cli.resume_text import begun_lines, document_of, plan_lines
from pipeline_assets.cli.supervised import Ended, look_after
from pipeline_assets.errors import describe
from pipeline_assets.policy.commands import to_resume
from pipeline_assets.recovery.code_location import QUIET
from pipeline_assets.recovery.plan import NotResumable
from pipeline_assets.recovery.recovering import job_name_of, undone_since
from pipeline_assets.recovery.resume import Continued, created, last_run, left_runs, planned, resumable
from pipeline_assets.recovery.supervising import Child, Stop, ahead

MOST = 3
"""How many other runs are named."""


@click.command("resume")
@click.argument("run", required=False, shell_complete=runs)
@click.option("--last", is_flag=True, help="The newest run that has not ended well and that nobody has continued.")
@click.option("--dry-run", is_flag=True, help="Only say what would be run, why, and how long that takes.")
@click.option("--plan", "agreed", metavar="ID", help="Only if the plan is still the one that --dry-run named so.")
@click.option(
    "--recompute",
    metavar="changed|STAGE",
    multiple=True,
    help="Make this finished stage again (`changed`: those made by other code or configuration), and what follows.",
)
@click.option(
    "--config", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Another run configuration."
)
@click.option("--gone", is_flag=True, help="The run's process is gone, though that cannot be told from this host.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def resume_command(
    run: str | None,
    last: bool,
    dry_run: bool,
    agreed: str | None,
    recompute: tuple[str, ...],
    config: str | None,
    gone: bool,
    module: str | None,
    as_json: bool,
) -> int:
    """Continue the run chain of RUN: finished stages are not run again, what was committed is adopted.

    Marks RUN failed if its process is gone. The stages that are left run as the code location's executor says, in a process
    of its own that is looked after, as with `run`.
    """
    if bool(run) == last:
        raise click.UsageError("Name a RUN, or say --last.")
    chosen: dict[str, Any] = {"recompute": recompute, "config": run_configuration(config)}
    with instance() as opened:
        with printing_to_stderr(as_json), shown(as_json=as_json) as screen, _ahead(screen, wanted=not dry_run) as child:
            location = CodeLocation(module)
            asked = _last(opened, location) if last else str(run)
            found = resumable(opened, asked, gone=gone, dry=True)
            job = location.job(found.job_name)
            if child is None:
                plan, ended = planned(opened, found, job, **chosen), None
            else:
                continued = created(opened, found.run_id, job, QUIET, agreed=agreed, gone=gone, **chosen)
                plan, ended = continued.plan, _executed(opened, location, module, continued, screen, child)
        if as_json:
            nothing = {"run": None, "success": True}
            click.echo(json.dumps({**document_of(plan), **(ended.as_json() if ended else nothing)}))
        elif dry_run:
            click.echo("\n".join(plan_lines(plan)))
        else:
            _name_others(opened, location, {found.run_id, *(ended.runs if ended else ())}, module)
    return DONE if ended is None or ended.run.is_success else FAILED


def _ahead(screen: Shown, *, wanted: bool) -> AbstractContextManager[Child | None]:
    return ahead(screen.printed) if wanted else nullcontext()


def _left(opened: DagsterInstance, location: CodeLocation) -> Iterator[DagsterRun]:
    """Runs that somebody may want to continue; what was rolled back since is made again only by a run's id."""
    for run in left_runs(opened):
        name = job_name_of(run)
        job = location.repository.get_job(name) if location.repository.has_job(name) else None
        if job is None or undone_since(opened, run, job, also_unfinished=True) is None:
            yield run


def _last(opened: DagsterInstance, location: CodeLocation) -> str:
    """The newest of them. Raises NotResumable."""
    found = next(_left(opened, location), None)
    if found is not None:
        return found.run_id
    undone = last_run(opened)
    raise NotResumable(
        f"No run is left but what was rolled back since, as run {undone.run_id}. Nothing was changed; "
        f"`{to_resume(undone.run_id)}` makes again what was undone."
    )


def _executed(
    opened: DagsterInstance,
    location: CodeLocation,
    module: str | None,
    continued: Continued,
    screen: Shown,
    child: Child,
) -> Ended | None:
    """Say what is kept and what is run, and look after that; None where nothing was left."""
    before, run = continued.plan.run, continued.run
    for line in begun_lines(continued.plan):
        screen.say(line)
    if run is None:
        screen.say("Nothing was left to run.")
        return None
    screen.say(f"Run {before.run_id} of {before.job_name} is continued by run {run.run_id}.")
    stop = Stop()
    with stop.listening():
        return look_after(opened, location, module, run, screen, stop, child)


def _name_others(opened: DagsterInstance, location: CodeLocation, done: set[str], module: str | None) -> None:
    """Name other runs, so that nobody has to look for their ids."""
    others = [run for run in islice(_left(opened, location), MOST + 1 + len(done)) if run.run_id not in done]
    for run in others[:MOST]:
        what = describe(run.job_name, run.tags.get(PARTITION_NAME_TAG))
        click.echo(f"Also left: a run of {what}; `{to_resume(run.run_id, module)}`", err=True)
    if len(others) > MOST:
        click.echo("… and more: `dagster run list`", err=True)
