"""A frame's columns beside those of its table: which differences are cast, added, or refused."""

import polars as pl

from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.table import Table
from pipeline_assets.delta.types import Conformed, check_partition_columns, conform, delta_schema, gate
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.outputs import Output
from pipeline_assets.proposals import names_its_columns


def conformed(output: Output, table: Table | None, frame: pl.LazyFrame) -> Conformed:
    """A frame as its table takes it. Raises SchemaError, ConfigurationError."""
    frame = gate(frame, frame.collect_schema())
    if table is None:
        schema = frame.collect_schema()
        check_partition_columns(schema, output.columns)
        return Conformed(frame, delta_schema(schema), False)
    _refuse_other_partitioning(output, table)
    if output.mode is Mode.MERGE and names_its_columns(output):
        return Conformed(frame, table.schema, False)
    allow = output.schema_mode
    found = conform(frame, table.schema, allow.value if allow is not None else "never")
    if not found.changed or (output.mode is Mode.OVERWRITE and not table.partition_columns):
        return found
    if found.removed or found.retyped:
        raise ConfigurationError(
            f"{output.name} changes columns ({', '.join([*found.removed, *found.retyped])}) of a table whose other rows, "
            f"which this {output.mode.value} leaves, would not fit any more. Nothing was written; columns may be added, "
            "all else needs a new table."
        )
    return conform(frame, table.schema, "merge")


def _refuse_other_partitioning(output: Output, table: Table) -> None:
    if set(output.columns) - set(table.partition_columns):
        raise ConfigurationError(
            f"{output.name} is partitioned by {', '.join(output.columns)}, but its table {output.location.uri} by "
            f"{', '.join(table.partition_columns) or 'nothing'}. Nothing was written; change 'partition_expr', or write "
            "to another table."
        )
