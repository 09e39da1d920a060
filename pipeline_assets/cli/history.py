"""`pipeline-assets history`: checkpoints and rollback points, newest first."""

from typing import Any

import click

from pipeline_assets.cli.completion import pipelines, stages
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.refusals import DONE, printing_to_stderr, refusing
from pipeline_assets.cli.shown import document, moment, number, show, spoken
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.errors import describe
from pipeline_assets.policy.commands import named_by
from pipeline_assets.recovery.history import LIMIT, LIVE, History, Line, history

MOST = 8
"""So many versions of a rollback point are named; `--json` has all."""
HEADS = ("when", "state", "stage", "version", "rows", "run", "made from", "can be gone back to")


@click.command("history")
@click.argument("pipeline", shell_complete=pipelines)
@click.argument("stage", required=False, shell_complete=stages)
@click.option("--partition", help="Only this partition.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="How many, from the newest."
)
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def history_command(
    pipeline: str, stage: str | None, partition: str | None, limit: int, module: str | None, as_json: bool
) -> int:
    """Checkpoints, newest first, and the good runs that `rollback --to` may name.

    PIPELINE is an asset group, the prefix of asset keys (flights), or a job of assets; STAGE one of its stages.
    """
    with instance() as opened, printing_to_stderr(as_json):
        found = history(opened, CodeLocation(module).repository, pipeline, stage, partition, limit)
    if as_json:
        click.echo(document(_document(found)))
        return DONE
    if not found.lines:
        click.echo("No checkpoint yet.")
        return DONE
    show(HEADS, [_row(one) for one in found.lines])
    if found.points:
        click.echo("Rollback points:")
    more = named_by(module)
    for point in found.points:
        named = [f"{name} version {version}" for name, version in point.versions.items()]
        versions = ", ".join([*named[:MOST], *([f"and {len(named) - MOST} more"] if len(named) > MOST else [])])
        command = (
            f"`pipeline-assets rollback --to {point.run}{more}`" if point.restorable else "not all of it is there still"
        )
        click.echo(f"  {spoken(point.at)}  {versions}; {command}")
    if found.more:
        click.echo(f"… and older ones; --limit {2 * limit} shows more.")
    return DONE


def _row(one: Line) -> list[str]:
    event = one.event
    point = event.checkpoint
    assert point is not None
    pins = ", ".join(f"{name} version {pin.version}" for name, pin in point.part.pins.items())
    run = event.run or "-"
    chain = f", chain {point.part.chain}" if point.part.chain not in ("", event.run) else ""
    return [
        spoken(event.at),
        ", ".join([one.state, *event.flags]),
        describe(one.stage, event.partition),
        str(point.version),
        number(event.rows),
        f"{run}{chain}",
        pins or "-",
        "it is live" if one.state == LIVE else "yes" if one.restorable else f"no: {one.why or 'nothing is there'}",
    ]


def _document(found: History) -> dict[str, Any]:
    points = [
        {"run": one.run, "at": moment(one.at), "versions": one.versions, "restorable": one.restorable}
        for one in found.points
    ]
    return {"checkpoints": [_line(one) for one in found.lines], "rollback_points": points, "more": found.more}


def _line(one: Line) -> dict[str, Any]:
    event = one.event
    point = event.checkpoint
    assert point is not None
    return {
        "stage": one.stage,
        "partition": None if event.partition == WHOLE else event.partition,
        "version": point.version,
        "table_id": point.table_id,
        "at": moment(event.at),
        "run": event.run,
        "chain": point.part.chain or None,
        "attempt": point.part.attempt,
        "rows": event.rows,
        "rows_in": point.part.rows_in,
        "rows_quarantined": point.part.quarantined,
        "rows_dropped": point.part.dropped,
        "engine": point.part.engine,
        "inputs": {name: pin.version for name, pin in point.part.pins.items()},
        "flags": list(event.flags),
        "state": one.state,
        "restorable": one.restorable,
        "why": one.why,
    }
