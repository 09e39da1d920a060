"""`pipeline-assets adopt`: make a checkpoint of what is in a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from pipeline_assets.cli.completion import stages
from pipeline_assets.cli.location import CodeLocation, instance
from pipeline_assets.cli.refusals import DONE, printing_to_stderr, refusing
from pipeline_assets.recovery.adopt import adopt


@click.command("adopt")
@click.argument("table", shell_complete=stages)
@click.option("--version", type=int, help="The version that is meant; refused if the table has moved on since.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def adopt_command(table: str, version: int | None, module: str | None, as_json: bool) -> int:
    """Make a checkpoint of what is in TABLE (an asset key as flights/legs, or a table's path or URI).

    For a table that another tool wrote, or a foreign commit that is meant. No row is changed.
    """
    with instance() as opened, printing_to_stderr(as_json):
        done = adopt(opened, CodeLocation(module).repository, table, version)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return DONE
    if done.recorded:
        click.echo(f"{done.table}: {_partitions(done.recorded)} had a checkpoint whose event was lost; it was sent.")
    if done.partitions:
        click.echo(f"Adopted: {_partitions(done.partitions)} of {done.table}, as version {done.version}.")
    elif not done.recorded:
        click.echo(f"{done.table}: nothing to adopt.")
    if done.unwritable:
        click.echo(
            f"It can be read, and its stage cannot write it: it has {', '.join(done.unwritable)}. Unset that, or have the "
            "stage write another table."
        )
    return DONE


def _partitions(keys: Sequence[str]) -> str:
    if list(keys) == ["*"]:
        return "its rows"
    return f"partition {keys[0]}" if len(keys) == 1 else f"{len(keys)} partitions"
