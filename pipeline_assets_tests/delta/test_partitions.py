"""What a partition key means in a table, and how its values are spelled."""

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from deltalake.schema import PrimitiveType
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.delta.partitions import OneOf, Partition, Span, owners, read_value, rows_of, spell

DAY = dt.timedelta(days=1)
START = dt.date(2013, 1, 1)


def day(number: int) -> Partition:
    first = START + number * DAY
    return Partition(first.isoformat(), {"day": Span(first, first + DAY)})


VALUES = st.one_of(
    st.tuples(st.just("long"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just("boolean"), st.booleans()),
    st.tuples(st.just("date"), st.dates()),
    st.tuples(st.just("timestamp_ntz"), st.datetimes(dt.datetime(1000, 1, 1))),
    st.tuples(
        st.just("timestamp"), st.datetimes(dt.datetime(1000, 1, 1)).map(lambda one: one.replace(tzinfo=dt.timezone.utc))
    ),
    st.tuples(st.just("string"), st.text(min_size=1)),
    st.tuples(st.just("decimal(20,2)"), st.decimals(-(10**9), 10**9, places=2)),
)


@given(VALUES)
def test_a_value_comes_back_as_it_was_spelled(typed: tuple[str, Any]) -> None:
    kind, value = typed
    assert read_value(spell(value), PrimitiveType(kind)) == value


def test_nothing_and_an_empty_text_are_null() -> None:
    assert spell(None) is None
    assert read_value("", PrimitiveType("string")) is None


def test_a_span_holds_its_start_and_not_its_end() -> None:
    one = day(0)
    assert one.holds({"day": START})
    assert not one.holds({"day": START + DAY})
    assert not one.holds({"day": None})


def test_many_days_in_a_row_are_one_condition() -> None:
    condition = rows_of([day(number) for number in range(365)])
    assert str(condition).count("is_between") == 1


def test_days_with_a_gap_leave_it_out() -> None:
    frame = pl.DataFrame({"day": [START + number * DAY for number in range(4)]})
    condition = rows_of([day(0), day(2)])
    assert condition is not None
    assert frame.filter(condition)["day"].to_list() == [START, START + 2 * DAY]


def test_two_dimensions_are_not_mixed_up() -> None:
    one = Partition("a", {"day": Span(START, START + DAY), "color": OneOf(("red",))})
    other = Partition("b", {"day": Span(START + DAY, START + 2 * DAY), "color": OneOf(("blue",))})
    frame = pl.DataFrame({"day": [START, START, START + DAY, START + DAY], "color": ["red", "blue", "red", "blue"]})
    condition = rows_of([one, other])
    assert condition is not None
    assert frame.filter(condition).rows() == [(START, "red"), (START + DAY, "blue")]


def test_a_whole_table_needs_no_condition() -> None:
    assert rows_of([Partition("*", {})]) is None


@given(st.lists(st.integers(0, 30), min_size=1))
def test_each_row_has_its_owner(days: list[int]) -> None:
    owner = owners([day(number) for number in range(20)])
    for number in days:
        expected = (START + number * DAY).isoformat() if number < 20 else None
        assert owner({"day": START + number * DAY}) == expected


@pytest.mark.parametrize("value", ["a", 1, True, Decimal("1.0")])
def test_a_value_belongs_to_itself(value: Any) -> None:
    assert OneOf((value,)).holds(value)
