"""How these tests run assets, and what they look at afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from deltalake import DeltaTable

from pipeline_assets import DeltaCheckpointIOManager

WINDOW = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def run(
    instance: dg.DagsterInstance,
    root: Path,
    assets: Sequence[Any],
    key: str | None = None,
    window: tuple[str, str] | None = None,
    *,
    ok: bool = True,
    selection: str | Sequence[str] | None = None,
    **manager: Any,
) -> dg.ExecuteInProcessResult:
    """Materialize assets; `window`: a range of partitions in one run."""
    result = dg.materialize(
        assets,
        selection=selection,
        instance=instance,
        partition_key=key,
        tags=dict(zip(WINDOW, window, strict=True)) if window else None,
        resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(root), **manager)},
        raise_on_error=False,
    )
    assert result.success == ok, failure(result) if ok else "it succeeded"
    return result


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What the failed steps said."""
    steps = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return "\n".join(error.to_string() for error in steps if error)


def rows(root: Path, table: str, schema: str = "public") -> list[Any]:
    """All rows of a table, sorted, through a fresh handle."""
    frame = pl.read_delta(str(root / schema / table))
    return sorted(frame.select(sorted(frame.columns)).rows())


def version(root: Path, table: str, schema: str = "public") -> int:
    return DeltaTable(root / schema / table).version()


def parquet(root: Path, table: str, schema: str = "public") -> set[str]:
    """Data files below a table, whether a commit names them or not."""
    folder = root / schema / table
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts}


def told(result: dg.ExecuteInProcessResult, asset: str) -> dict[str | None, Mapping[str, Any]]:
    """The metadata of an asset's events by partition."""
    events = [event.materialization for event in result.get_asset_materialization_events()]
    return {
        one.partition: {name: value.value for name, value in one.metadata.items()}
        for one in events
        if one.asset_key.path[-1] == asset
    }
