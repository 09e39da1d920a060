"""A frame's columns beside its table's: what fits, what is added, what is refused and how it would be allowed."""

import datetime as dt
from typing import Any

import polars as pl
import pytest
from deltalake import Field, Schema
from deltalake.schema import PrimitiveType

from pipeline_assets.delta.schema import bad_partition_value, check_partition_columns, conform, delta_schema
from pipeline_assets.delta.type_errors import SchemaChanged
from pipeline_assets.errors import ConfigurationError


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


def test_the_setting_that_is_named_is_one_that_allows_it() -> None:
    """Where other rows of the table stay, a column is added or left out by `merge`, and retyped by nothing."""
    for frame in ({"a": [1], "b": [1], "c": [1]}, {"a": [1]}):
        with pytest.raises(SchemaChanged, match="'schema_mode': 'merge'"):
            conform(pl.LazyFrame(frame), table(a=pl.Int64, b=pl.Int64), replaces_all=False)
        assert conform(pl.LazyFrame(frame), table(a=pl.Int64, b=pl.Int64), "merge", replaces_all=False)
    for allow in ("never", "merge", "overwrite"):
        with pytest.raises(SchemaChanged, match="needs a new table"):
            conform(pl.LazyFrame({"a": ["x"]}), table(a=pl.Int64), allow, replaces_all=False)


def test_what_differs_deep_inside_is_shown() -> None:
    with pytest.raises(SchemaChanged, match=r"from Struct\({'b': Int64}\) to Struct\({'b': String}\)"):
        conform(pl.LazyFrame({"a": [{"b": "x"}]}), table(a=pl.Struct({"b": pl.Int64})))


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
