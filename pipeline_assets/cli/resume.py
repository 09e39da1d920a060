"""`pipeline-assets resume`: continue a run chain at the failed stage."""

import json

import click
from dagster import DagsterInstance

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.cli.refusals import DONE, FAILED, refusing
from pipeline_assets.recovery.resume import Resumed, last_run, resumable, resume
from pipeline_assets.settings import quiet


@click.command("resume")
@click.argument("run", required=False)
@click.option("--last", is_flag=True, help="The newest run that has not ended well.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def resume_command(run: str | None, last: bool, module: str | None, as_json: bool) -> int:
    """Continue the run chain of RUN: finished stages are not run again, what was committed is adopted.

    Marks RUN failed if its process is gone. The stages that are left run as the code location's executor says.
    """
    if bool(run) == last:
        raise click.UsageError("Name a RUN, or say --last.")
    with DagsterInstance.get() as instance:
        found = resumable(instance, last_run(instance).run_id if last else str(run))
        job = CodeLocation(module).job(found.job_name)
        if not as_json:
            click.echo(f"Run {found.run_id} of {found.job_name} is continued.", err=True)
        done = resume(instance, found.run_id, job, quiet({})["loggers"])
    click.echo(json.dumps(_document(done)) if as_json else _text(done))
    return DONE if done.success else FAILED


def _document(done: Resumed) -> dict[str, object]:
    steps = [{"step": one.key, "state": one.state, "versions": dict(one.versions)} for one in done.plan.steps]
    return {"resumed": done.plan.run.run_id, "run": done.run_id, "success": done.success, "steps": steps}


_WORDS = {"succeeded": "kept", "committed": "adopted", "left": "run"}


def _text(done: Resumed) -> str:
    lines = []
    for one in done.plan.steps:
        versions = ", ".join(f"version {version}" for version in one.versions.values())
        lines.append(f"  {_WORDS[one.state]:<8} {one.key}{f' ({versions})' if one.state == 'committed' else ''}")
    if done.run_id is None:
        lines.append("Nothing was left to run.")
    elif done.success:
        lines.append(f"Done, by run {done.run_id}.")
    else:
        lines.append(f"Run {done.run_id} failed; `pipeline-assets resume {done.run_id}` continues it.")
    return "\n".join(lines)
