"""Which partition each written file belongs to, and what is refused by looking at the files."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.schema import ArrayType, MapType, StructType

from pipeline_assets.delta.files import DataFile
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.partitions import Partition, owners
from pipeline_assets.delta.row_errors import NullPartition, RowsOutside
from pipeline_assets.delta.schema import bad_partition_value
from pipeline_assets.delta.type_errors import NullNotAllowed
from pipeline_assets.delta.types import entries_of


def by_key(output: str, files: Sequence[DataFile], partitions: Sequence[Partition]) -> dict[str, list[DataFile]]:
    """The files of each partition key; those of none are refused. Raises RowsOutside, NullPartition."""
    owner = owners(partitions)
    filed: dict[str, list[DataFile]] = {one.key: [] for one in partitions}
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
            partitions=[one.key for one in partitions],
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
    """Raise NullNotAllowed for NULLs in a NOT NULL column, or deeper, which delta-rs would commit."""
    for field in schema.fields:
        nulls = 0 if field.nullable else sum(_nulls(file, field.name, location) for file in files)
        if nulls:
            raise NullNotAllowed(output=output, column=field.name, rows=nulls)
        if _has_not_null_inside(field.type):
            for file in files:
                read = pq.read_table(file.path, columns=[field.name], filesystem=location.files)
                _refuse_nulls_inside(output, field.name, _to_series(read), field.type)


def refuse_null_values(output: str, frame: pl.DataFrame, schema: Schema) -> None:
    """The same for rows that are not in files yet."""
    for field in (field for field in schema.fields if field.name in frame.columns):
        nulls = 0 if field.nullable else frame[field.name].null_count()
        if nulls:
            raise NullNotAllowed(output=output, column=field.name, rows=nulls)
        if _has_not_null_inside(field.type):
            _refuse_nulls_inside(output, field.name, frame[field.name], field.type)


def _has_not_null_inside(type_: Any) -> bool:
    """Whether a Delta type has fields, elements or values that may not be NULL."""
    if isinstance(type_, StructType):
        return any(not field.nullable or _has_not_null_inside(field.type) for field in type_.fields)
    if isinstance(type_, ArrayType):
        return not type_.contains_null or _has_not_null_inside(type_.element_type)
    if isinstance(type_, MapType):
        return not type_.value_contains_null or _has_not_null_inside(type_.value_type)
    return False


def _to_series(table: pa.Table) -> pl.Series:
    """The only column of an Arrow table."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.to_series()


def _refuse_nulls_inside(output: str, path: str, values: pl.Series, type_: Any) -> None:
    """values: of that type; where they are NULL themselves nothing inside of them is."""
    values = values.drop_nulls()
    if isinstance(type_, StructType):
        parts = [(field.name, values.struct.field(field.name), field.type, field.nullable) for field in type_.fields]
    elif isinstance(type_, ArrayType):
        elements = values.filter(values.list.len() > 0).explode()
        parts = [("element", elements, type_.element_type, type_.contains_null)]
    elif isinstance(type_, MapType):
        entries = values.cast(entries_of(values.dtype))  # type: ignore[arg-type]
        found = entries.filter(entries.list.len() > 0).explode().struct.field("value")
        parts = [("value", found, type_.value_type, type_.value_contains_null)]
    else:
        return
    for name, inner, inner_type, nullable in parts:
        if not nullable and inner.null_count():
            raise NullNotAllowed(output=output, column=f"{path}.{name}", rows=inner.null_count())
        _refuse_nulls_inside(output, f"{path}.{name}", inner, inner_type)


def _nulls(file: DataFile, column: str, location: Location) -> int:
    """NULLs of a column in a file; read where the footer cannot tell (a list, a struct)."""
    if column in file.values:
        return 0
    if column in file.nulls:
        return file.nulls[column]
    read: int = pq.read_table(file.path, columns=[column], filesystem=location.files)[column].null_count
    return read
