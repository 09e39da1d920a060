"""Stage 1: the flights of some days, typed, and otherwise as the source has them."""

from datetime import date

import polars as pl

from pipeline_assets.stages.schemas import DEPARTURES


def departures(flights: pl.LazyFrame, first: date, last: date) -> pl.LazyFrame:
    """The flights scheduled to depart from `first` to `last`, both included; one row a flight.

    Columns and dtypes: `schemas.DEPARTURES`. Of the source only year, month and day (now flight_date) and
    hour and minute (the digits of sched_dep_time) are left out. Nothing is repaired here, only in `legs`.
    """
    day = pl.date("year", "month", "day")
    kept = flights.filter(day.is_between(first, last)).with_columns(day.alias("flight_date"))
    return DEPARTURES.conform(kept).sort("flight_date", "sched_dep_time", "carrier", "flight", "origin")
