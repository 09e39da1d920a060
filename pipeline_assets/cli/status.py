"""`pipeline-assets status`: every stage, and where the tables disagree with the event log."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

from pipeline_assets.cli.completion import pipelines, stages
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.refusals import DONE, printing_to_stderr, refusing
from pipeline_assets.cli.shown import document, moment, number, show, spoken
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.errors import describe
from pipeline_assets.policy.commands import located, named_by, to_resume
from pipeline_assets.recovery.disagreements import Disagreement
from pipeline_assets.recovery.owed import BEHIND, KEPT, STALE, Owed
from pipeline_assets.recovery.run_ends import RunSeen
from pipeline_assets.recovery.status import MISSING, SOME, PartitionStatus, StageStatus, Status, status

HEADS = ("stage", "state", "version", "rows", "when", "attempts", "error")


@click.command("status")
@click.argument("pipeline", required=False, shell_complete=pipelines)
@click.option("--stage", help="Only this stage, as flights/legs; its partitions one by one.", shell_complete=stages)
@click.option("--partitions", is_flag=True, help="Partitions one by one.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def status_command(pipeline: str | None, stage: str | None, partitions: bool, module: str | None, as_json: bool) -> int:
    """Every stage: state, version, rows, when, attempts, error; and what is wrong with its table.

    PIPELINE is an asset group, the prefix of asset keys (flights), or a job of assets; without it all of the code location's.
    """
    with instance() as opened, printing_to_stderr(as_json):
        repository = CodeLocation(module).repository
        found = status(opened, repository, pipeline, stage, partitions=partitions, module=module)
    if as_json:
        click.echo(document(_document(found)))
    else:
        show(HEADS, [row for one in found.stages for row in _rows(one)])
        for line in _lines(found, module):
            click.echo(line)
    return DONE


def _rows(one: StageStatus) -> Iterator[list[str]]:
    version, when = _of_event(one.whole)
    attempts, error = _attempts(one.whole), one.whole.error or "-"
    if one.partitioned:
        state = ", ".join(f"{count:,} {state}" for state, count in one.counts.items() if count) or MISSING
        newest = one.whole.event.partition if one.whole.event is not None else None
        version = f"{version} [{newest}]" if newest else version
    else:
        state = ", ".join([one.whole.state, *(one.whole.event.flags if one.whole.event else ())])
    yield [one.stage, state, version, number(one.rows), when, attempts, error]
    for partition in one.partitions or one.bad:
        version, when = _of_event(partition)
        rows = number(partition.event.rows if partition.event else None)
        state = ", ".join([partition.state, *(partition.event.flags if partition.event else ())])
        yield [f"  [{partition.partition}]", state, version, rows, when, _attempts(partition), partition.error or "-"]


def _of_event(one: PartitionStatus) -> tuple[str, str]:
    point = one.event.checkpoint if one.event is not None else None
    return str(point.version) if point is not None else "-", spoken(one.event.at if one.event is not None else None)


def _attempts(one: PartitionStatus) -> str:
    return str(one.attempts) if one.attempts else "-"


def _lines(found: Status, module: str | None) -> Iterator[str]:
    """What is wrong, and what mends it."""
    if found.rollback is not None:
        go_on = f"pipeline-assets rollback --continue{named_by(module)}"
        yield f"Rollback {found.rollback.id} is open ({found.rollback.state}); `{go_on}`"
    for run in found.runs:
        yield _run(run, module)
    for stage in found.stages:
        yield from _first(stage.disagreements, "more disagreements", _disagreement)
        yield from _first(stage.owed, "more partitions that are stale or behind", lambda one: _owed(one, module))


def _first(found: Any, more: str, line: Any) -> Iterator[str]:
    yield from map(line, found[:SOME])
    if len(found) > SOME:
        yield f"… and {len(found) - SOME:,} {more} of {found[0].stage}"


def _run(run: RunSeen, module: str | None) -> str:
    what = describe(run.job, run.partition)
    said = f"Run {run.run} of {what} is {run.state} since {spoken(run.at)}"
    if run.state in ("failed", "killed"):
        said = f"Run {run.run} of {what} {'has failed' if run.state == 'failed' else 'was killed'}"
    if run.host is not None:
        gone = f"`{to_resume(run.run, module, option='--gone')}` if you know that it is gone"
        return f"{said} on {run.host}, so it cannot be told from here whether it is alive; {gone}"
    return f"{said}; `{to_resume(run.resume, module)}` continues it" if run.resume else said


def _disagreement(one: Disagreement) -> str:
    return f"{describe(one.stage, one.partition)}: {one.why}; `{one.mend}`"


_WORDS = {STALE: "is stale: made from what is undone of", BEHIND: "is behind: older than"}


def _owed(one: Owed, module: str | None) -> str:
    name = describe(one.stage, one.partition)
    said = (
        f"was kept by run {one.run}, and is undone" if one.why == KEPT else f"{_WORDS[one.why]} {', '.join(one.inputs)}"
    )
    what = " takes its rows out" if one.undo else " makes that again first" if one.waits else ""
    return located(f"{name} {said}; {', '.join(one.mends)}{what}", module)


def _document(found: Status) -> dict[str, Any]:
    rollback = found.rollback
    return {
        "stages": [_stage(one) for one in found.stages],
        "runs": [{**one.__dict__, "at": moment(one.at)} for one in found.runs],
        "rollback": {"id": str(rollback.id), "state": rollback.state} if rollback is not None else None,
    }


def _stage(one: StageStatus) -> dict[str, Any]:
    partitions: dict[str, Any] | None = None
    if one.partitioned:
        stale = [owed.partition for owed in one.owed if owed.why == STALE]
        behind = [owed.partition for owed in one.owed if owed.why == BEHIND]
        partitions = {
            "counts": {**one.counts, STALE: len(stale), BEHIND: len(behind)},
            "bad": _partitions(one.bad),
            "all": _partitions(one.partitions) or None,
        }
    return {
        "stage": one.stage,
        "pipeline": one.group,
        **_partition(one.whole),
        "partition": None if not one.partitioned or one.whole.event is None else one.whole.event.partition,
        "rows": one.rows,
        "partitions": partitions,
        "owed": [{**owed.__dict__, "partition": _key(owed.partition), "inputs": owed.inputs} for owed in one.owed],
        "disagreements": [{**wrong.__dict__, "partition": _key(wrong.partition)} for wrong in one.disagreements],
    }


def _partitions(found: Iterable[PartitionStatus]) -> list[dict[str, Any]]:
    return [_partition(one) for one in found]


def _partition(one: PartitionStatus) -> dict[str, Any]:
    event = one.event
    point = event.checkpoint if event is not None else None
    return {
        "partition": _key(one.partition),
        "state": one.state,
        "version": point.version if point is not None else None,
        "rows": event.rows if event is not None else None,
        "at": moment(event.at) if event is not None else None,
        "flags": list(event.flags) if event is not None else [],
        "chain": point.part.chain or None if point is not None else None,
        "run": one.run,
        "attempts": one.attempts,
        "error": one.error,
        "resume": one.resume,
    }


def _key(partition: str) -> str | None:
    return None if partition == WHOLE else partition
