"""Write modes: what each does with rows that are there, exactly once."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster_deltalake.io_manager import WriteMode as TheirWriteMode
from deltalake import DeltaTable, write_deltalake

from pipeline_assets import DeltaCheckpointIOManager, MergeConfig, MergeOperationsConfig, MergeType, WriteMode
from pipeline_assets.recovery.resume import resume
from pipeline_assets_tests.io_manager.running import failure, parquet, rows, run, told, version

COLORS = dg.StaticPartitionsDefinition(["red", "blue"])


def asset(*pairs: tuple[int, int], partition: str | None = None, **metadata: Any) -> dg.AssetsDefinition:
    frame = pl.DataFrame({"id": [one for one, _ in pairs], "v": [two for _, two in pairs]}, orient="row")
    if partition:
        frame = frame.with_columns(color=pl.lit(partition))
        metadata["partition_expr"] = "color"

    @dg.asset(name="table", metadata=metadata, partitions_def=COLORS if partition else None)
    def table() -> pl.DataFrame:
        return frame

    return table


def merging(kind: MergeType, **more: Any) -> dict[str, Any]:
    config = MergeConfig(merge_type=kind, predicate="s.id = t.id", source_alias="s", target_alias="t", **more)
    return {"mode": WriteMode.merge, "merge_config": config}


@pytest.mark.parametrize("mode", [WriteMode.append, TheirWriteMode.append, "append"])
def test_rows_are_appended(instance: dg.DagsterInstance, root: Path, mode: Any) -> None:
    for _ in range(2):
        result = run(instance, root, [asset((1, 1))], mode=mode)
    assert rows(root, "table") == [(1, 1), (1, 1)]
    assert told(result, "table")[None]["dagster/row_count"] == 2


def test_ignore_leaves_a_table_that_is_there(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset((1, 1))], mode="ignore")
    result = run(instance, root, [asset((2, 2))], mode="ignore")
    assert rows(root, "table") == [(1, 1)]
    assert version(root, "table") == 0
    assert told(result, "table")[None]["checkpoint/kept"] is True


def test_ignore_counts_what_it_leaves(instance: dg.DagsterInstance, root: Path) -> None:
    write_deltalake(root / "public" / "table", pl.DataFrame({"id": [1, 2], "v": [1, 2]}).to_arrow())
    result = run(instance, root, [asset((3, 3))], mode="ignore")
    assert told(result, "table")[None]["dagster/row_count"] == 2


def test_error_refuses_a_table_that_is_there(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset((1, 1))], mode="error")
    assert "the table" in failure(run(instance, root, [asset((2, 2))], mode="error", ok=False))
    assert rows(root, "table") == [(1, 1)]


def test_an_asset_s_mode_is_stronger_than_the_manager_s(instance: dg.DagsterInstance, root: Path) -> None:
    for _ in range(2):
        run(instance, root, [asset((1, 1), mode="append")], mode="overwrite")
    assert len(rows(root, "table")) == 2


def test_a_mode_that_there_is_not_is_refused_by_name(instance: dg.DagsterInstance, root: Path) -> None:
    assert "mode 'upsert'" in failure(run(instance, root, [asset((1, 1), mode="upsert")], ok=False))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (MergeType.upsert, [(1, 1), (2, 20), (3, 30)]),
        (MergeType.deduplicate_insert, [(1, 1), (2, 2), (3, 30)]),
        (MergeType.update_only, [(1, 1), (2, 20)]),
        (MergeType.replace_delete_unmatched, [(2, 20)]),
    ],
)
def test_rows_are_merged(instance: dg.DagsterInstance, root: Path, kind: MergeType, expected: Any) -> None:
    run(instance, root, [asset((1, 1), (2, 2))])
    run(instance, root, [asset((2, 20), (3, 30))], **merging(kind))
    assert rows(root, "table") == expected


def test_a_merge_of_one_s_own_clauses(instance: dg.DagsterInstance, root: Path) -> None:
    operations = MergeOperationsConfig(when_matched_delete=[{"predicate": "t.v = 1"}])  # type: ignore[list-item]
    run(instance, root, [asset((1, 1), (2, 2))])
    run(instance, root, [asset((1, 0), (2, 0))], **merging(MergeType.custom, merge_operations_config=operations))
    assert rows(root, "table") == [(2, 2)]


def test_a_merge_into_a_partition_leaves_the_others(instance: dg.DagsterInstance, root: Path) -> None:
    for color in ("red", "blue"):
        run(instance, root, [asset((1, 1), partition=color)], color)
    merge = merging(MergeType.replace_delete_unmatched)
    run(instance, root, [asset((9, 9), partition="red")], "red", **merge)
    assert rows(root, "table") == [("blue", 1, 1)]


def test_a_merge_without_a_predicate_is_refused(instance: dg.DagsterInstance, root: Path) -> None:
    assert "merge_config with a predicate" in failure(run(instance, root, [asset((1, 1))], mode="merge", ok=False))


@pytest.mark.parametrize("how", ["append", "merge"])
def test_a_commit_whose_event_was_lost_is_not_made_again(
    instance: dg.DagsterInstance, root: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    manager = merging(MergeType.upsert) if how == "merge" else {"mode": how}
    run(instance, root, [asset((0, 0))], **manager)

    def lost(*_: Any) -> None:
        raise ConnectionResetError(os.strerror(104))

    job = dg.Definitions(
        assets=[asset((1, 1))], jobs=[dg.define_asset_job("all")], resources={"io_manager": io(root, **manager)}
    ).resolve_job_def("all")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline_assets.io_manager.report", lost)
        failed = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not failed.success
    assert resume(instance, failed.run_id, job).run_id is None
    assert rows(root, "table") == [(0, 0), (1, 1)]


def io(root: Path, **manager: Any) -> Any:
    return DeltaCheckpointIOManager(root_uri=str(root), **manager)


def test_the_writer_s_properties_are_taken(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset((1, 1))], writer_properties={"compression": "SNAPPY"})
    assert all(name.endswith(".snappy.parquet") for name in parquet(root, "table"))


def test_the_user_s_own_commit_metadata_is_in_the_history(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset((1, 1))], custom_metadata={"userName": "ada"})
    assert DeltaTable(root / "public" / "table").history(1)[0]["userName"] == "ada"


def test_the_manager_s_schema_is_the_folder(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset((1, 1))], schema="shop")
    assert rows(root, "table", "shop") == [(1, 1)]


def test_a_table_s_properties_are_set_when_it_is_created(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [asset((1, 1))], table_config={"delta.logRetentionDuration": "interval 7 days"})
    found = DeltaTable(root / "public" / "table").metadata().configuration
    assert found["delta.logRetentionDuration"] == "interval 7 days"
