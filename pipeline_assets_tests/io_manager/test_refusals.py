"""What may not be written is refused by name: the same version afterwards, and no file left behind."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable, Field, Schema, write_deltalake
from deltalake.schema import ArrayType, PrimitiveType, StructType
from sqlalchemy.exc import OperationalError

from pipeline_assets.delta.log import log_of
from pipeline_assets.delta.types import polars_schema
from pipeline_assets.io import facts
from pipeline_assets_tests.io_manager.running import failure, parquet, rows, run, told, version

COLORS = dg.StaticPartitionsDefinition(["red", "blue"])


def asset(frame: Any, partitions: Any = None, **metadata: Any) -> dg.AssetsDefinition:
    expression = {"partition_expr": "color"} if partitions else {}

    @dg.asset(name="table", partitions_def=partitions, metadata={**expression, **metadata})
    def table() -> Any:
        return frame

    return table


def refused(
    instance: dg.DagsterInstance, root: Path, one: dg.AssetsDefinition, key: str | None = None, **manager: Any
) -> str:
    """What a refusal says, after it is sure that nothing has changed."""
    before = (version(root, "table"), parquet(root, "table")) if (root / "public" / "table").exists() else None
    said = failure(run(instance, root, [one], key, ok=False, **manager))
    after = (version(root, "table"), parquet(root, "table")) if before else None
    assert before == after
    assert before or not parquet(root, "table")
    return said


NUMBERS = pl.DataFrame({"n": [1, 2]})


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", "foo"), ("schema_mode", "foo"), ("allow_empty", "no"), ("overwrite_schema", "no")],
)
def test_a_choice_that_is_none_is_refused_also_where_the_table_would_be_created(
    instance: dg.DagsterInstance, root: Path, name: str, value: str
) -> None:
    said = refused(instance, root, asset(NUMBERS, **{name: value}))
    assert f"table has {name} {value!r} in its metadata; it may be" in said
    assert not (root / "public" / "table").exists()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (NUMBERS.with_columns(m=1), "added m"),
        (pl.DataFrame({"m": [1]}), "removed n"),
        (pl.DataFrame({"n": ["x"]}), "retyped n (from long to string)"),
    ],
)
def test_other_columns(instance: dg.DagsterInstance, root: Path, frame: pl.DataFrame, said: str) -> None:
    run(instance, root, [asset(NUMBERS)])
    text = refused(instance, root, asset(frame))
    assert said in text
    assert "schema_mode" in text


@pytest.mark.parametrize("mode", ["merge", "overwrite"])
def test_a_column_that_is_allowed_is_added(instance: dg.DagsterInstance, root: Path, mode: str) -> None:
    run(instance, root, [asset(NUMBERS)])
    result = run(instance, root, [asset(NUMBERS.with_columns(m=7), schema_mode=mode)])
    assert rows(root, "table") == [(7, 1), (7, 2)]
    columns = told(result, "table")[None]["dagster/column_schema"].columns
    assert {column.name for column in columns} == {"n", "m"}


def test_columns_that_may_be_replaced_are(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(NUMBERS)])
    run(instance, root, [asset(pl.DataFrame({"other": ["x"]}), schema_mode="overwrite")])
    assert rows(root, "table") == [("x",)]


def test_a_column_is_added_to_a_table_with_partitions(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(pl.DataFrame({"color": ["red"], "n": [1]}), COLORS)], "red")
    wider = pl.DataFrame({"color": ["blue"], "n": [2], "m": [3]})
    run(instance, root, [asset(wider, COLORS, schema_mode="merge")], "blue")
    assert rows(root, "table") == [("blue", 3, 2), ("red", None, 1)]


def test_a_column_of_a_table_with_partitions_is_not_retyped(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(pl.DataFrame({"color": ["red"], "n": [1]}), COLORS)], "red")
    other = asset(pl.DataFrame({"color": ["blue"], "n": ["x"]}), COLORS, schema_mode="overwrite")
    assert "would not fit any more" in refused(instance, root, other, "blue")


def test_a_column_is_added_to_what_is_appended_to(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(NUMBERS, mode="append")])
    run(instance, root, [asset(pl.DataFrame({"n": [3], "m": [4]}), mode="append", schema_mode="merge")])
    assert pl.read_delta(str(root / "public" / "table")).sort("n")["m"].to_list() == [None, None, 4]


def test_what_is_appended_to_is_not_retyped(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(NUMBERS, mode="append")])
    other = asset(pl.DataFrame({"n": ["x"]}), mode="append", schema_mode="overwrite")
    assert "needs a new table" in refused(instance, root, other)


def test_columns_in_another_order_are_added_without_computing_again(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(pl.DataFrame({"color": ["red"], "n": [1]}), COLORS)], "red")
    wider = pl.DataFrame({"m": [3], "color": ["red"], "n": [2]})
    result = run(instance, root, [asset(wider, COLORS, schema_mode="overwrite")], "red")
    assert rows(root, "table") == [("red", 3, 2)]
    assert "STEP_UP_FOR_RETRY" not in {event.event_type_value for event in result.all_events}


@pytest.mark.parametrize("kind", [pl.LazyFrame, pl.DataFrame])
def test_rows_of_another_partition(instance: dg.DagsterInstance, root: Path, kind: Any) -> None:
    frame = kind({"color": ["red", "blue", "green"], "n": [1, 2, 3]})
    text = refused(instance, root, asset(frame, COLORS), "red")
    assert "returned 2 rows outside of partition 'red'" in text


@pytest.mark.parametrize("value", [None, "", "__HIVE_DEFAULT_PARTITION__"])
def test_a_partition_that_would_be_null(instance: dg.DagsterInstance, root: Path, value: str | None) -> None:
    frame = pl.DataFrame({"color": [value], "n": [1]}, schema={"color": pl.String, "n": pl.Int64})
    assert "partition column 'color'" in refused(instance, root, asset(frame, COLORS), "red")


def test_no_rows_where_there_are_some(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(NUMBERS)])
    assert "allow_empty" in refused(instance, root, asset(NUMBERS.head(0)))
    run(instance, root, [asset(NUMBERS.head(0), allow_empty=True)])
    assert rows(root, "table") == []


@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_no_rows_in_the_first_partition_of_a_table_are_fine(
    instance: dg.DagsterInstance, root: Path, mode: str
) -> None:
    frame = pl.DataFrame(schema={"color": pl.String, "n": pl.Int64})
    result = run(instance, root, [asset(frame, COLORS, mode=mode)], "red")
    assert told(result, "table")["red"]["dagster/partition_row_count"] == 0
    assert rows(root, "table") == []


def test_no_rows_where_there_are_none_are_fine(instance: dg.DagsterInstance, root: Path) -> None:
    for _ in range(2):
        run(instance, root, [asset(NUMBERS.head(0))])
    assert rows(root, "table") == []


@pytest.mark.parametrize("column", ["n", "tags"])
def test_null_where_the_table_says_not_null(instance: dg.DagsterInstance, root: Path, column: str) -> None:
    frame = pl.DataFrame({"n": [1, None], "tags": [["a"], None]})
    made = Schema.from_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    fields = [Field(one.name, one.type, nullable=one.name != column) for one in made.fields]
    DeltaTable.create(root / "public" / "table", Schema(fields))
    assert f"NULL in '{column}'" in refused(instance, root, asset(frame))


STRUCT = StructType([Field("a", PrimitiveType("long"), nullable=False)])


@pytest.mark.parametrize(
    ("type_", "good", "bad", "said"),
    [
        (STRUCT, [{"a": 1}, None], [{"a": None}], "x.a"),
        (ArrayType(PrimitiveType("long"), contains_null=False), [[1], [], None], [[1, None]], "x.element"),
        (ArrayType(STRUCT, contains_null=True), [[{"a": 1}, None]], [[{"a": None}]], "x.element.a"),
    ],
)
def test_null_inside_of_what_may_be_null_itself(
    instance: dg.DagsterInstance, root: Path, type_: Any, good: list[Any], bad: list[Any], said: str
) -> None:
    DeltaTable.create(root / "public" / "table", Schema([Field("x", type_)]))
    dtype = polars_schema(Schema([Field("x", type_)]))
    assert f"NULL in '{said}'" in refused(instance, root, asset(pl.DataFrame({"x": bad}, schema=dtype)))
    run(instance, root, [asset(pl.DataFrame({"x": good}, schema=dtype))])
    assert pl.read_delta(str(root / "public" / "table"))["x"].to_list() == good


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"delta.appendOnly": "true"}, "delta.appendOnly"),
        ({"delta.enableChangeDataFeed": "true"}, "change data feed"),
        ({"delta.setTransactionRetentionDuration": "interval 1 day"}, "setTransactionRetentionDuration"),
    ],
)
def test_a_table_that_asks_more(instance: dg.DagsterInstance, root: Path, configuration: Any, said: str) -> None:
    schema = Schema([Field("n", PrimitiveType("long"))])
    DeltaTable.create(root / "public" / "table", schema, configuration=configuration, raise_if_key_not_exists=False)
    assert said in refused(instance, root, asset(NUMBERS))


def test_another_partitioning_than_the_table_s(instance: dg.DagsterInstance, root: Path) -> None:
    frame = pl.DataFrame({"color": ["red"], "n": [1]})
    write_deltalake(root / "public" / "table", frame.to_arrow())
    assert "is partitioned by color, but its table" in refused(instance, root, asset(frame, COLORS), "red")


def test_a_type_that_delta_has_not(instance: dg.DagsterInstance, root: Path) -> None:
    assert "'gone'" in refused(instance, root, asset(pl.DataFrame({"gone": [dt.timedelta(1)]})))
    assert not (root / "public" / "table").exists()


def test_a_value_that_would_be_cut(instance: dg.DagsterInstance, root: Path) -> None:
    frame = pl.LazyFrame({"n": [2**63]}, schema={"n": pl.UInt64})
    assert "cannot hold" in refused(instance, root, asset(frame))


def last_entry(root: Path) -> Path:
    return max((root / "public" / "table" / "_delta_log").glob("*.json"))


def no_json(path: Path) -> None:
    path.write_text("{not json")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_off_between_two_lines(path: Path) -> None:
    """To Delta that is an entry of its own, which adds files and removes none."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))


@pytest.mark.parametrize("damage", [no_json, cut_off, empty, cut_off_between_two_lines])
def test_a_log_that_cannot_be_read(instance: dg.DagsterInstance, root: Path, damage: Callable[[Path], None]) -> None:
    for _ in range(2):
        run(instance, root, [asset(NUMBERS)])
    damage(last_entry(root))
    log_of.cache_clear()  # as in a new process
    before = last_entry(root).read_bytes()
    said = failure(run(instance, root, [asset(NUMBERS)], ok=False))
    assert "DamagedTable" in said
    assert last_entry(root).read_bytes() == before
    assert pl.scan_delta(str(root / "public" / "table"), version=0).collect().height == 2


def test_a_data_file_that_is_gone(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def copy(table: pl.DataFrame) -> pl.DataFrame:
        return table

    run(instance, root, [asset(NUMBERS)])
    for name in parquet(root, "table"):
        (root / "public" / "table" / name).unlink()
    said = failure(run(instance, root, [asset(NUMBERS), copy], selection="copy", ok=False))
    assert "DataFileGone" in said
    assert "make what was in it again, by a new run of the stage that writes it" in said
    assert not (root / "public" / "copy").exists()
    run(instance, root, [asset(NUMBERS)])
    run(instance, root, [asset(NUMBERS), copy], selection="copy")
    assert rows(root, "copy") == rows(root, "table")


@pytest.mark.parametrize("lazy", [True, False])
def test_a_query_that_fails_half_way(instance: dg.DagsterInstance, root: Path, lazy: bool) -> None:
    def fail(_: pl.DataFrame) -> pl.DataFrame:
        raise ValueError

    bad = pl.concat([NUMBERS.lazy(), NUMBERS.lazy().map_batches(fail, schema=NUMBERS.schema)])
    if not lazy:
        bad = bad.with_columns(n=pl.col("n") + 1)
    run(instance, root, [asset(NUMBERS)])
    refused(instance, root, asset(bad))


def test_no_word_of_dagster_s_database_no_commit(
    instance: dg.DagsterInstance, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(instance, root, [asset(NUMBERS)])

    def unreachable(*_: Any) -> None:
        raise OperationalError("SELECT", {}, OSError("disk I/O error"))

    monkeypatch.setattr(facts, "why_stopped", unreachable)
    before = version(root, "table")
    said = failure(run(instance, root, [asset(NUMBERS)], ok=False))
    assert "Dagster's storage could not be asked" in said
    assert version(root, "table") == before


def test_a_disk_that_is_full_when_the_files_are_made_durable(
    instance: dg.DagsterInstance, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(instance, root, [asset(NUMBERS)])
    before = (version(root, "table"), parquet(root, "table"))

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("pipeline_assets.delta.location.os.fsync", full)
    said = failure(run(instance, root, [asset(NUMBERS)], ok=False))
    assert "No space left" in said
    assert (version(root, "table"), parquet(root, "table")) == before
