from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.stages import source
from pipeline_assets.stages.departures import departures
from pipeline_assets.stages.schemas import DEPARTURES
from pipeline_assets.stages.weather_hours import weather_hours

NEW_YEAR = date(2013, 1, 1)


def test_days_are_taken_from_the_first_to_the_last_included(picked: pl.LazyFrame) -> None:
    taken = departures(picked, date(2013, 1, 3), date(2013, 2, 6)).collect()
    assert taken["flight_date"].to_list() == [date(2013, 1, 3), date(2013, 1, 9), date(2013, 2, 6)]


def test_days_without_flights_give_an_empty_frame_of_the_schema(picked: pl.LazyFrame) -> None:
    none = departures(picked, date(2014, 1, 1), date(2014, 1, 7)).collect()
    assert none.is_empty()
    assert none.schema == DEPARTURES.schema


def test_clock_times_stay_as_the_source_writes_them(picked: pl.LazyFrame) -> None:
    taken = departures(picked, date(2013, 2, 6), date(2013, 2, 6)).collect()
    assert taken["arr_time"].item() == 2400


def test_the_year_has_every_flight_once(cache: Path, year: dict[str, pl.DataFrame]) -> None:
    made = year["departures"]
    assert made.height == 336_776
    assert made.select(DEPARTURES.key).n_unique() == made.height
    assert made["distance"].sum() == source.read_flights(cache).select(pl.col("distance").sum()).collect().item()


def test_hour_and_minute_of_the_source_are_the_digits_of_the_schedule(cache: Path) -> None:
    differing = source.read_flights(cache).filter(pl.col("hour") * 100 + pl.col("minute") != pl.col("sched_dep_time"))
    assert differing.collect().is_empty()


def test_days_made_one_by_one_are_the_days_made_at_once(cache: Path) -> None:
    flights, days = source.read_flights(cache), [date(2013, 3, day) for day in (9, 10, 11)]
    single = pl.concat([departures(flights, day, day).collect() for day in days])
    assert_frame_equal(single, departures(flights, days[0], days[-1]).collect())


def test_the_repeated_hour_of_november_is_two_hours(cache: Path) -> None:
    night = weather_hours(source.read_weather(cache), date(2013, 11, 3), date(2013, 11, 3)).collect()
    new_york = pl.col("hour_start").dt.convert_time_zone("America/New_York")
    one_o_clock = night.filter(new_york.dt.hour() == 1)
    assert one_o_clock.height == 6
    assert one_o_clock.select("origin", "hour_start").n_unique() == 6


def test_the_local_date_of_every_hour_is_its_flight_date(year: dict[str, pl.DataFrame]) -> None:
    local = pl.col("hour_start").dt.convert_time_zone("America/New_York").dt.date()
    assert year["weather_hours"].filter(local != pl.col("flight_date")).is_empty()


def test_the_last_day_of_the_year_has_no_weather_and_that_is_no_error(cache: Path) -> None:
    last = date(2013, 12, 31)
    assert weather_hours(source.read_weather(cache), last, last).collect().is_empty()


def test_a_date_that_does_not_exist_is_an_error_and_not_a_lost_flight(picked: pl.LazyFrame) -> None:
    with pytest.raises(pl.exceptions.ComputeError, match="Invalid date"):
        departures(picked.with_columns(day=pl.lit(32)), NEW_YEAR, NEW_YEAR).collect()
