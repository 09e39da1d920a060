"""What a stage reads of a table in which somebody else was, and what it says where that is there no more."""

import logging
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline_assets_tests.io_manager.running import failure, rows, run, told, version

COLORS = dg.StaticPartitionsDefinition(["red", "blue"])


def colors(*more: pl.Expr) -> dg.AssetsDefinition:
    """An asset of two partitions, whose columns may come to be more."""

    @dg.asset(name="table", partitions_def=COLORS, metadata={"partition_expr": "color", "schema_mode": "merge"})
    def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"color": [context.partition_key], "n": [1]}).with_columns(*more)

    return table


@dg.asset
def whole(table: pl.DataFrame) -> pl.DataFrame:
    return table


@dg.asset
def by_color(table: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(table.values(), how="vertical")


@dg.asset(ins={"table": dg.AssetIn(metadata={"columns": ["n", "size"]})})
def sizes(table: pl.LazyFrame) -> pl.LazyFrame:
    return table


def place(root: Path) -> str:
    return str(root / "public" / "table")


def append(root: Path, **columns: list[Any]) -> None:
    write_deltalake(place(root), pl.DataFrame(columns).to_arrow(), mode="append")


def vacuum(root: Path) -> None:
    DeltaTable(place(root)).vacuum(0, dry_run=False, enforce_retention_duration=False)


def test_a_partition_that_somebody_touched_before_a_column_was_added_has_null_in_it(
    instance: dg.DagsterInstance, root: Path
) -> None:
    for color in ("red", "blue"):
        run(instance, root, [colors()], color)
    append(root, color=["blue"], n=[999])
    wide = colors(pl.lit("big").alias("size"))
    run(instance, root, [wide], "red")
    run(instance, root, [wide, whole, by_color, sizes], selection=["whole", "by_color", "sizes"])
    for table in ("whole", "by_color"):
        assert rows(root, table) == [("blue", 1, None), ("red", 1, "big")]
    assert sorted(pl.read_delta(str(root / "public" / "sizes")).rows(), key=str) == [(1, "big"), (1, None)]


@pytest.mark.parametrize("touched", [False, True])
def test_a_version_that_is_gone_is_told_from_a_damaged_table_with_what_makes_it_readable_again(
    instance: dg.DagsterInstance, root: Path, touched: bool
) -> None:
    run(instance, root, [colors()], "red")
    write_deltalake(place(root), pl.DataFrame({"color": ["red"], "n": [9]}).to_arrow(), mode="overwrite")
    vacuum(root)
    if touched:
        run(instance, root, [colors()], "blue")
    newest = version(root, "table")
    said = failure(run(instance, root, [colors(), whole], selection="whole", ok=False))
    assert f"Version 0 of the Delta table {place(root)} cannot be read any more" in said
    assert f"its newest version {newest} can be read. Nothing was read or written." in said
    assert "`pipeline-assets adopt table`" in said
    assert "move the folder away" not in said
    assert not (root / "public" / "whole").exists()


def test_where_the_newest_version_is_damaged_too_the_table_is(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [colors()], "red")
    write_deltalake(place(root), pl.DataFrame({"color": ["red"], "n": [9]}).to_arrow(), mode="overwrite")
    for path in Path(place(root)).rglob("*.parquet"):
        path.unlink()
    said = failure(run(instance, root, [colors(), whole], selection="whole", ok=False))
    assert "DataFileGone" in said
    assert "VersionGone" not in said


def warnings(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    """What a run's log warns of, but for the instance, which is in memory."""
    said = [entry.user_message for entry in instance.all_logs(result.run_id) if entry.level == logging.WARNING]
    return [one for one in said if "temporary Dagster instance" not in one]


def test_a_read_that_leaves_out_what_somebody_else_wrote_says_so_once(instance: dg.DagsterInstance, root: Path) -> None:
    for color in ("red", "blue"):
        run(instance, root, [colors()], color)
    assert not warnings(instance, run(instance, root, [colors(), whole], selection="whole"))
    append(root, color=["blue"], n=[999])
    for reader in (whole, by_color):
        said = warnings(instance, run(instance, root, [colors(), reader], selection=reader.key.path))
        assert len(said) == 1
        assert f"A foreign commit has changed {place(root)} since it was written, and is not read." in said[0]
        assert "Read is table, partition 'blue', at version 1." in said[0]
        assert "`pipeline-assets adopt table`" in said[0]


def test_of_an_asset_that_now_writes_its_table_itself_the_old_rows_are_read_with_a_warning(
    instance: dg.DagsterInstance, root: Path
) -> None:
    @dg.asset(name="table")
    def returned() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset(name="table")
    def written() -> dg.MaterializeResult:
        write_deltalake(place(root), pl.DataFrame({"n": [2]}).to_arrow(), mode="overwrite")
        return dg.MaterializeResult()

    run(instance, root, [returned, whole])
    said = warnings(instance, run(instance, root, [written, whole]))
    assert rows(root, "whole") == [(1,)]
    assert len(said) == 1
    assert "Read is table, at version 0." in said[0]


def test_of_a_range_only_the_partitions_that_read_it_note_what_was_left_out(
    instance: dg.DagsterInstance, root: Path
) -> None:
    ranged: dict[str, Any] = {
        "partitions_def": COLORS,
        "metadata": {"partition_expr": "color"},
        "backfill_policy": dg.BackfillPolicy.single_run(),
    }

    @dg.asset(**ranged)
    def each(table: pl.DataFrame) -> pl.DataFrame:
        return table

    @dg.asset(**ranged, ins={"table": dg.AssetIn(partition_mapping=dg.AllPartitionMapping())})
    def of_all(context: dg.AssetExecutionContext, table: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame({"color": context.partition_keys, "n": table["n"].sum()})

    for color in ("red", "blue"):
        run(instance, root, [colors()], color)
    append(root, color=["blue"], n=[999])
    assets = [colors(), each, of_all]
    result = run(instance, root, assets, window=("red", "blue"), selection=["each", "of_all"])
    left_out = {"ignored_foreign_changes": {"table": {"blue": 1}}}
    for name, of_red in (("each", None), ("of_all", left_out)):
        notes = {key: said.get("checkpoint/notes") for key, said in told(result, name).items()}
        assert notes == {"red": of_red, "blue": left_out}
