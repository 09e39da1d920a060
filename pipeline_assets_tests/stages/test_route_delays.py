from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.stages.route_delays import route_delays
from pipeline_assets.stages.schemas import ROUTE_DELAYS

DAY = date(2013, 5, 1)


def flights(*delays: int | None, status: str = "flown") -> pl.LazyFrame:
    """Legs of one carrier on one route, with these arrival delays."""
    columns = {"flight_date": pl.Date, "carrier": pl.String, "origin": pl.String, "dest": pl.String}
    rows = [(DAY, "UA", "EWR", "IAH", status, delay) for delay in delays]
    return pl.LazyFrame(rows, schema={**columns, "status": pl.String, "arrival_delay": pl.Int32}, orient="row")


def only(legs: pl.LazyFrame) -> dict[str, object]:
    return route_delays(legs).collect().row(0, named=True)


@pytest.mark.parametrize(("delay", "late"), [(14, 0), (15, 1), (-60, 0)])
def test_a_flight_is_late_from_15_minutes_on(delay: int, late: int) -> None:
    assert only(flights(delay))["late"] == late


def test_early_flights_lower_the_mean_and_the_p90_lies_between_two_flights() -> None:
    row = only(flights(-10, 0, 10, 20, 40))
    assert (row["mean_arrival_delay"], row["p90_arrival_delay"], row["share_late"]) == (12.0, 32.0, 0.4)


def test_cancelled_and_diverted_flights_count_as_flights_and_have_no_delay() -> None:
    row = only(pl.concat([flights(30), flights(None, status="cancelled"), flights(None, status="diverted")]))
    assert (row["flights"], row["cancelled"], row["arrived"], row["mean_arrival_delay"]) == (3, 1, 1, 30.0)


def test_a_route_on_which_nobody_arrived_has_null_and_not_nan() -> None:
    row = only(flights(None, None, status="cancelled"))
    assert [row[name] for name in ("mean_arrival_delay", "p90_arrival_delay", "share_late")] == [None] * 3
    assert (row["flights"], row["cancelled"], row["total_arrival_delay"]) == (2, 2, 0)


def test_no_legs_give_no_routes_of_the_schema() -> None:
    none = route_delays(flights()).collect()
    assert none.is_empty()
    assert none.schema == ROUTE_DELAYS.schema


def test_every_flight_of_the_year_is_in_one_route(year: dict[str, pl.DataFrame]) -> None:
    routes = year["route_delays"]
    assert routes["flights"].sum() == 336_776
    assert routes["cancelled"].sum() == 8_255
    assert routes["arrived"].sum() == 327_346
    assert routes.select(ROUTE_DELAYS.key).n_unique() == routes.height


def test_the_mean_of_the_year_is_the_mean_of_the_source(year: dict[str, pl.DataFrame]) -> None:
    routes = year["route_delays"]
    mean = routes.select(pl.col("total_arrival_delay").sum() / pl.col("arrived").sum()).item()
    assert mean == pytest.approx(year["departures"]["arr_delay"].mean())


def test_the_bits_do_not_depend_on_the_order_or_the_engine(year: dict[str, pl.DataFrame]) -> None:
    legs = year["legs"].filter(pl.col("flight_date").dt.month() == 7)
    shuffled = legs.sample(fraction=1, shuffle=True, seed=2)
    assert_frame_equal(
        route_delays(legs.lazy()).collect(),
        route_delays(shuffled.lazy()).collect(engine="streaming"),
        check_exact=True,
    )
