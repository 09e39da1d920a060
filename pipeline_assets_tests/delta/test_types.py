"""What is cast on purpose, what is refused by name, and what comes back."""

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from deltalake import Field, Schema
from deltalake.schema import ArrayType, PrimitiveType

from pipeline_assets.delta.schema import conform
from pipeline_assets.delta.type_errors import BadColumnName, UnsupportedType, ValueLost
from pipeline_assets.delta.types import gate, polars_type


def gated(series: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"x": series}).lazy()
    return gate(frame, frame.collect_schema()).collect()["x"]


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
        ([{"a": 1}, None], pl.Map(pl.String, pl.UInt8), pl.Map(pl.String, pl.Int16)),
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
    ("values", "dtype", "there"),
    [
        ([None, None], pl.Null, PrimitiveType("string")),
        ([None], pl.Null, PrimitiveType("timestamp")),
        ([1, 255], pl.UInt8, PrimitiveType("short")),
        ([1, 127], pl.UInt8, PrimitiveType("byte")),
        ([7], pl.UInt32, PrimitiveType("integer")),
        ([[]], pl.List(pl.Null), ArrayType(PrimitiveType("long"), contains_null=True)),
    ],
)
def test_what_has_no_type_in_delta_takes_the_table_s(values: list[Any], dtype: Any, there: Any) -> None:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)}).lazy()
    table = Schema([Field("x", there)])
    fitting = conform(gate(frame, frame.collect_schema(), table), table)
    assert (fitting.changed, fitting.frame.collect()["x"].to_list()) == (False, values)


def test_an_unsigned_number_that_the_table_cannot_hold_is_refused() -> None:
    frame = pl.DataFrame({"x": pl.Series([200], dtype=pl.UInt8)}).lazy()
    with pytest.raises((ValueLost, pl.exceptions.PolarsError), match="200"):
        gate(frame, frame.collect_schema(), Schema([Field("x", PrimitiveType("byte"))])).collect()


@pytest.mark.parametrize(
    "series",
    [
        pl.Series([2**63], dtype=pl.UInt64),
        pl.Series([1], dtype=pl.Int64).cast(pl.Datetime("ns")),
        pl.Series([[2**63]], dtype=pl.List(pl.UInt64)),
        pl.Series([{"a": 2**63}], dtype=pl.Struct({"a": pl.UInt64})),
        pl.Series([[1]], dtype=pl.List(pl.Int64)).cast(pl.List(pl.Datetime("ns"))),
        pl.Series([{"a": 2**63}], dtype=pl.Map(pl.String, pl.UInt64)),
        pl.Series([2**62], dtype=pl.Int64).cast(pl.Datetime("ms")),
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
        pl.Series([{"a": dt.time(1)}], dtype=pl.Map(pl.String, pl.Time)),
        pl.Series([{}], dtype=pl.Struct({})),
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
    nested = pl.DataFrame({"x": [dict.fromkeys(names, 1)]}).lazy()
    with pytest.raises(BadColumnName):
        gate(nested, nested.collect_schema())


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
