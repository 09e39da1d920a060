"""What the flights definitions share: the days, their source, how a frame is shown to people."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.io.events import add_metadata_of_partitions
from pipeline_assets.stage import stage
from pipeline_assets.stages import source
from pipeline_assets.stages.schemas import STAGES, StageSchema
from pipeline_assets.stages.summaries import SUMMARIES

DAYS = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2014-01-01")
"""All flight dates there are."""


TIMEOUT_SECONDS = 900.0
"""A year of days in one run takes a minute; whatever takes this long hangs."""


def days_of(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """The first and the last day that a run makes, both included."""
    keys = context.partition_key_range
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)


DELTA_TYPES: Mapping[Any, str] = {
    pl.Date: "date",
    pl.Datetime: "timestamp",
    pl.Float64: "double",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.List: "array",
    pl.String: "string",
}
"""Spelled out: asking polars while a module is imported starts its threads, which a process that is forked then lacks."""


def flights_stage(
    name: str, *, daily: bool = True, reads_source: bool = False
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`@stage` with what all stages of flights share, and the stage's columns in words.

    reads_source: beside its inputs also the data files, whose version is then a part of what it is made from.
    """
    schema: StageSchema = STAGES[name]
    columns = [
        dg.TableColumn(name, DELTA_TYPES[dtype.base_type()], description=schema.descriptions[name])
        for name, dtype in schema.schema.items()
    ]
    return stage(
        key_prefix="flights",
        group_name="flights",
        partitions_def=DAYS if daily else None,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=columns),
            **({"partition_expr": "flight_date"} if daily else {}),
        },
        owners=["team:flight-data"],
        kinds={"polars", "deltalake"},
        timeout=TIMEOUT_SECONDS,
        skip_if_unchanged=True,
        fingerprint=source.version if reads_source else None,
    )


def shown(context: dg.AssetExecutionContext, name: str, frame: pl.LazyFrame) -> pl.DataFrame:
    """The frame, computed, with a small table of it, for each day of its own, in the metadata of its checkpoint."""
    made = frame.collect(engine="streaming")

    def summary(of: pl.DataFrame) -> dict[str, dg.MetadataValue[Any]]:
        return {"summary": dg.MetadataValue.md(SUMMARIES[name](of))}

    if not context.assets_def.partitions_def:
        context.add_output_metadata(summary(made))
        return made
    of_day = made.partition_by("flight_date", as_dict=True)
    nothing = made.clear()
    add_metadata_of_partitions(
        context.get_step_execution_context(),
        context.asset_key,
        {key: summary(of_day.get((date.fromisoformat(key),), nothing)) for key in context.partition_keys},
    )
    return made


def same_day_of_2013(day: date) -> str:
    """The partition for a day of any year, so that the schedule has something to do; 29 February is the 28th."""
    return date(2013, day.month, min(day.day, 28) if day.month == 2 else day.day).isoformat()
