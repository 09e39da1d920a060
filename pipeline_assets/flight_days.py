"""What the flights definitions share: the days, their source, how a frame is shown to people."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.io.events import add_metadata_of_partitions
from pipeline_assets.stages.schemas import STAGES, StageSchema
from pipeline_assets.stages.summaries import SUMMARIES

DAYS = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2014-01-01")
"""All flight dates there are."""


def days_of(context: dg.AssetExecutionContext) -> tuple[date, date]:
    """The first and the last day that a run makes, both included."""
    keys = context.partition_key_range
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)


def described(stage: str, *, daily: bool = True, **more: Any) -> Mapping[str, Any]:
    """The metadata of a stage's definition: its columns in words, and the column of its partitions."""
    schema: StageSchema = STAGES[stage]
    columns = [
        dg.TableColumn(name, str(dtype), description=schema.descriptions[name]) for name, dtype in schema.schema.items()
    ]
    expression = {"partition_expr": "flight_date"} if daily else {}
    return {"dagster/column_schema": dg.TableSchema(columns=columns), **expression, **more}


def shown(context: dg.AssetExecutionContext, stage: str, frame: pl.LazyFrame) -> pl.DataFrame:
    """The frame, computed, with a small table of it, for each day of its own, in the metadata of its checkpoint."""
    made = frame.collect(engine="streaming")

    def summary(of: pl.DataFrame) -> dict[str, dg.MetadataValue[Any]]:
        return {"summary": dg.MetadataValue.md(SUMMARIES[stage](of))}

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
