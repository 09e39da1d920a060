"""Stage 3: departures with instants for clock times, and with aircraft, airline, airports and weather."""

import polars as pl

from pipeline_assets.stages.airports import known_airports
from pipeline_assets.stages.clock import first_after, origin_instant, wall_clock
from pipeline_assets.stages.notes import is_airliner, notes
from pipeline_assets.stages.schemas import LEGS


def legs(
    departures: pl.LazyFrame,
    weather_hours: pl.LazyFrame,
    planes: pl.LazyFrame,
    airports: pl.LazyFrame,
    airlines: pl.LazyFrame,
) -> pl.LazyFrame:
    """One row a departure, none added and none left out. Columns and dtypes: `schemas.LEGS`.

    The first two are stages (`schemas.DEPARTURES`, `schemas.WEATHER_HOURS`), the others are files
    (`source.TABLES`). A lookup that has a key twice is refused (polars: "m:1 validation"), because it would
    multiply flights.
    """
    located = _with_airports(departures, airports)
    timed = _with_arrivals(_with_departures(located))
    joined = _with_weather(_with_aircraft(timed, planes), weather_hours)
    named = joined.join(airlines.rename({"name": "carrier_name"}), on="carrier", how="left", validate="m:1")
    finished = _without_impossible_aircraft(named.with_columns(_status(), notes())).rename(
        {"dep_delay": "departure_delay", "arr_delay": "arrival_delay"}
    )
    return LEGS.conform(finished).sort("flight_date", "scheduled_departure", "carrier", "flight", "origin")


def _with_airports(departures: pl.LazyFrame, airports: pl.LazyFrame) -> pl.LazyFrame:
    known = known_airports(airports)
    origins = known.select(origin="faa", origin_name="name")
    dests = known.select(dest="faa", dest_name="name", dest_zone="tzone", dest_listed="listed")
    # A destination that nobody knows is not listed either.
    return (
        departures.join(origins, on="origin", how="left", validate="m:1")
        .join(dests, on="dest", how="left", validate="m:1")
        .with_columns(pl.col("dest_listed").fill_null(False))
    )


def _with_departures(located: pl.LazyFrame) -> pl.LazyFrame:
    # The delay says on which day it left; the clock time alone does not.
    scheduled = origin_instant(wall_clock(pl.col("flight_date"), pl.col("sched_dep_time")))
    return located.with_columns(scheduled.alias("scheduled_departure")).with_columns(
        (pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")).alias("actual_departure")
    )


def _with_arrivals(timed: pl.LazyFrame) -> pl.LazyFrame:
    day, zone = pl.col("flight_date"), pl.col("dest_zone")
    scheduled = first_after(pl.col("scheduled_departure"), day, pl.col("sched_arr_time"), zone)
    diverted = first_after(pl.col("actual_departure"), day, pl.col("arr_time"), zone)
    by_delay = pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay")
    return timed.with_columns(scheduled.alias("scheduled_arrival")).with_columns(
        pl.coalesce(by_delay, diverted).alias("actual_arrival")
    )


def _with_aircraft(timed: pl.LazyFrame, planes: pl.LazyFrame) -> pl.LazyFrame:
    aircraft = planes.select(
        "tailnum",
        "seats",
        "engine",
        aircraft_year="year",
        aircraft_manufacturer="manufacturer",
        aircraft_model="model",
        aircraft_engine="engine",
        aircraft_seats="seats",
    )
    return timed.join(aircraft, on="tailnum", how="left", validate="m:1")


def _with_weather(joined: pl.LazyFrame, weather_hours: pl.LazyFrame) -> pl.LazyFrame:
    # The scheduled hour, not the actual one: cancelled flights have it too, and it is in the same partition.
    hour = pl.col("scheduled_departure").dt.truncate("1h").alias("hour_start")
    observed = weather_hours.rename({"flight_date": "weather_day"})
    return joined.with_columns(hour).join(observed, on=["origin", "hour_start"], how="left", validate="m:1")


def _without_impossible_aircraft(noted: pl.LazyFrame) -> pl.LazyFrame:
    columns = [name for name in LEGS.columns if name.startswith("aircraft_")]
    return noted.with_columns(pl.when(is_airliner()).then(pl.col(name)).alias(name) for name in columns)


def _status() -> pl.Expr:
    return (
        pl.when(pl.col("dep_time").is_null())
        .then(pl.lit("cancelled"))
        .when(pl.col("arr_time").is_null())
        .then(pl.lit("not_arrived"))
        .when(pl.col("arr_delay").is_null())
        .then(pl.lit("diverted"))
        .otherwise(pl.lit("flown"))
        .alias("status")
    )
