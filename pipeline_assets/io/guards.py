"""What a write must not do to the table that is there."""

from collections.abc import Sequence

from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import EmptyFrame, Taken
from pipeline_assets.io.outputs import Output, is_of_op


def refuse_taken(output: Output, keys: Sequence[str], table: Table | None) -> None:
    """Raise Taken where an asset's data would be replaced by somebody else's. Ops may take turns at a table."""
    if table is None or output.mode is Mode.APPEND:
        return
    others = table.others(output.name)
    for key in keys if others else ():
        for owner in sorted(others.get(key, ())):
            if output.asset_key is not None or not is_of_op(owner):
                raise Taken(output=output.name, owner=owner, table=output.location.uri)


def refuse_emptying(output: Output, table: Table | None, without_rows: Sequence[Partition]) -> None:
    """Raise EmptyFrame where partitions that have rows would have none, unless the stage allows that."""
    if table is None or output.allows_empty:
        return
    emptied = [one.key for one in without_rows if table.paths([one])]
    if emptied:
        raise EmptyFrame(output=output.name, partitions=emptied)
