"""A frame's columns beside those of its table: what fits, what is added, and what is refused with the difference."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import polars as pl
from deltalake import Field, Schema
from polars.datatypes import DataType

from pipeline_assets.delta.partitions import HIVE_NULL
from pipeline_assets.delta.type_errors import SchemaChanged
from pipeline_assets.delta.types import polars_schema
from pipeline_assets.errors import ConfigurationError

_WIDER = {
    "byte": {"short", "integer", "long", "float", "double"},
    "short": {"integer", "long", "float", "double"},
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


def delta_schema(schema: pl.Schema) -> Schema:
    """The Delta schema of a frame that went through `gate`."""
    return _of_columns(tuple(schema.items()))


@lru_cache(maxsize=256)
def _of_columns(columns: tuple[tuple[str, DataType], ...]) -> Schema:
    schema = pl.Schema(columns)
    return Schema.from_arrow(pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema)


def conform(
    frame: pl.LazyFrame,
    table_schema: Schema,
    allow: Literal["never", "merge", "overwrite"] = "never",
    *,
    output: str = "The frame",
    replaces_all: bool = True,
) -> Conformed:
    """Fit a frame that went through `gate` to a table. Raises SchemaChanged with the difference.

    `merge` lets columns be added, and fills missing ones with NULL; `overwrite` takes the frame's schema, where all rows
    of the table are replaced (replaces_all), and is `merge` elsewhere. A type that the table's holds without loss is cast
    in any case.
    """
    schema = frame.collect_schema()
    own = {one.name: one for one in delta_schema(schema).fields}
    there = {one.name: one for one in table_schema.fields}
    added = [name for name in own if name not in there]
    removed = [name for name in there if name not in own]
    retyped = [name for name in own if name in there and not _fits(own[name], there[name])]
    if allow == "overwrite" and replaces_all and (added or removed or retyped):
        return Conformed(frame, delta_schema(schema), True, added, removed, retyped)
    missing = [name for name in removed if not there[name].nullable]
    if retyped or missing or ((added or removed) and allow == "never"):
        described = [f"{name} (from {_shown(there[name])} to {_shown(own[name])})" for name in retyped]
        allowing = "overwrite" if replaces_all else None
        raise SchemaChanged(
            output=output,
            added=added,
            removed=removed,
            retyped=described,
            setting=allowing if retyped or missing else "merge",
        )
    fields = [*table_schema.fields, *(own[name] for name in added)]
    target = polars_schema(Schema(fields))
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


def type_name(one: Field) -> str:
    """The name of a column's type in Delta: `long`, `date`, `array`, …."""
    return str(getattr(one.type, "type", one.type))


def _shown(one: Field) -> str:
    kind = type_name(one)
    return str(polars_schema(Schema([one]))[one.name]) if kind in ("struct", "array", "map") else kind


def _fits(own: Field, there: Field) -> bool:
    if own.type == there.type or own.type.to_json() == there.type.to_json():
        return True
    if type_name(there) in _WIDER.get(type_name(own), ()):
        return True
    return polars_schema(Schema([Field("x", own.type)])) == polars_schema(Schema([Field("x", there.type)]))
