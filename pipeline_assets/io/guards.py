"""What a write must not do to the table that is there, and what the storage may refuse."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import polars as pl
from deltalake.exceptions import DeltaError

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.row_errors import EmptyFrame
from pipeline_assets.delta.storage_errors import refusal_of
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import ConfigurationError, StorageRefused, Taken
from pipeline_assets.io.outputs import Output, is_of_op
from pipeline_assets.io.partitions import partitions_among


@contextmanager
def storage_takes_it(output: Output, partition: str | None) -> Iterator[None]:
    """Raise StorageRefused, with what it said, where the storage takes no more; other errors are their own."""
    try:
        yield
    except (OSError, DeltaError, pl.exceptions.PolarsError) as error:
        uri = output.location.uri
        why = refusal_of(error, uri)
        if why is None:
            raise
        raise StorageRefused(output=output.name, partition=partition, table=uri, why=why) from error


def refuse_taken(output: Output, keys: Sequence[str], table: Table | None) -> None:
    """Raise Taken where rows of another asset's would be replaced, or would replace these.

    Beside an asset only one that appends may write, and only if the other does so as well. Ops may take turns at a table.
    Rows in a partition that this output has not written itself are somebody's, whatever the others call their partitions.
    """
    if table is None or set(output.columns) - set(table.partition_columns):
        return
    others = {
        (owner, key)
        for key, owners in table.others(output.name).items()
        for owner in owners
        if output.asset_key is not None or not is_of_op(owner)
    }
    if not others:
        return
    appends = output.mode is Mode.APPEND
    for one in partitions_among(output.wanted(keys), table.schema, output.name):
        there = {owner for owner, key in others if names.WHOLE in (key, one.key) or key == one.key}
        if appends:
            there = {owner for owner in there if not _appends(table, owner)}
        elif not there and not table.txns.get(names.chain(output.name, one.key)) and table.paths([one]):
            there = {owner for owner, _ in others}
        if there:
            raise Taken(output=output.name, owner=min(there), table=output.location.uri)


def _appends(table: Table, owner: str) -> bool:
    """Whether an output adds its rows; who merges would be refused from then on. Where the log has forgotten, it does."""
    newest = next(table.records(owner), None)
    return table.remembers(owner) and (newest is None or newest[1].mode is Mode.APPEND)


def refuse_other_partitioning(output: Output, table: Table) -> None:
    """Raise ConfigurationError where the table has not the partition columns that the output's partitions need."""
    if set(output.columns) - set(table.partition_columns):
        there = ", ".join(table.partition_columns)
        right = f"name {there} in 'partition_expr'" if there else "leave its partitions out"
        raise ConfigurationError(
            f"{output.name} is partitioned by {', '.join(output.columns)}, but its table {output.location.uri} by "
            f"{there or 'nothing'}. Nothing was written; {right}, or use another table (metadata 'schema')."
        )


def refuse_emptying(output: Output, table: Table | None, without_rows: Sequence[Partition]) -> None:
    """Raise EmptyFrame where partitions that have rows would have none, unless the stage allows that."""
    if table is None or output.allows_empty:
        return
    emptied = [one.key for one in without_rows if table.paths([one])]
    if emptied:
        raise EmptyFrame(output=output.name, partitions=emptied)
