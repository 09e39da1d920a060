"""What may be written: the type of each column in a Delta table, cast on purpose or refused by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from deltalake import Schema
from polars.datatypes import DataType

from pipeline_assets.delta.type_errors import BadColumnName, UnsupportedType, ValueLost

FORBIDDEN_IN_NAMES = frozenset(" ,;{}()\n\t=")
"""Delta protocol, "Column Names" without column mapping: what Parquet writers of the field refuse."""
MAX_PRECISION = 38
_SMALL = {pl.UInt8: pl.Int16, pl.UInt16: pl.Int32, pl.UInt32: pl.Int64, pl.Float16: pl.Float32}


def gate(frame: pl.LazyFrame, schema: pl.Schema, there: Schema | None = None) -> pl.LazyFrame:
    """Cast on purpose what Delta or polars would damage in silence, or refuse it by name.

    there: the table's columns. What has no type of its own in Delta takes theirs: a column of NULLs alone, an unsigned
    number. Raises UnsupportedType, BadColumnName; while the frame is computed ValueLost.
    """
    refuse_names(schema.names())
    known: Mapping[str, DataType] = polars_schema(there) if there is not None else {}
    casts = []
    for name, dtype in schema.items():
        target = _like(dtype, known.get(name)) or target_of(name, dtype)
        if target != dtype:
            casts.append(_strict(name, dtype, target))
    return frame.with_columns(casts) if casts else frame


def _like(dtype: DataType, there: DataType | None) -> DataType | None:
    """The type of the table's column, for a type that says nothing, or less than the table, of what Delta has."""
    if there is None:
        return None
    if dtype == pl.Null or (dtype.is_unsigned_integer() and there.is_signed_integer()):
        return there
    if isinstance(dtype, (pl.List, pl.Array)) and isinstance(there, pl.List) and dtype.inner == pl.Null:
        return there
    return None


def target_of(column: str, dtype: DataType) -> DataType:
    """The type in which a column is written. Raises UnsupportedType."""
    if isinstance(dtype, (pl.Array, pl.List)):
        return pl.List(target_of(column, dtype.inner))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Map):
        return pl.Map(target_of(f"{column}.key", dtype.key), target_of(f"{column}.value", dtype.value))  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        if not dtype.fields:
            raise UnsupportedType(column=column, dtype="a struct without fields", why="which Delta does not have")
        refuse_names([one.name for one in dtype.fields])
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
    if isinstance(dtype, pl.Map):
        return _lost(series.cast(entries_of(dtype)), entries_of(target))  # type: ignore[arg-type]
    if isinstance(dtype, (pl.List, pl.Array)):
        return _lost(series.explode().drop_nulls(), target.inner)  # type: ignore[attr-defined]
    if isinstance(dtype, pl.Struct):
        inner = [_lost(series.struct.field(one.name), one.dtype) for one in target.fields]  # type: ignore[attr-defined]
        return next((lost for lost in inner if lost is not None), None)
    lost = series.cast(target, strict=False).is_null() & series.is_not_null()
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        lost = lost | (series.dt.nanosecond() % 1000 != 0)
    if not lost.any():
        return None
    # A time that Python does not have, as the year 146,140,482, is shown as the number that it is stored as.
    outside = isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns"
    return (series.to_physical() if outside else series).filter(lost)[0]


def entries_of(dtype: pl.Map) -> pl.List:
    """A map as the list of its entries."""
    return pl.List(pl.Struct({"key": dtype.key, "value": dtype.value}))


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


def polars_type(name: str) -> DataType:
    """The polars type of a Delta primitive type's name."""
    return polars_schema(Schema.from_json(_one_field(name)))["x"]


def _one_field(name: str) -> str:
    return json.dumps({"type": "struct", "fields": [{"name": "x", "type": name, "nullable": True, "metadata": {}}]})


def polars_schema(schema: Schema) -> pl.Schema:
    """The columns of a Delta schema as polars has them."""
    return pl.Schema(schema)  # by way of pyarrow it would import pandas, where that is installed: 0.1 s
