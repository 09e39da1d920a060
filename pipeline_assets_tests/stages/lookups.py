"""The least that the picked flights need besides themselves, typed as `stages.source` would type it."""

from datetime import date, datetime, timezone

import polars as pl

from pipeline_assets.stages.schemas import WEATHER_HOURS
from pipeline_assets.stages.source import TABLES

AIRPORTS = pl.LazyFrame(
    {
        "faa": ["EWR", "JFK", "LGA", "PBI", "IAH", "DFW", "HNL"],
        "name": ["Newark", "Kennedy", "La Guardia", "Palm Beach", "Houston", "Dallas", "Honolulu"],
        "tzone": ["America/New_York"] * 4 + ["America/Chicago"] * 2 + ["Pacific/Honolulu"],
    }
)
AIRLINES = pl.LazyFrame({"carrier": ["UA", "B6"], "name": ["United Air Lines Inc.", "JetBlue Airways"]})
PLANES = pl.LazyFrame(
    [
        ("N14228", 1999, "Fixed wing multi engine", "BOEING", "737-824", 2, 149, None, "Turbo-fan"),
        ("N384HA", None, "Fixed wing multi engine", "AIRBUS", "A330-243", 2, 377, None, "Turbo-fan"),
        ("N5CAAA", 1959, "Fixed wing single engine", "CESSNA", "150", 1, 2, 90, "Reciprocating"),
    ],
    schema=TABLES["planes"],
    orient="row",
)
_HOUR = (39.0, 28.0, 64.4, 260, 12.7, None, 0.0, 1011.9, 10.0)
WEATHER_HOURS_THEN = pl.LazyFrame(
    [(date(2013, 1, 1), "EWR", datetime(2013, 1, 1, 10, tzinfo=timezone.utc), *_HOUR)],
    schema=WEATHER_HOURS.schema,
    orient="row",
)
