"""Stage 2: hourly weather at the three airports."""

from datetime import date

import polars as pl

from pipeline_assets.stages.schemas import WEATHER_HOURS

POSSIBLE_WIND = 200.0
"""mph. The strongest wind ever measured at the surface is 253, a cyclone's; the data's own next largest is 43."""
_NAMES = {
    "time_hour": "hour_start",
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "precip": "precipitation",
    "visib": "visibility",
}


def weather_hours(weather: pl.LazyFrame, first: date, last: date) -> pl.LazyFrame:
    """The observations of the days from `first` to `last`, both included; one row an airport and hour.

    Columns and dtypes: `schemas.WEATHER_HOURS`. Days are New York's. The source's local hour occurs twice in
    the night that daylight saving ends; its UTC instant does not, so the instant names the hour and both rows
    stay. An hour that was not observed has no row, and 2013-12-31 has none at all: nothing is made up. A wind that
    cannot be is null.
    """
    day = pl.date("year", "month", "day")
    kept = weather.filter(day.is_between(first, last)).with_columns(day.alias("flight_date"))
    possible = pl.when(pl.col("wind_speed") <= POSSIBLE_WIND).then(pl.col("wind_speed"))
    named = kept.rename(_NAMES).with_columns(possible.alias("wind_speed"))
    return WEATHER_HOURS.conform(named).sort("flight_date", "hour_start", "origin")
