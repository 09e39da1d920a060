"""Stage 4: delays a day, carrier and route."""

import polars as pl

from pipeline_assets.stages.schemas import ROUTE_DELAYS

LATE_MINUTES = 15  # the US Department of Transportation counts a flight as late from here on


def route_delays(legs: pl.LazyFrame) -> pl.LazyFrame:
    """One row a flight_date, carrier, origin and dest. Columns and dtypes: `schemas.ROUTE_DELAYS`.

    Cancelled and diverted flights count as flights, and have no delay. Sums are of whole minutes, so the same
    rows give the same bits in whatever order the engine meets them.
    """
    key = list(ROUTE_DELAYS.key)
    delay = pl.col("arrival_delay")
    totals = legs.group_by(key).agg(
        pl.len().alias("flights"),
        (pl.col("status") == "cancelled").sum().alias("cancelled"),
        delay.count().alias("arrived"),
        (delay >= LATE_MINUTES).sum().alias("late"),
        delay.cast(pl.Int64).sum().alias("total_arrival_delay"),
        delay.quantile(0.9, interpolation="linear").alias("p90_arrival_delay"),
    )
    shares = totals.with_columns(
        per("total_arrival_delay", "arrived").alias("mean_arrival_delay"),
        per("late", "arrived").alias("share_late"),
    )
    return ROUTE_DELAYS.conform(shares).sort(key)


def per(part: str, whole: str) -> pl.Expr:
    """Float64: part / whole, null (not NaN) when the whole is 0."""
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))
