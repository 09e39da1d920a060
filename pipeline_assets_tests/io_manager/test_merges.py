"""Merges: what the clauses do, what is refused, and that a merge happens once also where it changes nothing."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from pipeline_assets import MergeConfig, MergeOperationsConfig, MergeType
from pipeline_assets_tests.io_manager.running import failure, rows, run, told, version

COLORS = dg.StaticPartitionsDefinition(["red", "blue"])
START = pl.DataFrame({"id": [1, 2], "v": [1, 2]})


def asset(frame: pl.DataFrame, partitions: Any = None, **metadata: Any) -> dg.AssetsDefinition:
    expression = {"partition_expr": "color"} if partitions else {}

    @dg.asset(name="table", partitions_def=partitions, metadata={**expression, **metadata})
    def table() -> pl.DataFrame:
        return frame

    return table


def merging(kind: MergeType, **more: Any) -> dict[str, Any]:
    config = MergeConfig(merge_type=kind, predicate="s.id = t.id", source_alias="s", target_alias="t", **more)
    return {"mode": "merge", "merge_config": config}


def test_a_merge_that_changes_nothing_is_a_version_of_its_own(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(START)])
    result = run(instance, root, [asset(START)], **merging(MergeType.deduplicate_insert))
    assert rows(root, "table") == [(1, 1), (2, 2)]
    assert version(root, "table") == 1
    assert told(result, "table")[None]["delta/version"] == 1


def test_a_column_may_be_added_by_a_merge(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(START)])
    wider = pl.DataFrame({"id": [2, 3], "v": [20, 30], "w": ["b", "c"]})
    run(instance, root, [asset(wider, schema_mode="merge")], **merging(MergeType.upsert))
    assert rows(root, "table") == [(1, 1, None), (2, 20, "b"), (3, 30, "c")]


def test_a_column_that_may_not_be_added_is_refused(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(START)])
    wider = START.with_columns(w=1)
    assert "added w" in failure(run(instance, root, [asset(wider)], ok=False, **merging(MergeType.upsert)))
    assert version(root, "table") == 0


def test_a_source_may_have_columns_of_its_own_where_the_clauses_name_theirs(
    instance: dg.DagsterInstance, root: Path
) -> None:
    deletes = MergeOperationsConfig(when_matched_delete=[{"predicate": "s.op = 'D'"}])  # type: ignore[list-item]
    run(instance, root, [asset(START)])
    changes = pl.DataFrame({"id": [1, 2], "op": ["D", "U"]})
    run(instance, root, [asset(changes)], **merging(MergeType.custom, merge_operations_config=deletes))
    assert rows(root, "table") == [(2, 2)]


def test_null_in_a_not_null_column_is_not_merged(instance: dg.DagsterInstance, root: Path) -> None:
    fields = [Field("id", PrimitiveType("long")), Field("v", PrimitiveType("long"), nullable=False)]
    DeltaTable.create(root / "public" / "table", Schema(fields))
    frame = pl.DataFrame({"id": [1], "v": [None]}, schema={"id": pl.Int64, "v": pl.Int64})
    result = run(instance, root, [asset(frame)], ok=False, **merging(MergeType.upsert))
    assert "returned 1 rows with NULL in 'v'" in failure(result)
    assert version(root, "table") == 0


def test_a_merge_of_no_rows_does_not_delete_all(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(START)])
    merge = merging(MergeType.replace_delete_unmatched)
    assert "allow_empty" in failure(run(instance, root, [asset(START.clear())], ok=False, **merge))
    run(instance, root, [asset(START.clear(), allow_empty=True)], **merge)
    assert rows(root, "table") == []


def test_rows_of_another_partition_are_not_merged(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(START.with_columns(color=pl.lit("red")), COLORS)], "red")
    both = START.with_columns(color=pl.Series(["red", "blue"]))
    result = run(instance, root, [asset(both, COLORS)], "red", ok=False, **merging(MergeType.upsert))
    assert "returned 1 rows outside of partition 'red' (the first have color='blue')" in failure(result)
    nobody = START.with_columns(color=pl.lit(None, pl.String))
    result = run(instance, root, [asset(nobody, COLORS)], "red", ok=False, **merging(MergeType.upsert))
    assert "partition column 'color' is NULL" in failure(result)
    assert version(root, "table") == 0


def test_an_asset_s_predicate_is_stronger_than_the_manager_s(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset(START)])
    by_value = asset(pl.DataFrame({"id": [7], "v": [2]}), merge_predicate="s.v = t.v")
    run(instance, root, [by_value], **merging(MergeType.upsert))
    assert rows(root, "table") == [(1, 1), (7, 2)]


def test_of_a_range_only_what_is_not_kept_is_merged(instance: dg.DagsterInstance, root: Path) -> None:
    """Another run merges the second of three days while the range is being computed."""
    days = dg.StaticPartitionsDefinition(["a", "b", "c"])
    upsert = merging(MergeType.upsert)
    todo = [lambda: run(instance, root, [by("another")], "b", **upsert)]

    def by(who: str) -> dg.AssetsDefinition:
        @dg.asset(
            name="merged",
            partitions_def=days,
            metadata={"partition_expr": "day"},
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def merged(context: dg.AssetExecutionContext) -> pl.DataFrame:
            if who == "range":
                todo.pop()()
            return pl.DataFrame({"day": context.partition_keys, "who": who, "id": 1})

        return merged

    result = run(instance, root, [by("range")], window=("a", "c"), **upsert)
    assert rows(root, "merged") == [("a", 1, "range"), ("b", 1, "another"), ("c", 1, "range")]
    said = told(result, "merged")
    assert said["b"]["checkpoint/kept"] is True
    assert [said[day]["checkpoint/rows_in"] for day in ("a", "b", "c")] == [1, 1, 1]


def test_a_merge_that_cannot_be_done_says_why(instance: dg.DagsterInstance, root: Path) -> None:
    config = MergeConfig(merge_type=MergeType.upsert, predicate="source.id = target.nowhere")
    said = failure(run(instance, root, [asset(START)], ok=False, mode="merge", merge_config=config))
    assert "table was not merged by 'source.id = target.nowhere'" in said
    assert "nowhere" in said
