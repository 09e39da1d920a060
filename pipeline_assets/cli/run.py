"""`pipeline-assets run`: a supervised run of a pipeline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from dagster import AssetKey, DagsterInstance
from dagster._core.definitions.reconstruct import ReconstructableJob

from pipeline_assets.cli.configuration import run_configuration
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.progress import Shown, shown
from pipeline_assets.cli.refusals import DONE, FAILED, printing_to_stderr, refusing
from pipeline_assets.cli.supervised import Ended, look_after
from pipeline_assets.errors import describe
from pipeline_assets.recovery.code_location import QUIET
from pipeline_assets.recovery.launch import Part, created_run, narrowed, parts_of, pipeline_of
from pipeline_assets.recovery.supervising import Child, Stop, ahead


@click.command("run")
@click.argument("pipeline")
@click.option("--partition", metavar="K", help="Only this partition.")
@click.option("--from", "start", metavar="K", help="With --to: all partitions from this one …")
@click.option("--to", "end", metavar="K", help="… to this one.")
@click.option("--select", metavar="S", help="Only these stages, in Dagster's asset selection syntax.")
@click.option("--force", is_flag=True, help="Run unchanged stages, too.")
@click.option("--keep-going", is_flag=True, help="Of several runs begin the later ones also where one has failed.")
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="Run configuration, YAML.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def run_command(
    pipeline: str,
    partition: str | None,
    start: str | None,
    end: str | None,
    select: str | None,
    force: bool,
    keep_going: bool,
    config: str | None,
    module: str | None,
    as_json: bool,
) -> int:
    """Run PIPELINE: a job, the name of one without `_job`, an asset group, or the prefix of asset keys.

    The run is in a process of its own, and looked after: where that is killed, the run is marked failed, and what the
    pipeline's on_failure says is done.
    """
    if bool(start) != bool(end) or (partition and start):
        raise click.UsageError("Say --partition K, or --from K and --to K, or neither.")
    with instance() as opened:
        configured = run_configuration(config) or {}
        with printing_to_stderr(as_json), shown(as_json=as_json) as screen, ahead(screen.printed) as child:
            location = CodeLocation(module)
            found = pipeline_of(location.repository, pipeline)
            job = location.job(found.job)
            if select:
                found = narrowed(location.repository, job.get_definition(), found, select)
            span = (str(start), str(end)) if start else None
            parts = parts_of(opened, job.get_definition(), found.assets, partition, span)
            if span is not None:
                how = "one run for all of them" if len(parts) == 1 else f"{len(parts)} runs, one after the other"
                screen.say(f"{found.job} from {start} to {end}: {how}.")
            asked = _Asked(opened, location, job, found.assets, configured, force, module)
            done = _each(asked, parts, screen, child, keep_going=keep_going)
        success = all(ended.run.is_success for _, ended in done) and len(done) == len(parts)
        not_begun = [part.name for part in parts[len(done) :]]
        if as_json:
            runs = [{"partition": part.name, **ended.as_json()} for part, ended in done]
            click.echo(json.dumps({"pipeline": pipeline, "success": success, "runs": runs, "not_begun": not_begun}))
        elif not_begun:
            click.echo(f"Not begun: {', '.join(map(str, not_begun))}.", err=True)
    return DONE if success else FAILED


@dataclass(frozen=True)
class _Asked:
    """What is to be run, and where."""

    opened: DagsterInstance
    location: CodeLocation
    job: ReconstructableJob
    assets: frozenset[AssetKey] | None
    config: Mapping[str, Any]
    force: bool
    module: str | None


def _each(
    asked: _Asked, parts: Sequence[Part], screen: Shown, child: Child, *, keep_going: bool
) -> list[tuple[Part, Ended]]:
    stop = Stop()
    done: list[tuple[Part, Ended]] = []
    with stop.listening():
        for part in parts:
            done.append((part, _one(asked, part, screen, stop, child if not done else None)))
            if stop.signal is not None or not (keep_going or done[-1][1].run.is_success):
                break
    return done


def _one(asked: _Asked, part: Part, screen: Shown, stop: Stop, child: Child | None) -> Ended:
    run = created_run(asked.opened, asked.job, asked.assets, part, asked.config, QUIET, force=asked.force)
    screen.say(f"Run {run.run_id} of {describe(run.job_name, part.name)}")
    return look_after(asked.opened, asked.location, asked.module, run, screen, stop, child)
