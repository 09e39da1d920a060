"""What may be written, and how: values in and out, types cast on purpose or refused by name, schemas compared."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from deltalake import Field, Schema
from polars.datatypes import DataType
from polars.io.plugins import register_io_source

from pipeline_assets.delta.partitions import HIVE_NULL
from pipeline_assets.delta.type_errors import BadColumnName, SchemaChanged, UnsupportedType, ValueLost
from pipeline_assets.errors import ConfigurationError

FORBIDDEN_IN_NAMES = frozenset(" ,;{}()\n\t=")
"""Delta protocol, "Column Names" without column mapping: what Parquet writers of the field refuse."""
MAX_PRECISION = 38
_SMALL = {pl.UInt8: pl.Int16, pl.UInt16: pl.Int32, pl.UInt32: pl.Int64, pl.Float16: pl.Float32}
_WIDER = {
    "byte": {"short", "integer", "long"},
    "short": {"integer", "long"},
    "integer": {"long", "double"},
    "float": {"double"},
}
"""Casts that lose nothing, from a frame's type into a table's."""


@dataclass(frozen=True)
class Conformed:
    """A frame that fits a table.

    frame: the columns of `schema`, in its order and types. changed: whether `schema` is not the table's; then added,
    removed and retyped name the columns.
    """

    frame: pl.LazyFrame
    schema: Schema
    changed: bool
    added: Sequence[str] = field(default_factory=tuple)
    removed: Sequence[str] = field(default_factory=tuple)
    retyped: Sequence[str] = field(default_factory=tuple)


def to_lazy(value: Any) -> pl.LazyFrame:
    """A frame of any of the types that an IO manager takes; a reader is streamed, and can be read once."""
    if isinstance(value, pl.LazyFrame):
        return value
    if isinstance(value, pl.DataFrame):
        return value.lazy()
    if isinstance(value, pa.Table):
        frame = pl.from_arrow(value)
        assert isinstance(frame, pl.DataFrame)
        return frame.lazy()
    return _of_reader(value)


def from_lazy(frame: pl.LazyFrame, type_: type) -> Any:
    """The value of a type that a frame is asked for as; a LazyFrame and a RecordBatchReader are not collected."""
    if issubclass(type_, pl.LazyFrame):
        return frame
    if issubclass(type_, pa.RecordBatchReader):
        return _to_reader(frame)
    collected = frame.collect(engine="streaming")
    return collected.to_arrow(compat_level=pl.CompatLevel.oldest()) if issubclass(type_, pa.Table) else collected


def gate(frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Cast on purpose what Delta or polars would damage in silence, or refuse it by name.

    Raises UnsupportedType, BadColumnName; while the frame is computed ValueLost.
    """
    refuse_names(schema.names())
    casts = []
    for name, dtype in schema.items():
        target = target_of(name, dtype)
        if target != dtype:
            casts.append(_strict(name, dtype, target))
    return frame.with_columns(casts) if casts else frame


def target_of(column: str, dtype: DataType) -> DataType:
    """The type in which a column is written. Raises UnsupportedType."""
    if isinstance(dtype, pl.Array):
        return pl.List(target_of(column, dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.List):
        return pl.List(target_of(column, dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(one.name, target_of(f"{column}.{one.name}", one.dtype)) for one in dtype.fields])  # type: ignore[arg-type]
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return pl.String()
    if isinstance(dtype, pl.UInt64):
        return pl.Int64()
    for small, bigger in _SMALL.items():
        if isinstance(dtype, small):
            return bigger()
    _refuse(column, dtype)
    return dtype


def _refuse(column: str, dtype: DataType) -> None:
    why = None
    if isinstance(dtype, pl.Object):
        why = "which only Python understands"
    elif isinstance(dtype, (pl.Duration, pl.Time)):
        why = "which Delta does not have"
    elif isinstance(dtype, (pl.Int128, pl.UInt128)):
        why = "which Delta does not have (Decimal(38, 0) comes near)"
    elif isinstance(dtype, pl.Null):
        why = "so it would never have a type in the table"
    elif isinstance(dtype, pl.Decimal) and (dtype.precision or MAX_PRECISION) > MAX_PRECISION:
        why = f"of more than {MAX_PRECISION} digits"
    if why is not None:
        raise UnsupportedType(column=column, dtype=str(dtype), why=why)


def _strict(name: str, dtype: DataType, target: DataType) -> pl.Expr:
    """A cast that refuses a value which it would change, in the same pass over the data."""

    def cast(series: pl.Series) -> pl.Series:
        lost = _lost(series, target)
        if lost is not None:
            raise ValueLost.of(column=name, dtype=str(dtype), target=str(target), example=lost)
        made: pl.Series = series.cast(target)
        return made

    return pl.col(name).map_batches(cast, return_dtype=target, is_elementwise=True)


def _lost(series: pl.Series, target: DataType) -> Any:
    """A value, however deep, that a cast to the target would change; None where there is none."""
    dtype = series.dtype
    if dtype == target:
        return None
    if isinstance(dtype, (pl.List, pl.Array)):
        return _lost(series.explode().drop_nulls(), target.inner)  # type: ignore[attr-defined]
    if isinstance(dtype, pl.Struct):
        inner = [_lost(series.struct.field(one.name), one.dtype) for one in target.fields]  # type: ignore[attr-defined]
        return next((lost for lost in inner if lost is not None), None)
    lost = series.cast(target, strict=False).is_null() & series.is_not_null()
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        lost = lost | (series.dt.nanosecond() % 1000 != 0)
    return series.filter(lost)[0] if lost.any() else None


def refuse_names(names: Sequence[str]) -> None:
    """Raise BadColumnName for what Delta forbids, and for names that differ in case alone."""
    seen: dict[str, str] = {}
    for name in names:
        if not name or FORBIDDEN_IN_NAMES & set(name):
            raise BadColumnName(column=name, why="has a name with characters that a Delta table does not take")
        if name.lower() in seen:
            raise BadColumnName(
                column=name, why=f"differs from {seen[name.lower()]!r} in case alone, which Delta ignores"
            )
        seen[name.lower()] = name


def delta_schema(schema: pl.Schema, not_null: Collection[str] = ()) -> Schema:
    """The Delta schema of a frame that went through `gate`."""
    arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    made = Schema.from_arrow(arrow)
    if not not_null:
        return made
    return Schema(
        [Field(one.name, one.type, nullable=one.name not in not_null, metadata=one.metadata) for one in made.fields]
    )


def conform(
    frame: pl.LazyFrame, table_schema: Schema, allow: Literal["never", "merge", "overwrite"] = "never"
) -> Conformed:
    """Fit a frame that went through `gate` to a table. Raises SchemaChanged with the difference.

    `merge` lets columns be added, and fills missing ones with NULL; `overwrite` takes the frame's schema. A type that
    the table's holds without loss is cast in any case.
    """
    schema = frame.collect_schema()
    own = {one.name: one for one in delta_schema(schema).fields}
    there = {one.name: one for one in table_schema.fields}
    added = [name for name in own if name not in there]
    removed = [name for name in there if name not in own]
    retyped = [name for name in own if name in there and not _fits(own[name], there[name])]
    if allow == "overwrite" and (added or removed or retyped):
        return Conformed(frame, delta_schema(schema), True, added, removed, retyped)
    missing = [name for name in removed if not there[name].nullable]
    if retyped or missing or ((added or removed) and allow == "never"):
        described = [f"{name} (from {_kind(there[name])} to {_kind(own[name])})" for name in retyped]
        raise SchemaChanged(added=added, removed=removed, retyped=described)
    fields = [*table_schema.fields, *(own[name] for name in added)]
    target = _polars(Schema(fields))
    columns = [
        (pl.lit(None) if name in removed else pl.col(name)).cast(dtype).alias(name)
        if name in removed or schema[name] != dtype
        else pl.col(name)
        for name, dtype in target.items()
    ]
    return Conformed(frame.select(columns), Schema(fields), bool(added), added)


def check_partition_columns(schema: pl.Schema, columns: Sequence[str]) -> None:
    """Raise ConfigurationError for partition columns that are missing, of a type that paths cannot spell, or all."""
    for column in columns:
        if column not in schema:
            raise ConfigurationError(
                f"The partition column {column!r} is no column of the frame, which has {', '.join(schema.names())}. "
                "Nothing was written; correct the metadata 'partition_expr'."
            )
        dtype = schema[column]
        if not (
            dtype.is_integer() or dtype.is_decimal() or isinstance(dtype, (pl.String, pl.Date, pl.Datetime, pl.Boolean))
        ):
            raise ConfigurationError(
                f"The partition column {column!r} is {dtype}; it may be a string, date, datetime, whole number, decimal "
                "or boolean. Nothing was written."
            )
    if columns and set(columns) == set(schema.names()):
        raise ConfigurationError("A table needs a column beside its partition columns. Nothing was written.")


def bad_partition_value(value: Any) -> str | None:
    """Why a value cannot be found again in a partition column; None where it can."""
    if value is None:
        return "is NULL"
    if value == "":
        return "is an empty string, which Delta reads as NULL"
    if value == HIVE_NULL:
        return f"is {HIVE_NULL!r}, which is read as NULL"
    return None


def polars_type(name: str) -> DataType:
    """The polars type of a Delta primitive type's name."""
    return _polars(Schema.from_json(_one_field(name)))["x"]


def _one_field(name: str) -> str:
    return json.dumps({"type": "struct", "fields": [{"name": "x", "type": name, "nullable": True, "metadata": {}}]})


def _polars(schema: Schema) -> pl.Schema:
    frame = pl.from_arrow(pa.schema(schema.to_arrow()).empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.schema


def _kind(one: Field) -> str:
    return str(getattr(one.type, "type", one.type))


def _fits(own: Field, there: Field) -> bool:
    if own.type == there.type or own.type.to_json() == there.type.to_json():
        return True
    if _kind(there) in _WIDER.get(_kind(own), ()):
        return True
    return _polars(Schema([Field("x", own.type)])) == _polars(Schema([Field("x", there.type)]))


def _of_reader(reader: pa.RecordBatchReader) -> pl.LazyFrame:
    head = pl.from_arrow(reader.schema.empty_table())
    assert isinstance(head, pl.DataFrame)

    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        for batch in reader:
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            frame = frame if limit is None else frame.head(limit)
            limit = None if limit is None else limit - frame.height
            frame = frame if predicate is None else frame.filter(predicate)
            yield frame if columns is None else frame.select(columns)
            if limit == 0:
                return

    return register_io_source(batches, schema=head.schema)


def _to_reader(frame: pl.LazyFrame) -> pa.RecordBatchReader:
    oldest = pl.CompatLevel.oldest()
    schema = pl.DataFrame(schema=frame.collect_schema()).to_arrow(compat_level=oldest).schema
    batches = (
        batch
        for part in frame.collect_batches(engine="streaming")
        for batch in part.to_arrow(compat_level=oldest).cast(schema).to_batches()
    )
    return pa.RecordBatchReader.from_batches(schema, batches)
