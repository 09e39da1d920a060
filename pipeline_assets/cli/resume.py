"""`pipeline-assets resume`: continue a run chain at the failed stage."""

import json
from itertools import islice
from typing import Any

import click
from dagster import DagsterInstance
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.cli.completion import runs
from pipeline_assets.cli.configuration import run_configuration
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.refusals import DONE, FAILED, printing_to_stderr, refusing
from pipeline_assets.cli.resume_text import document_of, done_lines, plan_lines
from pipeline_assets.errors import describe
from pipeline_assets.recovery.failure_report import FailureReport, report_of, resume_command_of
from pipeline_assets.recovery.resume import Resumed, last_run, left_runs, planned, resumable, resume
from pipeline_assets.settings import quiet

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

    Marks RUN failed if its process is gone. The stages that are left run as the code location's executor says.
    """
    if bool(run) == last:
        raise click.UsageError("Name a RUN, or say --last.")
    chosen: dict[str, Any] = {"recompute": recompute, "config": run_configuration(config)}
    with instance() as opened:
        found = resumable(opened, last_run(opened).run_id if last else str(run), gone=gone, dry=True)
        with printing_to_stderr(as_json):
            job = CodeLocation(module).job(found.job_name)
            if dry_run:
                done = Resumed(planned(opened, found, job, **chosen), None, True)
            else:
                if not as_json and not found.is_success:
                    click.echo(f"Run {found.run_id} of {found.job_name} is continued.", err=True)
                quieted = quiet({})["loggers"]
                done = resume(opened, found.run_id, job, quieted, agreed=agreed, gone=gone, **chosen)
            report = None if done.success else _report(opened, done, job, module)
        lines = plan_lines(done.plan) if dry_run else done_lines(done)
        failure = {"failure": report.as_json()} if report is not None else {}
        click.echo(json.dumps({**document_of(done), **failure}) if as_json else "\n".join(lines))
        if not as_json:
            for line in report.lines() if report is not None else ():
                click.echo(line, err=True)
            _name_others(opened, {found.run_id, str(done.run_id)}, module)
    return DONE if done.success else FAILED


def _report(
    opened: DagsterInstance, done: Resumed, job: ReconstructableJob, module: str | None
) -> FailureReport | None:
    run = opened.get_run_by_id(done.run_id) if done.run_id is not None else None
    return report_of(opened, run, job, module) if run is not None else None


def _name_others(opened: DagsterInstance, done: set[str], module: str | None) -> None:
    """Other runs that somebody may want to continue, so that nobody has to look for their ids."""
    others = [run for run in islice(left_runs(opened), MOST + 1 + len(done)) if run.run_id not in done]
    for run in others[:MOST]:
        what = describe(run.job_name, run.tags.get(PARTITION_NAME_TAG))
        click.echo(f"Also left: a run of {what}; `{resume_command_of(run.run_id, module)}`", err=True)
    if len(others) > MOST:
        click.echo("… and more: `dagster run list`", err=True)
