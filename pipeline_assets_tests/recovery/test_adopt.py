"""What is not adopted, and what is adopted although its stage cannot write it."""

import sys
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, write_deltalake

from pipeline_assets.cli import cli
from pipeline_assets.delta.location import Location
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.rolling import code_location

FRAME = pl.DataFrame({"color": ["red"], "size": ["big"], "n": [1]})


def adopted(tables: Location, monkeypatch: pytest.MonkeyPatch, *, partitions: bool = False) -> tuple[int, str]:
    """`pipeline-assets adopt shop/table`: its exit status, and all that it said."""
    more: dict[str, Any] = {"partitions_def": dg.StaticPartitionsDefinition(["red"])} if partitions else {}

    @dg.asset(key_prefix="shop", metadata={"partition_expr": "color"} if partitions else {}, **more)
    def table() -> pl.DataFrame:
        return FRAME

    @dg.asset(key_prefix="shop")
    def reader(table: pl.DataFrame) -> pl.DataFrame:
        return table

    module = f"adopting_in_{Path(tables.uri).parent.name}"
    defs = dg.Definitions([table, reader], resources={"io_manager": io_manager()})
    monkeypatch.setitem(sys.modules, module, code_location(module, defs))
    done = CliRunner().invoke(cli, ["adopt", "shop/table", "-m", module])
    if done.exit_code == 0 and not partitions:
        job = defs.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.get() as instance:
            selection = [dg.AssetKey(["shop", "reader"])]
            assert job.execute_in_process(instance=instance, asset_selection=selection).success
    return done.exit_code, done.output


def write(place: str, columns: list[str] | None = None, **configuration: str) -> None:
    write_deltalake(place, FRAME.to_arrow(), partition_by=columns, configuration=dict(configuration))


@pytest.mark.parametrize(
    ("columns", "right"), [([], "leave its partitions out"), (["size"], "name size in 'partition_expr'")]
)
def test_a_table_with_other_partition_columns_is_refused_with_what_would_be_right(
    tables: Location, monkeypatch: pytest.MonkeyPatch, columns: list[str], right: str
) -> None:
    place = tables.child("shop", "table").uri
    write(place, columns)
    status, said = adopted(tables, monkeypatch, partitions=True)
    assert status == 3
    assert f"shop/table is partitioned by color, but its table {place} by {', '.join(columns) or 'nothing'}" in said
    assert right in said
    assert DeltaTable(place).version() == 0


@pytest.mark.parametrize(
    ("name", "what"), [("delta.appendOnly", "delta.appendOnly, while"), ("check", "the CHECK constraint")]
)
def test_a_table_that_its_stage_cannot_write_is_adopted_to_be_read_and_it_is_said(
    tables: Location, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    place = tables.child("shop", "table").uri
    write(place, **({name: "true"} if name != "check" else {}))
    if name == "check":
        DeltaTable(place).alter.add_constraint({"positive": "n > 0"})
    status, said = adopted(tables, monkeypatch)
    assert status == 0
    assert "Adopted: its rows" in said
    assert f"its stage cannot write it: it has {what}" in said
    assert pl.read_delta(tables.child("shop", "reader").uri).height == 1


def test_a_table_that_would_forget_who_wrote_it_is_not_adopted(
    tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tables.child("shop", "table").uri
    write(place, **{"delta.setTransactionRetentionDuration": "interval 1 day"})
    status, said = adopted(tables, monkeypatch)
    assert status == 3
    assert "forgets who wrote what" in said
    assert "`pipeline-assets adopt" not in said
    assert DeltaTable(place).version() == 0
