"""Statistics in the log: no row is lost by them, whatever the values are."""

import datetime as dt
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.delta.commit import Proposal, try_create
from pipeline_assets.delta.files import Sink
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.record import Record
from pipeline_assets.delta.schema import delta_schema
from pipeline_assets.delta.stats import add_stats

INSTANTS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))
COLUMNS = {
    "text": (pl.String(), st.text(st.characters(exclude_categories=["Cs"]), max_size=70)),
    "whole": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "real": (pl.Float64(), st.floats()),
    "day": (pl.Date(), st.dates(dt.date(1, 1, 2), dt.date(9999, 12, 30))),
    "clock": (pl.Datetime("us"), INSTANTS),
    "instant": (pl.Datetime("us", "UTC"), INSTANTS.map(lambda one: one.replace(tzinfo=dt.timezone.utc))),
    "money": (pl.Decimal(20, 2), st.decimals(-(10**17), 10**17, places=2)),
    "truth": (pl.Boolean(), st.booleans()),
}


def stored(folder: Path, frame: pl.DataFrame) -> Path:
    """A table made of the frame by our own writer; each call another."""
    place = folder / str(len(list(folder.iterdir())))
    location = Location.of(str(place))
    schema = delta_schema(frame.schema)
    files = Sink(location, schema, [], 1, 1).write(frame.lazy())
    assert try_create(location, schema, [], Proposal(Record("write", "o", ""), [file.add for file in files]))
    return place


def stats_of(frame: pl.DataFrame, path: Path) -> dict[str, Any]:
    frame.write_parquet(path)
    found: dict[str, Any] = json.loads(add_stats(pq.read_metadata(path)))
    return found


@pytest.mark.parametrize("name", sorted(COLUMNS))
@settings(max_examples=25)
@given(data=st.data())
def test_every_row_is_found_by_its_own_value(
    name: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    dtype, values = COLUMNS[name]
    rows = data.draw(st.lists(values, min_size=1, max_size=8))
    frame = pl.DataFrame({"x": pl.Series(rows, dtype=dtype)})
    place = stored(tmp_path_factory.mktemp("stats"), frame)
    wanted = data.draw(st.sampled_from(rows))
    value = pl.lit(wanted, dtype=dtype)
    for condition in (pl.col("x") >= value, pl.col("x") <= value, pl.col("x") == value):
        expected = frame.filter(condition).height
        assert pl.scan_delta(str(place)).filter(condition).collect().height == expected


@pytest.mark.parametrize("zone", [None, dt.timezone.utc])
def test_a_year_of_three_digits_is_found_by_other_readers_too(tmp_path: Path, zone: Any) -> None:
    old = dt.datetime(990, 5, 5, tzinfo=zone)
    place = stored(tmp_path, pl.DataFrame({"x": [dt.datetime(1, 1, 2, tzinfo=zone), old]}))
    dataset = DeltaTable(place).to_pyarrow_dataset()
    moment = pa.scalar(old, pa.timestamp("us", "UTC" if zone else None))
    assert dataset.to_table(filter=pc.field("x") == moment).num_rows == 1


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=33, max_size=50))
def test_a_long_text_lies_between_its_bounds(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    found = stats_of(pl.DataFrame({"x": [text]}), tmp_path_factory.mktemp("text") / "f.parquet")
    assert found["minValues"].get("x", "") <= text
    assert "x" not in found["maxValues"] or found["maxValues"]["x"] >= text
    assert len(found["maxValues"].get("x", "")) <= 32


def test_nan_and_infinity_have_no_bounds(tmp_path: Path) -> None:
    found = stats_of(pl.DataFrame({"x": [math.inf, 1.0]}), tmp_path / "f.parquet")
    assert found["maxValues"] == {}


def test_rows_and_nulls_are_counted(tmp_path: Path) -> None:
    found = stats_of(pl.DataFrame({"x": [1, None, 3]}), tmp_path / "f.parquet")
    assert (found["numRecords"], found["nullCount"]) == (3, {"x": 1})


def test_a_column_with_a_dot_in_its_name_is_no_struct(tmp_path: Path) -> None:
    found = stats_of(pl.DataFrame({"a.b": [1], "c": [{"d": 2}]}), tmp_path / "f.parquet")
    assert found["minValues"] == {"a.b": 1, "c": {"d": 2}}


def test_a_list_has_none(tmp_path: Path) -> None:
    assert stats_of(pl.DataFrame({"x": [[1, 2]]}), tmp_path / "f.parquet")["minValues"] == {}


def test_a_decimal_is_exact(tmp_path: Path) -> None:
    found = stats_of(pl.DataFrame({"x": pl.Series([Decimal("0.10")], dtype=pl.Decimal(4, 2))}), tmp_path / "f.parquet")
    assert Decimal(str(found["minValues"].get("x", "0.1"))) <= Decimal("0.10")


def test_delta_rs_reads_them(tmp_path: Path) -> None:
    place = stored(tmp_path, pl.DataFrame({"x": [1, 2, 3], "s": ["a", "b", "c"]}))
    row = DeltaTable(str(place)).get_add_actions(flatten=True)
    assert pl.DataFrame(row).select("num_records", "min.x", "max.s").rows() == [(3, 1, "c")]
