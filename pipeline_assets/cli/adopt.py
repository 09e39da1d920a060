"""`pipeline-assets adopt`: make a checkpoint of what is in a table."""

import json

import click
from dagster import DagsterInstance

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.cli.refusals import DONE, refusing
from pipeline_assets.recovery.adopt import adopt


@click.command("adopt")
@click.argument("table")
@click.option("--version", type=int, help="The version that is meant; refused if the table has moved on since.")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def adopt_command(table: str, version: int | None, module: str | None, as_json: bool) -> int:
    """Make a checkpoint of what is in TABLE (an asset key as flights/legs, or a table's path or URI).

    For a table that another tool wrote, or a foreign commit that is meant. No row is changed.
    """
    with DagsterInstance.get() as instance:
        done = adopt(instance, CodeLocation(module).definition(), table, version)
    if as_json:
        click.echo(json.dumps({"table": done.table, "version": done.version, "partitions": list(done.partitions)}))
    else:
        what = "its rows" if list(done.partitions) == ["*"] else f"{len(done.partitions)} partitions"
        click.echo(
            f"Adopted: {what} of {done.table}, as version {done.version}."
            if done.partitions
            else f"{done.table}: nothing to adopt."
        )
    return DONE
