from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.stages.carrier_scorecard import carrier_scorecard
from pipeline_assets.stages.schemas import CARRIER_SCORECARD, ROUTE_DELAYS


def routes(*rows: tuple[int, str, int, int, int, int, int]) -> pl.LazyFrame:
    """Route delays: day of May, carrier, flights, cancelled, arrived, late, total delay."""
    full = [(date(2013, 5, day), carrier, "EWR", "IAH", *counts, None, None, None) for day, carrier, *counts in rows]
    return pl.LazyFrame(full, schema=ROUTE_DELAYS.schema, orient="row")


def test_a_flight_weighs_the_same_on_a_busy_day_and_on_a_quiet_one() -> None:
    made = carrier_scorecard(routes((1, "UA", 9, 0, 9, 0, 0), (2, "UA", 1, 0, 1, 1, 100))).collect()
    row = made.row(0, named=True)
    assert (row["days"], row["flights"], row["mean_arrival_delay"], row["share_late"]) == (2, 10, 10.0, 0.1)


def test_two_routes_of_a_day_are_one_day() -> None:
    made = carrier_scorecard(routes((1, "UA", 1, 0, 1, 0, 0), (1, "UA", 1, 0, 1, 0, 0))).collect()
    assert made["days"].item() == 1


def test_equal_shares_are_ranked_by_delay_and_then_by_code() -> None:
    made = carrier_scorecard(
        routes(
            (1, "ZZ", 1, 0, 1, 0, -5),
            (1, "BB", 1, 0, 1, 0, 3),
            (1, "AA", 1, 0, 1, 0, 3),
            (1, "CC", 1, 0, 1, 1, 20),
        )
    ).collect()
    assert list(zip(made["rank"], made["carrier"], strict=True)) == [
        (1, "ZZ"),
        (2, "AA"),
        (3, "BB"),
        (4, "CC"),
    ]


def test_a_carrier_that_never_arrived_comes_last() -> None:
    made = carrier_scorecard(routes((1, "AA", 2, 2, 0, 0, 0), (1, "BB", 1, 0, 1, 1, 500))).collect()
    assert made["carrier"].to_list() == ["BB", "AA"]
    assert made["mean_arrival_delay"].to_list() == [500.0, None]
    assert made["share_cancelled"].to_list() == [0.0, 1.0]


def test_no_routes_give_an_empty_scorecard_of_the_schema() -> None:
    none = carrier_scorecard(routes()).collect()
    assert none.is_empty()
    assert none.schema == CARRIER_SCORECARD.schema


def test_the_year_ranks_sixteen_carriers_hawaiian_first(year: dict[str, pl.DataFrame]) -> None:
    card = year["carrier_scorecard"]
    best_first = [
        "HA",
        "AS",
        "VX",
        "US",
        "DL",
        "AA",
        "UA",
        "OO",
        "9E",
        "WN",
        "B6",
        "MQ",
        "EV",
        "YV",
        "FL",
        "F9",
    ]
    assert card["carrier"].to_list() == best_first
    assert card["rank"].to_list() == list(range(1, 17))
    assert card["mean_arrival_delay"][0] == pytest.approx(-6.915, abs=0.001)


def test_the_scorecard_agrees_with_the_flights_themselves(year: dict[str, pl.DataFrame]) -> None:
    by_carrier = (
        year["departures"]
        .group_by("carrier")
        .agg(
            flights=pl.len().cast(pl.Int64),
            cancelled=pl.col("dep_time").is_null().sum().cast(pl.Int64),
            mean_arrival_delay=pl.col("arr_delay").mean(),
            share_late=(pl.col("arr_delay").drop_nulls() >= 15).mean(),
        )
    )
    columns = by_carrier.columns
    assert_frame_equal(year["carrier_scorecard"].select(columns), by_carrier, check_row_order=False)
