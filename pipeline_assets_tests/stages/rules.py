"""What every row of each stage satisfies, over the whole year. A rule is broken where it is false; null is no breach."""

from collections.abc import Mapping

import polars as pl

from pipeline_assets.stages.clock import is_clock_time
from pipeline_assets.stages.schemas import STAGES
from pipeline_assets.stages.weather_hours import POSSIBLE_WIND

AIRPORTS = ("EWR", "JFK", "LGA")


def _ordered(earlier: str, later: str) -> pl.Expr:
    return pl.col(earlier) < pl.col(later)


def _present(*columns: str) -> pl.Expr:
    return pl.all_horizontal(pl.col(name).is_not_null() for name in columns)


RULES: Mapping[str, Mapping[str, pl.Expr]] = {
    "departures": {
        "key_is_present": _present(*STAGES["departures"].key, "dest"),
        "origin_is_new_york": pl.col("origin").is_in(AIRPORTS),
        "schedule_is_present": _present("sched_dep_time", "sched_arr_time"),
        "scheduled_departure_is_a_clock_time": is_clock_time(pl.col("sched_dep_time")),
        "departure_is_a_clock_time": is_clock_time(pl.col("dep_time")),
        "scheduled_arrival_is_a_clock_time": is_clock_time(pl.col("sched_arr_time")),
        "arrival_is_a_clock_time": is_clock_time(pl.col("arr_time")),
        "departure_has_its_delay": pl.col("dep_time").is_null() == pl.col("dep_delay").is_null(),
    },
    "weather_hours": {
        "key_is_present": _present(*STAGES["weather_hours"].key),
        "wind_is_possible": pl.col("wind_speed").is_between(0, POSSIBLE_WIND),
        "humidity_is_a_percentage": pl.col("humidity").is_between(0, 100),
    },
    "legs": {
        "schedule_is_known": _present("scheduled_departure", "scheduled_arrival"),
        "arrival_follows_departure": _ordered("actual_departure", "actual_arrival"),
        "air_time_fits_between": pl.duration(minutes="air_time")
        <= pl.col("actual_arrival") - pl.col("actual_departure"),
    },
    "route_delays": {
        "counts_add_up": pl.col("cancelled") + pl.col("arrived") <= pl.col("flights"),
        "share_is_a_share": pl.col("share_late").is_between(0, 1),
    },
    "carrier_scorecard": {
        "counts_add_up": pl.col("cancelled") + pl.col("arrived") <= pl.col("flights"),
        "share_is_a_share": pl.col("share_late").is_between(0, 1),
    },
}


def broken(stage: str, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of the stage that break a rule, with a column broken_rules: List(String)."""
    each = (pl.when(~rule).then(pl.lit(name)) for name, rule in RULES[stage].items())
    marked = frame.with_columns(pl.concat_list(*each).list.drop_nulls().alias("broken_rules"))
    return marked.filter(pl.col("broken_rules").list.len() > 0)
