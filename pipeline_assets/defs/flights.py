"""The flights pipeline: a year of real departures from New York, day by day."""

import dagster as dg
import polars as pl

from pipeline_assets.flight_days import days_of, flights_stage, same_day_of_2013, shown
from pipeline_assets.settings import source_folder
from pipeline_assets.stages import carrier_scorecard as scorecards
from pipeline_assets.stages import departures as departing
from pipeline_assets.stages import legs as flying
from pipeline_assets.stages import route_delays as delays
from pipeline_assets.stages import source
from pipeline_assets.stages import weather_hours as weather


@flights_stage("departures", reads_source=True)
def departures(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """Every scheduled departure from New York's airports, with types, otherwise as the source has it."""
    return shown(context, "departures", departing.departures(source.read_flights(source_folder()), *days_of(context)))


@flights_stage("weather_hours", reads_source=True)
def weather_hours(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """The weather at each airport, hour by hour. The last day of the year was not observed."""
    hours = weather.weather_hours(source.read_weather(source_folder()), *days_of(context))
    return shown(context, "weather_hours", hours)


@flights_stage("legs", reads_source=True)
def legs(context: dg.AssetExecutionContext, departures: pl.LazyFrame, weather_hours: pl.LazyFrame) -> pl.DataFrame:
    """Each flight with its times as instants, its aircraft, carrier, airports, and the weather when it was to leave."""
    folder = source_folder()
    lookups = source.read_planes(folder), source.read_airports(folder), source.read_airlines(folder)
    return shown(context, "legs", flying.legs(departures, weather_hours, *lookups))


@flights_stage("route_delays")
def route_delays(context: dg.AssetExecutionContext, legs: pl.LazyFrame) -> pl.DataFrame:
    """Per day, carrier and route: flights, cancellations, delays."""
    return shown(context, "route_delays", delays.route_delays(legs))


@flights_stage("carrier_scorecard", daily=False)
def carrier_scorecard(context: dg.AssetExecutionContext, route_delays: pl.LazyFrame) -> pl.DataFrame:
    """How punctual each carrier was, over all the days that are there."""
    return shown(context, "carrier_scorecard", scorecards.carrier_scorecard(route_delays))


flights_job = dg.define_asset_job(
    "flights_job",
    selection=dg.AssetSelection.groups("flights"),
    description="All stages of flights, for a day or more.",
)


@dg.schedule(job=flights_job, cron_schedule="0 6 * * *", execution_timezone="America/New_York")
def flights_daily_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Every morning the day of 2013 that has today's date."""
    day = same_day_of_2013(context.scheduled_execution_time.date())
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat(), partition_key=day)
