"""The flights of 2013 through every stage, once a session; and a dozen of them that need no package."""

from collections.abc import Callable
from datetime import date
from io import StringIO
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.stages import source
from pipeline_assets.stages.carrier_scorecard import carrier_scorecard
from pipeline_assets.stages.departures import departures
from pipeline_assets.stages.legs import legs
from pipeline_assets.stages.route_delays import route_delays
from pipeline_assets.stages.weather_hours import weather_hours

FIRST, LAST = date(2013, 1, 1), date(2013, 12, 31)

# Lines of flights.csv, each there for what is odd in it; test_source.py holds them against the package.
PICKED = """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,9,641,900,1301,1242,1530,1272,HA,51,N384HA,JFK,HNL,640,4983,9,0,2013-01-09T14:00:00Z
2013,1,1,1939,1840,59,29,2151,,9E,3325,N905XJ,JFK,DFW,,1391,18,40,2013-01-01T23:00:00Z
2013,3,9,2306,2145,81,203,34,89,B6,35,N658JB,JFK,PBI,141,1028,21,45,2013-03-10T02:00:00Z
2013,2,6,1904,1550,194,2400,2050,190,AA,1635,N5CAAA,JFK,SJU,192,1598,15,50,2013-02-06T20:00:00Z
2013,1,3,32,2359,33,504,442,22,B6,707,N763JB,JFK,SJU,193,1598,23,59,2013-01-04T04:00:00Z
2013,7,27,,106,,,245,,US,1632,,EWR,LGA,,17,1,6,2013-07-27T05:00:00Z
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the files of the package are cached; skips when the package is not there."""
    folder = tmp_path_factory.mktemp("source")
    try:
        source.read_airlines(folder)
    except source.MissingSource as missing:
        pytest.skip(str(missing))
    return folder


@pytest.fixture(scope="session")
def picked() -> pl.LazyFrame:
    """The flights of PICKED, as `source.read_flights` would give them."""
    frame = pl.read_csv(StringIO(PICKED), schema=source.TABLES["flights"])
    return frame.with_columns(pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")).lazy()


@pytest.fixture(scope="session")
def make_legs(cache: Path) -> Callable[[date, date], pl.LazyFrame]:
    """The legs from one day to another, as the pipeline makes them."""

    def make(first: date, last: date) -> pl.LazyFrame:
        return legs(
            departures(source.read_flights(cache), first, last),
            weather_hours(source.read_weather(cache), first, last),
            source.read_planes(cache),
            source.read_airports(cache),
            source.read_airlines(cache),
        )

    return make


@pytest.fixture(scope="session")
def year(cache: Path, make_legs: Callable[[date, date], pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    """Every stage over the whole year."""
    made = {
        "departures": departures(source.read_flights(cache), FIRST, LAST).collect(),
        "weather_hours": weather_hours(source.read_weather(cache), FIRST, LAST).collect(),
        "legs": make_legs(FIRST, LAST).collect(engine="streaming"),
    }
    made["route_delays"] = route_delays(made["legs"].lazy()).collect()
    made["carrier_scorecard"] = carrier_scorecard(made["route_delays"].lazy()).collect()
    return made
