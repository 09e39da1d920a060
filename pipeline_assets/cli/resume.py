"""`pipeline-assets resume`: continue a run chain at the failed stage."""

import json
from itertools import islice

import click
from dagster import DagsterInstance
from dagster._core.definitions.reconstruct import ReconstructableJob

from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.refusals import DONE, FAILED, printing_to_stderr, refusing
from pipeline_assets.recovery.failure_report import FailureReport, report_of
from pipeline_assets.recovery.plan import COMMITTED, FINISHED, LEFT, Plan
from pipeline_assets.recovery.resume import Resumed, last_run, left_runs, planned, resumable, resume
from pipeline_assets.settings import quiet

MOST = 3
"""How many other runs are named."""


@click.command("resume")
@click.argument("run", required=False)
@click.option("--last", is_flag=True, help="The newest run that has not ended well and that nobody has continued.")
@click.option("--dry-run", is_flag=True, help="Only say what would be run.")
@click.option("--gone", is_flag=True, help="The run's process is gone, though that cannot be told from this host.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def resume_command(run: str | None, last: bool, dry_run: bool, gone: bool, module: str | None, as_json: bool) -> int:
    """Continue the run chain of RUN: finished stages are not run again, what was committed is adopted.

    Marks RUN failed if its process is gone. The stages that are left run as the code location's executor says.
    """
    if bool(run) == last:
        raise click.UsageError("Name a RUN, or say --last.")
    with instance() as opened:
        found = resumable(opened, last_run(opened).run_id if last else str(run), gone=gone, dry=True)
        with printing_to_stderr(as_json):
            job = CodeLocation(module).job(found.job_name)
            if dry_run:
                done = Resumed(planned(opened, found, job), None, True)
            else:
                if not as_json and not found.is_success:
                    click.echo(f"Run {found.run_id} of {found.job_name} is continued.", err=True)
                done = resume(opened, found.run_id, job, quiet({})["loggers"], gone=gone)
            report = None if done.success else _report(opened, done, job, module)
        click.echo(json.dumps(_document(done, report)) if as_json else _text(done, module, dry_run))
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


def _document(done: Resumed, report: FailureReport | None) -> dict[str, object]:
    steps = [
        {"step": one.key, "stage": one.name, "state": one.state, "versions": dict(one.versions)}
        for one in done.plan.steps
    ]
    failure = {"failure": report.as_json()} if report is not None else {}
    return {"resumed": done.plan.run.run_id, "run": done.run_id, "success": done.success, "steps": steps, **failure}


_WORDS = {FINISHED: "finished", COMMITTED: "adopted", LEFT: "run"}


def _text(done: Resumed, module: str | None, dry_run: bool) -> str:
    lines = _lines(done.plan)
    if dry_run:
        lines.append("Nothing was changed.")
    elif done.run_id is None:
        lines.append("Nothing was left to run.")
    elif done.success:
        lines.append(f"Done, by run {done.run_id}.")
    else:
        lines.append(f"Run {done.run_id} failed; `{_command(done.run_id, module)}` continues it.")
    return "\n".join(lines)


def _lines(plan: Plan) -> list[str]:
    lines = []
    for one in plan.steps:
        versions = ", ".join(f"version {version}" for version in one.versions.values())
        lines.append(f"  {_WORDS[one.state]:<8} {one.name}{f' ({versions})' if one.state != LEFT and versions else ''}")
    return lines


def _name_others(opened: DagsterInstance, done: set[str], module: str | None) -> None:
    """Other runs that somebody may want to continue, so that nobody has to look for their ids."""
    others = [run for run in islice(left_runs(opened), MOST + 1 + len(done)) if run.run_id not in done]
    for run in others[:MOST]:
        partition = run.tags.get("dagster/partition")
        what = f"{run.job_name} [{partition}]" if partition else run.job_name
        click.echo(f"Also left: a run of {what}; `{_command(run.run_id, module)}`", err=True)
    if len(others) > MOST:
        click.echo("… and more: `dagster run list`", err=True)


def _command(run_id: str, module: str | None) -> str:
    return f"pipeline-assets resume {run_id}{f' -m {module}' if module else ''}"
