"""Errors about rows: rows of other partitions, of none, and no rows at all."""

from collections.abc import Mapping, Sequence

from pipeline_assets.errors import PartitionRefused, named_partitions


class RowsOutside(PartitionRefused):
    """Rows of other partitions than the one that is written."""

    def __init__(self, *, output: str, partitions: Sequence[str], rows: int, values: Mapping[str, object]) -> None:
        self.rows, self.values = rows, values
        found = ", ".join(f"{column}={value!r}" for column, value in values.items())
        super().__init__(
            f"{output} returned {rows} rows outside of {named_partitions(partitions)} (the first have {found}). "
            "Nothing was written; filter them out, or materialize their partition."
        )


class EmptyFrame(PartitionRefused):
    """No rows for a partition that has some."""

    def __init__(self, *, output: str, partitions: Sequence[str]) -> None:
        self.partitions = tuple(partitions)
        super().__init__(
            f"{output} returned no rows for {named_partitions(partitions)}, where its table has rows. Nothing was written; "
            "if they are to be removed, say so with the metadata {'allow_empty': True}."
        )


class NullPartition(PartitionRefused):
    """Rows whose partition column is NULL, or spelled as Hive spells NULL."""

    def __init__(self, *, output: str, column: str, why: str) -> None:
        self.column = column
        super().__init__(
            f"{output} returned rows whose partition column {column!r} {why}. "
            "Nothing was written; give them a value, or filter them out."
        )
