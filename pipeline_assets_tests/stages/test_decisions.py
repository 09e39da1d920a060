"""The counts of docs/flights.md, taken from the data: the page says what the stages do."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.stages import source
from pipeline_assets.stages.clock import shown_at
from pipeline_assets.stages.notes import NOTES
from pipeline_assets.stages.schemas import DEPARTURES, STAGES
from pipeline_assets.stages.summaries import markdown_table
from pipeline_assets.stages.weather_hours import POSSIBLE_WIND
from pipeline_assets_tests.stages.rules import RULES, broken

PAGE = Path(__file__).parents[2] / "docs" / "flights.md"

COUNTS = {
    "departure_at_2400": 29,
    "arrival_at_2400": 150,
    "departed_on_a_later_day": 1_236,
    "arrived_on_a_later_day": 11_988,
    "arrival_clock_impossible": 1,
    "arrival_delay_missing": 717,
    "arrival_missing": 458,
    "dest_not_in_airports": 7_602,
    "tailnum_missing": 2_512,
    "tailnum_malformed": 22_754,
    "aircraft_not_registered": 50_094,
    "aircraft_not_an_airliner": 2_942,
    "aircraft_year_unknown": 4_859,
    "weather_missing": 1_556,
}


def flights_twice(year: dict[str, pl.DataFrame]) -> int:
    return year["departures"].select(pl.struct(DEPARTURES.key).is_duplicated().sum()).item()  # type: ignore[no-any-return]


def local_hours_twice(year: dict[str, pl.DataFrame]) -> int:
    local = pl.col("hour_start").dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
    return year["weather_hours"].height - year["weather_hours"].select(local, "origin").n_unique()


def hours_not_observed(year: dict[str, pl.DataFrame]) -> int:
    return 365 * 24 * 3 - year["weather_hours"].height


def impossible_winds(year: dict[str, pl.DataFrame], cache: Path) -> int:
    impossible = source.read_weather(cache).filter(pl.col("wind_speed") > POSSIBLE_WIND).collect()
    key = {"origin": impossible["origin"], "hour_start": impossible["time_hour"]}
    kept = year["weather_hours"].join(pl.DataFrame(key), on=["origin", "hour_start"], how="semi")
    assert kept["wind_speed"].null_count() == kept.height
    return impossible.height


def departures_before_landing(year: dict[str, pl.DataFrame]) -> int:
    landed = pl.col("actual_arrival").shift().over("tailnum", order_by="actual_departure")
    flown = year["legs"].filter(pl.col("tailnum").is_not_null(), pl.col("status") == "flown")
    return flown.filter(pl.col("actual_departure") < landed).height


def doubtful_schedules(year: dict[str, pl.DataFrame]) -> int:
    # In the hour that is repeated, clocks show the same an hour later. A skipped time has no instant.
    legs, zone, hour = year["legs"], pl.col("dest_zone"), pl.duration(hours=1)
    shown = shown_at(pl.col("scheduled_arrival"), zone)
    again = shown_at(pl.col("scheduled_arrival") + hour, zone)
    twice = legs.filter(again == shown).height
    return twice + legs["scheduled_arrival"].null_count() + legs["scheduled_departure"].null_count()


def routes_with_two_distances(year: dict[str, pl.DataFrame]) -> int:
    return (
        year["legs"].group_by("origin", "dest").agg(pl.col("distance").n_unique()).filter(pl.col("distance") > 1).height
    )


def of_model(model: str, condition: pl.Expr) -> Callable[[dict[str, pl.DataFrame]], int]:
    return lambda year: year["legs"].filter(pl.col("aircraft_model") == model, condition).height


def faster_than_600_mph(year: dict[str, pl.DataFrame]) -> int:
    return year["legs"].filter(pl.col("distance") / pl.col("air_time") * 60 > 600).height


def odd_schedules(year: dict[str, pl.DataFrame]) -> int:
    minutes = (pl.col("scheduled_arrival") - pl.col("scheduled_departure")).dt.total_minutes()
    off = (minutes - minutes.median().over("origin", "dest")).abs()
    return year["legs"].filter(off >= 80).height


FACTS = {
    "flights with the same date, carrier, number and origin": (flights_twice, 0),
    "local weather hours that occur twice": (local_hours_twice, 3),
    "weather hours not observed": (hours_not_observed, 165),
    "flown aircraft that depart before they have landed": (departures_before_landing, 126),
    "scheduled times that the clocks show twice or skip": (doubtful_schedules, 0),
    "routes with two distances": (routes_with_two_distances, 2),
    "legs of an ERJ 190 that is registered with 20 seats": (
        of_model("ERJ 190-100 IGW", pl.col("aircraft_seats") == 20),
        23_716,
    ),
    "legs of an A321 that is registered with 379 seats": (of_model("A321-231", pl.col("aircraft_seats") == 379), 2_878),
    "legs of a 737-524 that is registered as of 1965": (of_model("737-524", pl.col("aircraft_year") == 1965), 4),
    "flights faster than 600 mph": (faster_than_600_mph, 4),
    "schedules 80 minutes or more off their route's median": (odd_schedules, 2),
}


def test_every_note_has_a_count() -> None:
    assert list(COUNTS) == list(NOTES)


@pytest.mark.parametrize("name", COUNTS)
def test_a_note_is_given_as_often_as_its_count_says(year: dict[str, pl.DataFrame], name: str) -> None:
    assert year["legs"]["notes"].list.contains(name).sum() == COUNTS[name]


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_about_the_year_is_as_the_page_says(year: dict[str, pl.DataFrame], fact: str) -> None:
    count, expected = FACTS[fact]
    assert count(year) == expected
    assert f"| {fact} | {expected:,} |" in PAGE.read_text()


def test_the_page_has_the_table_of_notes() -> None:
    rows = [(f"`{name}`", f"{COUNTS[name]:,}", note.decision, note.meaning) for name, note in NOTES.items()]
    assert markdown_table(("Note", "Rows", "Decision", "Meaning"), rows) in PAGE.read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_no_row_breaks_a_rule_in_the_whole_year(year: dict[str, pl.DataFrame], stage: str) -> None:
    assert broken(stage, year[stage].lazy()).collect().is_empty()


def test_an_impossible_wind_is_kept_as_null(year: dict[str, pl.DataFrame], cache: Path) -> None:
    assert impossible_winds(year, cache) == 1
    assert "| impossible wind speeds | 1 | kept as null" in PAGE.read_text()


def test_a_row_names_every_rule_that_it_breaks(picked: pl.LazyFrame) -> None:
    flight = picked.head(1).select(
        *(name for name in DEPARTURES.columns if name != "flight_date"),
        flight_date=pl.date("year", "month", "day"),
    )
    spoilt = flight.with_columns(origin=pl.lit("BOS"), dep_time=pl.lit(1299), dep_delay=pl.lit(None, pl.Int32))
    assert broken("departures", spoilt).collect()["broken_rules"].to_list() == [
        ["origin_is_new_york", "departure_is_a_clock_time", "departure_has_its_delay"]
    ]


def test_every_stage_has_rules() -> None:
    assert set(RULES) == set(STAGES)


def test_aircraft_nobody_registered_are_nearly_all_american_and_envoy(year: dict[str, pl.DataFrame]) -> None:
    unknown = year["legs"].filter(pl.col("notes").list.contains("aircraft_not_registered"))
    assert unknown["carrier"].is_in(["AA", "MQ"]).mean() > 0.95  # type: ignore[operator]


def test_a_missing_tail_number_means_a_cancelled_flight(year: dict[str, pl.DataFrame]) -> None:
    assert set(year["legs"].filter(pl.col("tailnum").is_null())["status"]) == {"cancelled"}


def test_31_december_has_776_flights_and_no_weather(year: dict[str, pl.DataFrame]) -> None:
    last = year["legs"].filter(pl.col("flight_date") == pl.date(2013, 12, 31))
    assert last.height == 776
    assert last["temperature"].null_count() == 776


def test_the_smallest_airliner_has_as_many_seats_as_we_ask(cache: Path, year: dict[str, pl.DataFrame]) -> None:
    assert year["legs"]["aircraft_seats"].min() == 20
    assert source.read_planes(cache).filter(pl.col("seats").is_between(17, 19)).collect().is_empty()
