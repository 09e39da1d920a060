"""Values in, values out: what a stage returns and what another asks for."""

import datetime as dt
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pytest

from pipeline_assets.delta.values import from_lazy, to_lazy

FRAME = pl.DataFrame({"n": [1, 2], "s": ["a", None]})


@pytest.mark.parametrize("type_", [pl.LazyFrame, pl.DataFrame, pa.Table, pa.RecordBatchReader])
def test_a_value_of_each_type_comes_back_as_it_was(type_: type) -> None:
    value = from_lazy(FRAME.lazy(), type_)
    assert isinstance(value, type_)
    assert to_lazy(value).collect().equals(FRAME)


def test_a_reader_is_streamed_not_collected() -> None:
    taken = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(1000):
            taken.append(number)
            yield pa.record_batch({"n": [number] * 1000})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"n": pa.int64()}), batches())
    assert to_lazy(reader).head(10).collect(engine="streaming").height == 10
    assert len(taken) < 1000


@pytest.mark.parametrize("type_", [pa.Table, pa.RecordBatchReader])
def test_arrow_values_have_the_types_that_delta_s_readers_give(type_: type) -> None:
    """So that they can be joined and concatenated with tables that a person makes."""
    inner = pa.struct([pa.field("text", pa.string()), pa.field("more", pa.list_(pa.string()))])
    schema = pa.schema({"text": pa.string(), "raw": pa.binary(), "deep": pa.list_(inner)})
    rows = [{"text": "a", "raw": b"b", "deep": [{"text": "c", "more": ["d"]}]}]
    made = from_lazy(to_lazy(pa.Table.from_pylist(rows, schema)), type_)
    found = made if type_ is pa.Table else made.read_all()
    assert [field.type for field in found.schema][:2] == [pa.string(), pa.binary()]
    assert found.schema.field("deep").type.value_type == inner
    assert found.to_pylist() == rows


def test_a_table_of_no_rows_has_its_columns() -> None:
    assert from_lazy(FRAME.head(0).lazy(), pa.Table).schema.names == ["n", "s"]


def test_a_date_of_64_bits_is_a_date() -> None:
    table = pa.table({"day": pa.array([dt.date(2013, 1, 1)], pa.date64())})
    for value in (table, table.to_reader()):
        assert to_lazy(value).collect()["day"].to_list() == [dt.date(2013, 1, 1)]
