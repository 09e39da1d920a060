"""A stage at a glance, as Markdown: small tables and bars of text for the metadata of a materialization."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from pipeline_assets import markdown

BAR_WIDTH = 30
WORST_ROUTES = 10


def summarise_departures(frame: pl.DataFrame) -> str:
    """Flights by scheduled hour, with those that did not depart. Takes rows of `schemas.DEPARTURES`."""
    by_hour = (
        frame.group_by(hour=pl.col("sched_dep_time") // 100)
        .agg(pl.len().alias("flights"), pl.col("dep_time").is_null().sum().alias("cancelled"))
        .sort("hour")
    )
    most = max(by_hour["flights"], default=0)
    rows = (
        (f"{row['hour']:02}:00", row["flights"], row["cancelled"], bar(row["flights"], most))
        for row in by_hour.iter_rows(named=True)
    )
    return markdown_table(("Hour", "Flights", "Cancelled", ""), rows)


def summarise_weather_hours(frame: pl.DataFrame) -> str:
    """Range of the temperature, strongest wind, rain by airport. Takes rows of `schemas.WEATHER_HOURS`."""
    by_airport = (
        frame.group_by("origin")
        .agg(
            pl.len().alias("hours"),
            pl.col("temperature").min().alias("low"),
            pl.col("temperature").max().alias("high"),
            pl.col("wind_speed").max(),
            pl.col("precipitation").sum(),
        )
        .sort("origin")
    )
    return markdown_table(("Airport", "Hours", "Low °F", "High °F", "Wind mph", "Rain in"), by_airport.iter_rows())


def summarise_legs(frame: pl.DataFrame) -> str:
    """How many flights of each status, and how many rows have each note. Takes rows of `schemas.LEGS`."""
    statuses = frame["status"].value_counts().sort("count", "status", descending=[True, False])
    given = frame["notes"].explode().drop_nulls().value_counts().sort("count", "notes", descending=[True, False])
    shares = ((name, count, bar(count, frame.height)) for name, count in statuses.iter_rows())
    return "\n\n".join(
        (
            markdown_table(("Status", "Flights", ""), shares),
            markdown_table(("Note", "Rows"), given.iter_rows()),
        )
    )


def summarise_route_delays(frame: pl.DataFrame) -> str:
    """The ten routes that lost the most minutes. Takes rows of `schemas.ROUTE_DELAYS`, of one day or many."""
    worst = (
        frame.group_by("carrier", "origin", "dest")
        .agg(pl.col("flights", "arrived", "late", "total_arrival_delay").sum())
        .sort("total_arrival_delay", "carrier", "origin", "dest", descending=[True, False, False, False])
        .head(WORST_ROUTES)
    )
    rows = (
        (
            row["carrier"],
            f"{row['origin']}-{row['dest']}",
            row["flights"],
            row["late"],
            row["total_arrival_delay"],
        )
        for row in worst.iter_rows(named=True)
    )
    return markdown_table(("Carrier", "Route", "Flights", "Late", "Minutes lost"), rows)


def summarise_carrier_scorecard(frame: pl.DataFrame) -> str:
    """The ranking, a bar for the share of late flights. Takes rows of `schemas.CARRIER_SCORECARD`."""
    rows = (
        (
            row["rank"],
            row["carrier"],
            row["flights"],
            row["mean_arrival_delay"],
            _percent(row["share_late"]),
            bar(row["share_late"] or 0.0, 1.0),
        )
        for row in frame.sort("rank").iter_rows(named=True)
    )
    return markdown_table(("Rank", "Carrier", "Flights", "Mean delay", "Late", ""), rows)


SUMMARIES: Mapping[str, Callable[[pl.DataFrame], str]] = {
    "departures": summarise_departures,
    "weather_hours": summarise_weather_hours,
    "legs": summarise_legs,
    "route_delays": summarise_route_delays,
    "carrier_scorecard": summarise_carrier_scorecard,
}


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; fractions with one digit, null as a dash, "no rows" when there are none."""
    body = [[_cell(value) for value in row] for row in rows]
    return markdown.table(header, body) if body else "no rows"


def bar(part: float, whole: float) -> str:
    """A bar of text, BAR_WIDTH characters for the whole; empty when there is no whole."""
    return "█" * round(BAR_WIDTH * part / whole) if whole else ""


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.1%}"
