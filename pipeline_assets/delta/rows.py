"""Which partition each written file belongs to, and what is refused by looking at the files."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from deltalake import Schema

from pipeline_assets.delta.files import DataFile
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.partitions import Slice, owners
from pipeline_assets.delta.type_errors import NullNotAllowed
from pipeline_assets.delta.types import bad_partition_value
from pipeline_assets.errors import NullPartition, RowsOutside


def by_key(output: str, files: Sequence[DataFile], slices: Sequence[Slice]) -> dict[str, list[DataFile]]:
    """The files of each partition key; those of none are refused. Raises RowsOutside, NullPartition."""
    owner = owners(slices)
    filed: dict[str, list[DataFile]] = {one.key: [] for one in slices}
    outside: list[DataFile] = []
    for file in files:
        refuse_partition_value(output, file.values)
        key = owner(file.values)
        if key is None:
            outside.append(file)
        else:
            filed[key].append(file)
    if outside:
        raise RowsOutside(
            output=output,
            partitions=[one.key for one in slices],
            rows=sum(file.rows for file in outside),
            values=outside[0].values,
        )
    return filed


def refuse_partition_value(output: str, values: Mapping[str, Any]) -> None:
    """Raise NullPartition for a value of a partition column that would not be found again."""
    for column, value in values.items():
        why = bad_partition_value(value)
        if why is not None:
            raise NullPartition(output=output, column=column, why=why)


def refuse_nulls(output: str, files: Sequence[DataFile], schema: Schema, location: Location) -> None:
    """Raise NullNotAllowed for NULLs in a NOT NULL column, which delta-rs would commit."""
    for column in (field.name for field in schema.fields if not field.nullable):
        nulls = sum(_nulls(file, column, location) for file in files)
        if nulls:
            raise NullNotAllowed(output=output, column=column, rows=nulls)


def refuse_null_values(output: str, frame: pl.DataFrame, schema: Schema) -> None:
    """The same for rows that are not in files yet."""
    for column in (field.name for field in schema.fields if not field.nullable):
        nulls = frame[column].null_count() if column in frame.columns else 0
        if nulls:
            raise NullNotAllowed(output=output, column=column, rows=nulls)


def _nulls(file: DataFile, column: str, location: Location) -> int:
    """NULLs of a column in a file; read where the footer cannot tell (a list, a struct)."""
    if column in file.values:
        return 0
    if column in file.nulls:
        return file.nulls[column]
    read: int = pq.read_table(file.path, columns=[column], filesystem=location.files)[column].null_count
    return read
