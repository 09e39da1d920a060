from datetime import date, datetime, timezone
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from pipeline_assets.stages import source
from pipeline_assets.stages.airports import MISSING, known_airports
from pipeline_assets.stages.clock import ZONES, first_after, instant, is_clock_time, shown_at, wall_clock

NIGHT = date(2013, 11, 2)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[misc,arg-type]


def one(expression: pl.Expr) -> object:
    return pl.select(expression).item()


@pytest.mark.parametrize(
    ("hhmm", "valid"), [(0, True), (2359, True), (2400, True), (1260, False), (2401, False), (-1, False)]
)
def test_a_clock_time_has_minutes_below_60_and_ends_at_2400(hhmm: int, valid: bool) -> None:
    assert one(is_clock_time(pl.lit(hhmm))) is valid


def test_2400_is_the_midnight_that_ends_the_day() -> None:
    assert one(wall_clock(pl.lit(date(2013, 12, 31)), pl.lit(2400))) == datetime(2014, 1, 1)


def test_a_time_that_no_clock_shows_becomes_null() -> None:
    assert one(wall_clock(pl.lit(NIGHT), pl.lit(1299))) is None


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("month", [1, 7])
def test_instants_agree_with_pythons_time_zones(zone: str, month: int) -> None:
    wall = datetime(2013, month, 15, 18, 30)
    expected = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(timezone.utc)
    assert one(instant(pl.lit(wall), pl.lit(zone))) == expected
    assert one(shown_at(pl.lit(expected), pl.lit(zone))) == wall


def test_a_time_shown_twice_is_the_earlier_and_a_skipped_time_is_null() -> None:
    new_york = pl.lit("America/New_York")
    assert one(instant(pl.lit(datetime(2013, 11, 3, 1, 30)), new_york)) == utc(2013, 11, 3, 5, 30)
    assert one(instant(pl.lit(datetime(2013, 3, 10, 2, 3)), new_york)) is None


def test_an_unknown_zone_gives_no_instant_instead_of_a_wrong_one() -> None:
    assert one(instant(pl.lit(datetime(2013, 1, 1)), pl.lit("Europe/Vienna"))) is None
    assert one(instant(pl.lit(datetime(2013, 1, 1)), pl.lit(None, pl.String))) is None


def test_a_clock_time_before_the_start_is_tomorrows() -> None:
    start, zone = pl.lit(utc(2013, 11, 3, 2, 45)), pl.lit("America/New_York")  # 22:45 on the 2nd
    assert one(first_after(start, pl.lit(NIGHT), pl.lit(2359), zone)) == utc(2013, 11, 3, 3, 59)
    assert one(first_after(start, pl.lit(NIGHT), pl.lit(3), zone)) == utc(2013, 11, 3, 4, 3)


def test_every_zone_of_the_airports_is_known(cache: object) -> None:
    zones = known_airports(source.read_airports(cache)).collect()["tzone"].drop_nulls()  # type: ignore[arg-type]
    assert set(zones) == set(ZONES)


def test_an_airport_that_the_source_lists_later_is_taken_from_there() -> None:
    listed = pl.LazyFrame({"faa": ["SJU"], "name": ["San Juan"], "tzone": ["America/Puerto_Rico"]})
    known = known_airports(listed).collect()
    assert set(known["faa"]) == set(MISSING)
    assert known.row(0) == ("SJU", "San Juan", "America/Puerto_Rico", True)
