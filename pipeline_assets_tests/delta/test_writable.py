"""Tables that ask more of a writer than we do are refused by the feature's name."""

import json
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.schema import PrimitiveType

from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.delta.writable import refuse_unwritable
from pipeline_assets.errors import UnsupportedTable


def table_with(folder: Path, **configuration: str) -> Table:
    schema = Schema([Field("a", PrimitiveType("long"))])
    DeltaTable.create(str(folder), schema, configuration=dict(configuration), raise_if_key_not_exists=False)
    return opened(folder)


def opened(folder: Path) -> Table:
    table = open_table(Location.of(str(folder)))
    assert table is not None
    return table


def feature(folder: Path, name: str) -> Table:
    """A table whose protocol names a writer feature, written as the protocol asks."""
    write_deltalake(str(folder), pl.DataFrame({"a": [1]}).to_arrow())
    protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [name]}
    entry = folder / "_delta_log" / "00000000000000000001.json"
    entry.write_text(json.dumps({"protocol": protocol}) + "\n" + json.dumps({"commitInfo": {"operation": "UPGRADE"}}))
    return opened(folder)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("delta.enableChangeDataFeed", "true", "change data feed"),
        ("delta.setTransactionRetentionDuration", "interval 1 day", "forgets who wrote what"),
        ("delta.constraints.positive", "a > 0", "CHECK constraint 'positive'"),
        ("delta.columnMapping.mode", "name", "column mapping"),
    ],
)
def test_a_property_that_asks_more_is_refused_by_name(tmp_path: Path, name: str, value: str, said: str) -> None:
    table = table_with(tmp_path / "t", **{name: value})
    with pytest.raises(UnsupportedTable, match=said):
        refuse_unwritable(table, Mode.OVERWRITE)
    assert opened(tmp_path / "t").version == 0


@pytest.mark.parametrize("name", ["rowTracking", "icebergCompatV1", "someFeatureOfTomorrow"])
def test_a_feature_that_we_do_not_know_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedTable, match=name):
        refuse_unwritable(feature(tmp_path / "t", name), Mode.OVERWRITE)


@pytest.mark.parametrize("name", ["appendOnly", "invariants", "checkConstraints"])
def test_a_feature_that_is_there_but_not_used_is_fine(tmp_path: Path, name: str) -> None:
    refuse_unwritable(feature(tmp_path / "t", name), Mode.OVERWRITE)


def test_an_append_only_table_takes_appends_alone(tmp_path: Path) -> None:
    table = table_with(tmp_path / "t", **{"delta.appendOnly": "true"})
    refuse_unwritable(table, Mode.APPEND)
    with pytest.raises(UnsupportedTable, match="appendOnly"):
        refuse_unwritable(table, Mode.OVERWRITE)
