"""What is cast on purpose, what is refused by name, and what comes back."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import Field, Schema
from deltalake.schema import PrimitiveType

from pipeline_assets.delta.type_errors import BadColumnName, SchemaChanged, UnsupportedType, ValueLost
from pipeline_assets.delta.types import (
    bad_partition_value,
    check_partition_columns,
    conform,
    delta_schema,
    from_lazy,
    gate,
    polars_type,
    to_lazy,
)
from pipeline_assets.errors import ConfigurationError

FRAME = pl.DataFrame({"n": [1, 2], "s": ["a", None]})


def gated(series: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"x": series}).lazy()
    return gate(frame, frame.collect_schema()).collect()["x"]


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


@pytest.mark.parametrize(
    ("values", "dtype", "target"),
    [
        ([1, 255], pl.UInt8, pl.Int16),
        ([1, 2**32 - 1], pl.UInt32, pl.Int64),
        ([1, 2**63 - 1], pl.UInt64, pl.Int64),
        (["a", "b"], pl.Categorical, pl.String),
        (["a"], pl.Enum(["a", "b"]), pl.String),
        ([[1, 2]], pl.Array(pl.Int64, 2), pl.List(pl.Int64)),
        ([dt.datetime(2013, 1, 1)], pl.Datetime("ms"), pl.Datetime("us")),
        ([{"a": 1}], pl.Struct({"a": pl.UInt8}), pl.Struct({"a": pl.Int16})),
    ],
)
def test_what_delta_has_not_is_cast_without_loss(values: list[Any], dtype: Any, target: Any) -> None:
    made = gated(pl.Series(values, dtype=dtype))
    assert made.dtype == target
    assert made.to_list() == values


def test_another_time_zone_is_the_same_instant() -> None:
    berlin = pl.Series([dt.datetime(2013, 7, 1, 12)]).dt.replace_time_zone("Europe/Berlin")
    assert gated(berlin).to_list() == [dt.datetime(2013, 7, 1, 10, tzinfo=dt.timezone.utc)]


@pytest.mark.parametrize(
    "series",
    [
        pl.Series([2**63], dtype=pl.UInt64),
        pl.Series([1], dtype=pl.Int64).cast(pl.Datetime("ns")),
        pl.Series([[2**63]], dtype=pl.List(pl.UInt64)),
        pl.Series([{"a": 2**63}], dtype=pl.Struct({"a": pl.UInt64})),
        pl.Series([[1]], dtype=pl.List(pl.Int64)).cast(pl.List(pl.Datetime("ns"))),
    ],
)
def test_a_value_that_would_be_cut_is_refused_by_column(series: pl.Series) -> None:
    with pytest.raises((ValueLost, pl.exceptions.PolarsError)) as caught:
        gated(series)
    assert "'x'" in str(caught.value)
    assert "Nothing was written" in str(caught.value)


@pytest.mark.parametrize(
    "series",
    [
        pl.Series([object()], dtype=pl.Object),
        pl.Series([dt.timedelta(1)]),
        pl.Series([dt.time(1)]),
        pl.Series([1], dtype=pl.Int128),
        pl.Series([None]),
        pl.Series([[dt.timedelta(1)]]),
        pl.Series([{"a": dt.time(1)}]),
    ],
)
def test_a_type_that_delta_has_not_is_refused_by_name(series: pl.Series) -> None:
    with pytest.raises(UnsupportedType, match="'x"):
        gated(series)


@pytest.mark.parametrize("names", [["a b"], ["a,b"], ["a=b"], [""], ["A", "a"]])
def test_a_name_that_delta_does_not_take_is_refused(names: list[str]) -> None:
    frame = pl.DataFrame({name: [1] for name in names}).lazy()
    with pytest.raises(BadColumnName):
        gate(frame, frame.collect_schema())


def table(**columns: Any) -> Schema:
    return delta_schema(pl.Schema(columns))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"a": [1], "b": [1]}, "added b"),
        ({"b": [1]}, "removed a"),
        ({"a": ["x"]}, r"retyped a \(from long to string\)"),
        ({"a": [1.5]}, r"retyped a \(from long to double\)"),
    ],
)
def test_other_columns_are_refused_with_the_difference(frame: dict[str, Any], said: str) -> None:
    with pytest.raises(SchemaChanged, match=said) as caught:
        conform(pl.LazyFrame(frame), table(a=pl.Int64))
    assert "schema_mode" in str(caught.value)


def test_the_columns_order_is_the_table_s() -> None:
    made = conform(pl.LazyFrame({"b": [1], "a": ["x"]}), table(a=pl.String, b=pl.Int64))
    assert made.frame.collect().columns == ["a", "b"]
    assert not made.changed


@pytest.mark.parametrize(("own", "there"), [(pl.Int32, pl.Int64), (pl.Float32, pl.Float64), (pl.Int8, pl.Int32)])
def test_a_narrower_type_is_widened_into_the_table_s(own: Any, there: Any) -> None:
    made = conform(pl.LazyFrame({"a": [1]}, schema={"a": own}), table(a=there))
    assert made.frame.collect_schema()["a"] == there
    assert not made.changed


def test_merge_adds_columns_and_fills_the_missing() -> None:
    made = conform(pl.LazyFrame({"a": [1], "c": ["x"]}), table(a=pl.Int64, b=pl.Date), allow="merge")
    assert made.frame.collect().rows() == [(1, None, "x")]
    assert (made.changed, list(made.added)) == (True, ["c"])


def test_merge_does_not_retype() -> None:
    with pytest.raises(SchemaChanged, match="overwrite"):
        conform(pl.LazyFrame({"a": ["x"]}), table(a=pl.Int64), allow="merge")


def test_overwrite_takes_the_frame_s_columns() -> None:
    made = conform(pl.LazyFrame({"c": ["x"]}), table(a=pl.Int64), allow="overwrite")
    assert [one.name for one in made.schema.fields] == ["c"]


def test_a_missing_not_null_column_is_refused() -> None:
    there = Schema([Field("a", PrimitiveType("long")), Field("b", PrimitiveType("long"), nullable=False)])
    with pytest.raises(SchemaChanged, match="removed b"):
        conform(pl.LazyFrame({"a": [1]}), there, allow="merge")


def test_not_null_stays_not_null() -> None:
    there = Schema([Field("a", PrimitiveType("long"), nullable=False)])
    assert not conform(pl.LazyFrame({"a": [1]}), there).schema.fields[0].nullable


@pytest.mark.parametrize(
    ("schema", "columns", "said"),
    [
        ({"a": pl.Int64}, ["k"], "no column of the frame"),
        ({"a": pl.Int64, "k": pl.Float64}, ["k"], "Float64"),
        ({"k": pl.String}, ["k"], "beside its partition columns"),
    ],
)
def test_a_partition_column_that_cannot_be_one_is_refused(schema: Any, columns: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_partition_columns(pl.Schema(schema), columns)


@pytest.mark.parametrize("value", [None, "", "__HIVE_DEFAULT_PARTITION__"])
def test_a_partition_value_that_would_become_null_is_refused(value: Any) -> None:
    assert bad_partition_value(value) is not None


@pytest.mark.parametrize("value", ["x", 0, False, dt.date(2013, 1, 1), " "])
def test_other_partition_values_are_fine(value: Any) -> None:
    assert bad_partition_value(value) is None


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("long", pl.Int64),
        ("date", pl.Date),
        ("timestamp", pl.Datetime("us", "UTC")),
        ("decimal(10,2)", pl.Decimal(10, 2)),
    ],
)
def test_delta_s_type_names_are_understood(name: str, dtype: Any) -> None:
    assert polars_type(name) == dtype


def test_decimals_keep_their_scale() -> None:
    series = pl.Series([Decimal("1.50")], dtype=pl.Decimal(20, 2))
    assert gated(series).dtype == pl.Decimal(20, 2)
