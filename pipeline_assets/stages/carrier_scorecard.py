"""Stage 5: the carriers compared, over all days there are."""

import polars as pl

from pipeline_assets.stages.route_delays import per
from pipeline_assets.stages.schemas import CARRIER_SCORECARD


def carrier_scorecard(route_delays: pl.LazyFrame) -> pl.LazyFrame:
    """One row a carrier, best first. Columns and dtypes: `schemas.CARRIER_SCORECARD`.

    Means and shares weigh each flight the same: they are made from the sums and counts of `route_delays`, not
    from its means. A carrier with no arrival has no mean, and comes last.
    """
    counts = ("flights", "cancelled", "arrived", "late", "total_arrival_delay")
    totals = route_delays.group_by("carrier").agg(
        pl.col("flight_date").n_unique().alias("days"), *(pl.col(name).sum() for name in counts)
    )
    shares = totals.with_columns(
        per("total_arrival_delay", "arrived").alias("mean_arrival_delay"),
        per("late", "arrived").alias("share_late"),
        per("cancelled", "flights").alias("share_cancelled"),
    )
    ranked = shares.sort("share_late", "mean_arrival_delay", "carrier", nulls_last=True).with_row_index(
        "rank", offset=1
    )
    return CARRIER_SCORECARD.conform(ranked)
