from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.stages.departures import departures
from pipeline_assets.stages.legs import legs
from pipeline_assets.stages.schemas import LEGS

from .lookups import AIRLINES, AIRPORTS, PLANES, WEATHER_HOURS_THEN

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)


def utc(month: int, day: int, hour: int, minute: int) -> datetime:
    return datetime(2013, month, day, hour, minute, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def by_flight(picked: pl.LazyFrame) -> dict[int, dict[str, object]]:
    """The legs of the picked flights, by flight number."""
    made = legs(departures(picked, FIRST, LAST), WEATHER_HOURS_THEN, PLANES, AIRPORTS, AIRLINES).collect()
    assert made.schema == LEGS.schema
    return {row["flight"]: row for row in made.iter_rows(named=True)}


def test_an_ordinary_flight_has_its_instants_its_aircraft_and_its_weather(
    by_flight: dict[int, dict[str, object]],
) -> None:
    leg = by_flight[1545]
    assert (leg["scheduled_departure"], leg["actual_departure"]) == (utc(1, 1, 10, 15), utc(1, 1, 10, 17))
    assert (leg["scheduled_arrival"], leg["actual_arrival"]) == (utc(1, 1, 14, 19), utc(1, 1, 14, 30))
    assert (leg["carrier_name"], leg["aircraft_model"], leg["temperature"]) == (
        "United Air Lines Inc.",
        "737-824",
        39.0,
    )
    assert (leg["status"], leg["notes"]) == ("flown", [])


def test_a_flight_delayed_by_21_hours_leaves_on_the_next_day(by_flight: dict[int, dict[str, object]]) -> None:
    leg = by_flight[51]
    assert leg["actual_departure"] == utc(1, 10, 11, 41)
    assert leg["actual_arrival"] == utc(1, 10, 22, 42)
    assert "departed_on_a_later_day" in leg["notes"]  # type: ignore[operator]


def test_a_departure_after_midnight_belongs_to_the_day_of_its_schedule(
    by_flight: dict[int, dict[str, object]],
) -> None:
    leg = by_flight[707]
    assert leg["flight_date"] == date(2013, 1, 3)
    assert leg["actual_departure"] == utc(1, 4, 5, 32)
    assert leg["actual_arrival"] == utc(1, 4, 9, 4)  # San Juan is an hour ahead


def test_2400_is_the_next_days_first_minute(by_flight: dict[int, dict[str, object]]) -> None:
    leg = by_flight[1635]
    assert leg["actual_arrival"] == utc(2, 7, 4, 0)
    assert {"arrival_at_2400", "dest_not_in_airports", "aircraft_not_an_airliner"} <= set(leg["notes"])  # type: ignore[call-overload]


def test_a_cessna_does_not_fly_to_san_juan(by_flight: dict[int, dict[str, object]]) -> None:
    leg = by_flight[1635]
    assert leg["tailnum"] == "N5CAAA"
    assert {leg[name] for name in LEGS.columns if name.startswith("aircraft_")} == {None}


def test_a_diverted_flight_arrives_when_the_clock_next_shows_its_arrival(
    by_flight: dict[int, dict[str, object]],
) -> None:
    leg = by_flight[3325]
    assert leg["status"] == "diverted"
    assert leg["actual_arrival"] == utc(1, 2, 6, 29)
    assert leg["arrival_delay"] is None


def test_an_arrival_in_the_hour_that_the_clocks_skip_follows_from_the_delay(
    by_flight: dict[int, dict[str, object]],
) -> None:
    leg = by_flight[35]
    assert leg["scheduled_arrival"] == utc(3, 10, 5, 34)
    assert leg["actual_arrival"] == utc(3, 10, 7, 3)
    assert "arrival_clock_impossible" in leg["notes"]  # type: ignore[operator]


def test_a_cancelled_flight_keeps_its_schedule_and_has_nothing_else(
    by_flight: dict[int, dict[str, object]],
) -> None:
    leg = by_flight[1632]
    assert leg["status"] == "cancelled"
    assert (leg["scheduled_departure"], leg["scheduled_arrival"]) == (utc(7, 27, 5, 6), utc(7, 27, 6, 45))
    assert (leg["actual_departure"], leg["actual_arrival"], leg["tailnum"]) == (None, None, None)


@pytest.mark.parametrize("lookup", ["planes", "airports", "airlines", "weather_hours"])
def test_a_lookup_with_a_key_twice_is_refused_instead_of_multiplying_flights(picked: pl.LazyFrame, lookup: str) -> None:
    inputs = {
        "weather_hours": WEATHER_HOURS_THEN,
        "planes": PLANES,
        "airports": AIRPORTS,
        "airlines": AIRLINES,
    }
    inputs[lookup] = pl.concat([inputs[lookup], inputs[lookup]])
    with pytest.raises(pl.exceptions.ComputeError, match="m:1"):
        legs(departures(picked, FIRST, LAST), **inputs).collect()


def test_a_destination_that_nobody_knows_keeps_its_row_without_an_arrival(picked: pl.LazyFrame) -> None:
    moved = departures(picked, FIRST, FIRST).with_columns(dest=pl.lit("XXX"))
    made = legs(moved, WEATHER_HOURS_THEN, PLANES, AIRPORTS, AIRLINES).collect()
    assert made.height == 2
    assert made["scheduled_arrival"].null_count() == 2
    assert all("dest_not_in_airports" in row for row in made["notes"].to_list())


def test_no_flight_of_the_year_vanishes_or_doubles(year: dict[str, pl.DataFrame]) -> None:
    key = list(LEGS.key)
    assert_frame_equal(
        year["legs"].select(key).sort(key), year["departures"].select(key).sort(key), check_column_order=True
    )


def test_the_status_of_every_flight_of_the_year(year: dict[str, pl.DataFrame]) -> None:
    counts = dict(year["legs"]["status"].value_counts().iter_rows())
    assert counts == {"flown": 327_346, "cancelled": 8_255, "diverted": 717, "not_arrived": 458}


def test_departures_are_in_the_utc_hour_that_the_source_names(year: dict[str, pl.DataFrame]) -> None:
    hours = year["legs"].join(year["departures"], on=list(LEGS.key), validate="1:1")
    assert hours.filter(pl.col("scheduled_departure").dt.truncate("1h") != pl.col("time_hour")).is_empty()


def test_arrivals_show_the_sources_clock_time_by_pythons_time_zones(year: dict[str, pl.DataFrame]) -> None:
    both = year["legs"].join(year["departures"].select(*LEGS.key, "arr_time"), on=list(LEGS.key), validate="1:1")
    arrived = both.filter(pl.col("actual_arrival").is_not_null()).gather_every(97)
    for leg in arrived.iter_rows(named=True):
        shown = leg["actual_arrival"].astimezone(ZoneInfo(leg["dest_zone"]))
        assert shown.hour * 100 + shown.minute == leg["arr_time"] % 2400, leg
    assert arrived.height > 3_000


def test_delays_are_the_differences_of_the_instants(year: dict[str, pl.DataFrame]) -> None:
    for end in ("departure", "arrival"):
        late = (pl.col(f"actual_{end}") - pl.col(f"scheduled_{end}")).dt.total_minutes()
        assert year["legs"].filter(late != pl.col(f"{end}_delay")).is_empty()


def test_every_flown_flight_was_on_its_way_longer_than_in_the_air(year: dict[str, pl.DataFrame]) -> None:
    taxiing = (pl.col("actual_arrival") - pl.col("actual_departure")) - pl.duration(minutes="air_time")
    shortest, longest = year["legs"].select(taxiing.min().alias("low"), taxiing.max().alias("high")).row(0)
    assert (shortest, longest) == (timedelta(minutes=5), timedelta(minutes=235))


def test_the_same_rows_come_out_whatever_the_order_they_come_in(
    year: dict[str, pl.DataFrame], make_legs: Callable[[date, date], pl.LazyFrame]
) -> None:
    day = date(2013, 3, 9)
    lookups = (WEATHER_HOURS_THEN, PLANES, AIRPORTS, AIRLINES)
    flights = year["departures"].filter(pl.col("flight_date") == day)
    made = legs(flights.lazy(), *lookups).collect()
    shuffled = legs(flights.sample(fraction=1, shuffle=True, seed=1).lazy(), *lookups).collect(engine="streaming")
    assert_frame_equal(made, shuffled)


def test_days_made_one_by_one_are_the_days_made_at_once(
    year: dict[str, pl.DataFrame], make_legs: Callable[[date, date], pl.LazyFrame]
) -> None:
    days = [date(2013, 11, day) for day in (2, 3, 4)]
    single = pl.concat([make_legs(day, day).collect() for day in days])
    assert_frame_equal(single, year["legs"].filter(pl.col("flight_date").is_in(days)))
