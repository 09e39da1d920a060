"""What is wrong or odd in a leg, and what was decided; docs/flights.md has the counts over 2013."""

from typing import NamedTuple

import polars as pl

from pipeline_assets.stages.clock import ORIGIN_ZONE, shown_at

# The smallest airliner in the data has 20 seats as registered. Below are Cessnas, kit planes and helicopters,
# found because the airline reported a fleet number that happens to be somebody's registration.
AIRLINER_SEATS = 20
PISTON = ("Reciprocating", "4 Cycle")
BUSINESS_JETS = ("GULFSTREAM AEROSPACE",)  # 22 seats, as many as a small airliner
# Up to five characters after the N, the first no zero, one or two letters at the end, neither I nor O.
REGISTRATION = r"^N[1-9](\d{0,4}|\d{0,3}[A-HJ-NP-Z]|\d{0,2}[A-HJ-NP-Z]{2})$"


class Note(NamedTuple):
    """When a leg gets the note (Boolean over the joined row), what was decided, and what it means."""

    when: pl.Expr
    decision: str
    meaning: str


def is_airliner() -> pl.Expr:
    """Boolean: the registered aircraft can be an airliner. Null when no aircraft was found."""
    small = pl.col("engine").is_in(PISTON) | pl.col("aircraft_manufacturer").is_in(BUSINESS_JETS)
    return (pl.col("seats") >= AIRLINER_SEATS) & ~small


def _local_date(moment: str, zone: pl.Expr) -> pl.Expr:
    return shown_at(pl.col(moment), zone).dt.date()


def _shown_otherwise() -> pl.Expr:
    shown = shown_at(pl.col("actual_arrival"), pl.col("dest_zone"))
    return (shown.dt.hour().cast(pl.Int32) * 100 + shown.dt.minute()) != pl.col("arr_time") % 2400


def _no_match(right_key: str, left_key: str) -> pl.Expr:
    return pl.col(left_key).is_not_null() & pl.col(right_key).is_null()


NOTES: dict[str, Note] = {
    "departure_at_2400": Note(
        pl.col("dep_time") == 2400, "repaired", "midnight is written 2400: 00:00 of the next day"
    ),
    "arrival_at_2400": Note(pl.col("arr_time") == 2400, "repaired", "the same for the arrival"),
    "departed_on_a_later_day": Note(
        _local_date("actual_departure", pl.lit(ORIGIN_ZONE)) > pl.col("flight_date"),
        "repaired",
        "the source has one date, the scheduled one: the day of departure follows from the delay",
    ),
    "arrived_on_a_later_day": Note(
        _local_date("actual_arrival", pl.col("dest_zone")) > pl.col("flight_date"),
        "repaired",
        "the day follows from the schedule and the delay",
    ),
    "arrival_clock_impossible": Note(
        _shown_otherwise(),
        "repaired",
        "02:03 at Palm Beach on 10 March: the clocks skipped it; the instant follows from the delay",
    ),
    "arrival_delay_missing": Note(
        pl.col("arr_time").is_not_null() & pl.col("arr_delay").is_null(),
        "kept as null",
        "diverted: the arrival is the first time after the departure that the clock showed arr_time",
    ),
    "arrival_missing": Note(
        pl.col("dep_time").is_not_null() & pl.col("arr_time").is_null(),
        "kept as null",
        "diverted for good or turned back: the source does not say which",
    ),
    "dest_not_in_airports": Note(
        ~pl.col("dest_listed"),
        "repaired",
        "BQN, PSE, SJU and STT: name and zone are ours (`stages/airports.py`)",
    ),
    "tailnum_missing": Note(pl.col("tailnum").is_null(), "kept as null", "no aircraft; all of them were cancelled"),
    "tailnum_malformed": Note(
        ~pl.col("tailnum").str.contains(REGISTRATION),
        "kept",
        "no US registration, by the FAA's rules: fleet numbers of AA and MQ, and D942DN; not for us to correct",
    ),
    "aircraft_not_registered": Note(
        _no_match("seats", "tailnum"),
        "kept as null",
        "no such aircraft in planes.csv; nearly all are AA and MQ, who report fleet numbers",
    ),
    "aircraft_not_an_airliner": Note(
        ~is_airliner(),
        "kept as null",
        "the registration belongs to a Cessna, a kit plane, a helicopter, a business jet",
    ),
    "aircraft_year_unknown": Note(
        is_airliner() & pl.col("aircraft_year").is_null(),
        "kept as null",
        "the registry has no year of manufacture",
    ),
    "weather_missing": Note(
        pl.col("weather_day").is_null(),
        "kept as null",
        "the hour was not observed; 776 of them on 31 December",
    ),
}


def notes() -> pl.Expr:
    """List(String): the names of the notes that a joined row gets, in the order of NOTES."""
    each = (pl.when(note.when).then(pl.lit(name)) for name, note in NOTES.items())
    return pl.concat_list(*each).list.drop_nulls().alias("notes")
