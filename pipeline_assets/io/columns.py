"""The columns of an output beside those of its table, by what the output's metadata allows."""

import polars as pl

from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.schema import Conformed, check_partition_columns, conform, delta_schema
from pipeline_assets.delta.table import Table
from pipeline_assets.delta.types import gate
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.io.guards import refuse_other_partitioning
from pipeline_assets.io.merge_config import SchemaMode
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.proposals import names_its_columns


def conformed(output: Output, table: Table | None, frame: pl.LazyFrame) -> Conformed:
    """A frame as its table takes it. Raises SchemaError, ConfigurationError."""
    columns = frame.collect_schema()
    if not columns:
        raise ConfigurationError(f"{output.name} returned a frame without columns. Nothing was written.")
    frame = gate(frame, columns, table.schema if table is not None else None)
    check_partition_columns(frame.collect_schema(), output.columns)
    if table is None:
        return Conformed(frame, delta_schema(frame.collect_schema()), False)
    refuse_other_partitioning(output, table)
    if output.mode is Mode.MERGE and names_its_columns(output):
        return Conformed(frame, table.schema, False)
    allow = output.schema_mode
    if allow is None and output.asset_key is None and table.newest_owner() != output.name:
        allow = SchemaMode.overwrite  # another op's value, which is replaced as a whole
    return conform(
        frame,
        table.schema,
        allow.value if allow is not None else "never",
        output=output.name,
        replaces_all=output.mode is Mode.OVERWRITE and not table.partition_columns,
    )
