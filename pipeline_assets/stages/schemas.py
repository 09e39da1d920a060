"""What every stage returns: columns, dtypes, and what each column means."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

INSTANT = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class StageSchema:
    """The columns of one stage in order, name → (dtype, description), and those that name a row."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, tuple[pl.DataType, str]]

    @property
    def schema(self) -> pl.Schema:
        """Column names and dtypes, as polars compares them."""
        return pl.Schema({name: dtype for name, (dtype, _) in self.columns.items()})

    @property
    def descriptions(self) -> dict[str, str]:
        """What each column means, in a sentence with its unit."""
        return {name: text for name, (_, text) in self.columns.items()}

    def conform(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Exactly these columns, in this order and with these dtypes; what cannot be cast is an error."""
        return frame.select(pl.col(name).cast(dtype) for name, (dtype, _) in self.columns.items())


DATE, TEXT, INT, BIG, REAL = pl.Date(), pl.String(), pl.Int32(), pl.Int64(), pl.Float64()

_FLIGHT: dict[str, tuple[pl.DataType, str]] = {
    "flight_date": (DATE, "day of the scheduled departure, on the clocks of New York; the partition"),
    "carrier": (TEXT, "two-character code of the airline"),
    "flight": (INT, "flight number"),
    "origin": (TEXT, "airport of departure: EWR, JFK or LGA"),
    "dest": (TEXT, "airport of destination, FAA code"),
}

_OBSERVATION: dict[str, tuple[pl.DataType, str]] = {
    "temperature": (REAL, "°F"),
    "dew_point": (REAL, "°F"),
    "humidity": (REAL, "relative humidity, %"),
    "wind_direction": (INT, "degrees; null when the wind is variable or was not recorded"),
    "wind_speed": (REAL, "mph"),
    "wind_gust": (REAL, "mph; null when there was no gust"),
    "precipitation": (REAL, "inches in the hour"),
    "pressure": (REAL, "millibars at sea level"),
    "visibility": (REAL, "miles"),
}

DEPARTURES = StageSchema(
    name="departures",
    key=("flight_date", "carrier", "flight", "origin"),
    columns={
        **_FLIGHT,
        "tailnum": (TEXT, "registration painted on the aircraft; null when not recorded"),
        "sched_dep_time": (INT, "scheduled departure, hhmm at the origin"),
        "dep_time": (INT, "departure, hhmm at the origin, midnight is 2400; null when it did not depart"),
        "dep_delay": (INT, "departure delay in minutes, negative when early"),
        "sched_arr_time": (INT, "scheduled arrival, hhmm at the destination"),
        "arr_time": (INT, "arrival, hhmm at the destination, midnight is 2400; null when none is recorded"),
        "arr_delay": (
            INT,
            "arrival delay in minutes, negative when early; null when diverted or not arrived",
        ),
        "air_time": (INT, "minutes in the air"),
        "distance": (INT, "miles between the airports"),
        "time_hour": (INSTANT, "hour of the scheduled departure, UTC"),
    },
)

WEATHER_HOURS = StageSchema(
    name="weather_hours",
    key=("origin", "hour_start"),
    columns={
        "flight_date": (DATE, "day of the hour on the clocks of New York; the partition"),
        "origin": (TEXT, "airport: EWR, JFK or LGA"),
        "hour_start": (
            INSTANT,
            "the hour, UTC; the hour that New York's clocks repeat in November is two hours",
        ),
        **_OBSERVATION,
    },
)

LEGS = StageSchema(
    name="legs",
    key=DEPARTURES.key,
    columns={
        **_FLIGHT,
        "carrier_name": (TEXT, "name of the airline"),
        "origin_name": (TEXT, "name of the airport of departure"),
        "dest_name": (TEXT, "name of the airport of destination"),
        "dest_zone": (TEXT, "time zone of the destination, IANA name"),
        "status": (
            TEXT,
            "flown, diverted (arrived, no delay recorded), not_arrived (none recorded), or cancelled",
        ),
        "scheduled_departure": (INSTANT, "scheduled departure, UTC"),
        "actual_departure": (INSTANT, "departure, UTC; null when cancelled"),
        "scheduled_arrival": (INSTANT, "scheduled arrival, UTC"),
        "actual_arrival": (INSTANT, "arrival, UTC; null when cancelled or not_arrived"),
        "departure_delay": (INT, "minutes, negative when early; null when cancelled"),
        "arrival_delay": (INT, "minutes, negative when early; null unless flown"),
        "air_time": (INT, "minutes in the air; null unless flown"),
        "distance": (INT, "miles between the airports"),
        "tailnum": (TEXT, "registration painted on the aircraft; null when not recorded"),
        "aircraft_year": (INT, "year of manufacture"),
        "aircraft_manufacturer": (TEXT, "manufacturer, as registered"),
        "aircraft_model": (TEXT, "model, as registered"),
        "aircraft_engine": (TEXT, "kind of engine"),
        "aircraft_seats": (INT, "seats, as registered"),
        **{
            name: (dtype, f"at the origin in the hour of the scheduled departure: {text}")
            for name, (dtype, text) in _OBSERVATION.items()
        },
        "notes": (pl.List(pl.String()), "what was decided about this row, in the words of docs/flights.md"),
    },
)

_COUNTS: dict[str, tuple[pl.DataType, str]] = {
    "flights": (BIG, "flights scheduled"),
    "cancelled": (BIG, "flights that did not depart"),
    "arrived": (BIG, "flights with a recorded arrival delay: the base of the mean and the shares"),
    "late": (BIG, "of those, 15 minutes late or more"),
    "total_arrival_delay": (BIG, "sum of the arrival delays, minutes"),
    "mean_arrival_delay": (REAL, "minutes; null when none arrived"),
}

ROUTE_DELAYS = StageSchema(
    name="route_delays",
    key=("flight_date", "carrier", "origin", "dest"),
    columns={
        **{name: column for name, column in _FLIGHT.items() if name != "flight"},
        **_COUNTS,
        "p90_arrival_delay": (
            REAL,
            "minutes that 9 of 10 arrivals stay below, interpolated; null when none arrived",
        ),
        "share_late": (REAL, "late / arrived; null when none arrived"),
    },
)

CARRIER_SCORECARD = StageSchema(
    name="carrier_scorecard",
    key=("carrier",),
    columns={
        "rank": (INT, "1 is the smallest share of late flights; mean delay and code break ties"),
        "carrier": _FLIGHT["carrier"],
        "days": (BIG, "days on which it had flights"),
        **_COUNTS,
        "share_late": (REAL, "late / arrived; null when none arrived"),
        "share_cancelled": (REAL, "cancelled / flights"),
    },
)

STAGES: Mapping[str, StageSchema] = {
    stage.name: stage for stage in (DEPARTURES, WEATHER_HOURS, LEGS, ROUTE_DELAYS, CARRIER_SCORECARD)
}
