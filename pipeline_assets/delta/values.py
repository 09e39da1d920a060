"""Values of the Python types that an IO manager takes and gives, as lazy frames and back."""

from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

OLDEST = pl.CompatLevel.oldest()
ROWS_PER_CHUNK = 131_072
"""Rows of a chunk of an Arrow table: `string` has 32-bit offsets, so a chunk holds 2 GiB of text at most."""


def to_lazy(value: Any) -> pl.LazyFrame:
    """A frame of any of the types that an IO manager takes; a reader is streamed, and can be read once."""
    if isinstance(value, pl.LazyFrame):
        return value
    if isinstance(value, pl.DataFrame):
        return value.lazy()
    if isinstance(value, pa.Table):
        return _frame_of(value.cast(_with_dates(value.schema))).lazy()
    return _of_reader(value)


def from_lazy(frame: pl.LazyFrame, type_: type) -> Any:
    """The value of a type that a frame is asked for as; a LazyFrame and a RecordBatchReader are not collected.

    Arrow values have the types that Delta's readers give: `string`, `binary`, `list`, not their large variants.
    """
    if issubclass(type_, pl.LazyFrame):
        return frame
    if issubclass(type_, pa.RecordBatchReader):
        return _to_reader(frame)
    collected = frame.collect(engine="streaming")
    if not issubclass(type_, pa.Table):
        return collected
    made = collected.to_arrow(compat_level=OLDEST)
    schema = small(made.schema)
    return pa.Table.from_batches([batch.cast(schema) for batch in made.to_batches(ROWS_PER_CHUNK)], schema)


def small(schema: pa.Schema) -> pa.Schema:
    """A schema with `string`, `binary` and `list` in place of their large variants, however deep."""
    return pa.schema([field.with_type(_small(field.type)) for field in schema])


def _small(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(type_):
        return pa.string()
    if pa.types.is_large_binary(type_):
        return pa.binary()
    if pa.types.is_large_list(type_):
        return pa.list_(type_.value_field.with_type(_small(type_.value_type)))
    if pa.types.is_map(type_):
        return pa.map_(_small(type_.key_type), type_.item_field.with_type(_small(type_.item_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_small(field.type)) for field in type_])
    return type_


def _with_dates(schema: pa.Schema) -> pa.Schema:
    """A schema with `date32` for `date64`, which polars would take for a time."""
    return pa.schema(
        [field.with_type(pa.date32()) if pa.types.is_date64(field.type) else field for field in schema],
    )


def _frame_of(value: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(value)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _of_reader(reader: pa.RecordBatchReader) -> pl.LazyFrame:
    schema = _with_dates(reader.schema)

    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        for batch in reader:
            frame = _frame_of(batch.cast(schema))
            frame = frame if limit is None else frame.head(limit)
            limit = None if limit is None else limit - frame.height
            frame = frame if predicate is None else frame.filter(predicate)
            yield frame if columns is None else frame.select(columns)
            if limit == 0:
                return

    return register_io_source(batches, schema=_frame_of(schema.empty_table()).schema)


def _to_reader(frame: pl.LazyFrame) -> pa.RecordBatchReader:
    schema = small(pl.DataFrame(schema=frame.collect_schema()).to_arrow(compat_level=OLDEST).schema)
    batches = (
        batch.cast(schema)
        for part in frame.collect_batches(engine="streaming")
        for batch in part.to_arrow(compat_level=OLDEST).to_batches(ROWS_PER_CHUNK)
    )
    return pa.RecordBatchReader.from_batches(schema, batches)
