"""From what a local clock showed to an instant: hhmm, midnight, time zones, daylight saving."""

import polars as pl

ORIGIN_ZONE = "America/New_York"

# polars takes a zone as a constant, not as a column, so each zone that occurs is one branch of an expression.
ZONES = (
    "America/Anchorage",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/New_York",
    "America/Phoenix",
    "America/Puerto_Rico",
    "America/St_Thomas",
    "America/Vancouver",
    "Asia/Chongqing",
    "Pacific/Honolulu",
)


def is_clock_time(hhmm: pl.Expr) -> pl.Expr:
    """Boolean: 0 to 2400 with minutes below 60. 2400 is the midnight that ends the day."""
    return hhmm.is_between(0, 2400) & (hhmm % 100 < 60)


def wall_clock(day: pl.Expr, hhmm: pl.Expr) -> pl.Expr:
    """Datetime(us) without zone: this day (Date) at this time (integer hhmm), null for no such time."""
    minutes = hhmm // 100 * 60 + hhmm % 100
    return pl.when(is_clock_time(hhmm)).then(day.cast(pl.Datetime("us")) + pl.duration(minutes=minutes))


def instant(wall: pl.Expr, zone: pl.Expr) -> pl.Expr:
    """Datetime(us, UTC) at which clocks of the zone (String, one of ZONES) showed this.

    The earlier of the two when they showed it twice, null when they skipped it or the zone is unknown.
    """
    return pl.coalesce(pl.when(zone == name).then(_in_zone(wall, name)) for name in ZONES)


def origin_instant(wall: pl.Expr) -> pl.Expr:
    """Datetime(us, UTC) at which clocks in New York showed this; doubtful times as in `instant`."""
    return _in_zone(wall, ORIGIN_ZONE)


def shown_at(moment: pl.Expr, zone: pl.Expr) -> pl.Expr:
    """Datetime(us) without zone: what clocks of the zone (String) show at this instant (UTC)."""
    return pl.coalesce(
        pl.when(zone == name).then(moment.dt.convert_time_zone(name).dt.replace_time_zone(None)) for name in ZONES
    )


def first_after(start: pl.Expr, day: pl.Expr, hhmm: pl.Expr, zone: pl.Expr) -> pl.Expr:
    """Datetime(us, UTC): the first instant after `start` when clocks of the zone show hhmm, from `day` on.

    Looks at three days, enough for a flight that leaves a day late and lands after midnight.
    """
    wall = wall_clock(day, hhmm)
    candidates = (instant(wall.dt.offset_by(f"{days}d"), zone) for days in range(3))
    return pl.coalesce(pl.when(candidate > start).then(candidate) for candidate in candidates)


def _in_zone(wall: pl.Expr, zone: str) -> pl.Expr:
    zoned = wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC")
