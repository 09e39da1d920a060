"""Three stages on an object store that may be flaky, how they are run, and what must be true of them afterwards."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets import DeltaCheckpointIOManager, stage
from pipeline_assets.delta.location import Location
from pipeline_assets.io.storage_config import ClientConfig
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.seaweed import S3

MAX_RETRIES = 8
ROWS = 20_000
NAMES = ("numbers", "squares", "sums")


def stages(max_retries: int = MAX_RETRIES, **policy: Any) -> list[dg.AssetsDefinition]:
    """Numbers, their squares, and the sums of those."""
    how: dict[str, Any] = {"max_retries": max_retries, "key_prefix": "unsteady", **policy}

    @stage(**how)
    def numbers() -> pl.LazyFrame:
        return pl.LazyFrame({"n": range(ROWS)})

    @stage(**how)
    def squares(numbers: pl.LazyFrame) -> pl.LazyFrame:
        return numbers.select("n", square=pl.col("n") ** 2, half=pl.col("n") % 2)

    @stage(**how)
    def sums(squares: pl.DataFrame) -> pl.DataFrame:
        return squares.group_by("half").agg(pl.col("square").sum())

    return [numbers, squares, sums]


def manager(s3: S3, timeout: str | None = "5s", **more: Any) -> DeltaCheckpointIOManager:
    """The IO manager for a store; its client repeats a request once, so that stages hear of what goes wrong.

    timeout: the client's, for a request; None: its own.
    """
    how: dict[str, Any] = {"storage_retries": 1, **more}
    client = ClientConfig(allow_http=True, timeout=timeout)
    return DeltaCheckpointIOManager(root_uri=s3.uri, storage_options=s3.config, client_options=client, **how)


def run(
    instance: dg.DagsterInstance, s3: S3, assets: list[dg.AssetsDefinition] | None = None, **more: Any
) -> dg.ExecuteInProcessResult:
    """Materialize the stages."""
    return dg.materialize(
        stages() if assets is None else assets,
        instance=instance,
        resources={"io_manager": manager(s3, **more)},
        raise_on_error=False,
    )


def rest_job(s3: S3, assets: list[dg.AssetsDefinition] | None = None, **more: Any) -> dg.JobDefinition:
    """The job of the last two stages."""
    return definitions(s3, stages() if assets is None else assets, **more).resolve_job_def("rest_job")


def definitions(s3: S3, assets: list[dg.AssetsDefinition], **more: Any) -> dg.Definitions:
    """The stages and the job of the last two."""
    return dg.Definitions(
        assets=assets,
        jobs=[dg.define_asset_job("rest_job", selection=["unsteady/squares", "unsteady/sums"])],
        resources={"io_manager": manager(s3, **more)},
        executor=dg.in_process_executor,
    )


def tables(server: S3) -> dict[str, Location]:
    """The tables of the stages, to be read past the proxy."""
    root = Location.of(server.uri, server.storage_options)
    return {name: root.child("unsteady", name) for name in NAMES}


def failures(instance: dg.DagsterInstance, run_id: str) -> dict[str, list[Mapping[str, Any]]]:
    """The events of the attempts that failed, by step: their metadata, and `said`."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "stage/attempt" in metadata:
            values = {name: value.value for name, value in metadata.items()}
            found.setdefault(str(entry.step_key), []).append({**values, "said": entry.message})
    return found


def attempts(instance: dg.DagsterInstance, run_id: str) -> dict[str, int]:
    """How many attempts each step had."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
    counts: dict[str, int] = {}
    for entry in instance.all_logs(run_id, of_type=kinds):
        counts[str(entry.step_key)] = counts.get(str(entry.step_key), 0) + 1
    return counts


def refuse_wrong_tables(instance: dg.DagsterInstance, server: S3, chains: int = 1) -> None:
    """Right rows, each table written once by each run chain, each commit with its event. Raises AssertionError."""
    found = tables(server)
    evidence.all_lawful(instance, found.values())
    for name, table in found.items():
        assert len(evidence.writes(table)) == chains, f"{name}: {evidence.writes(table)}"
    assert evidence.rows(found["numbers"])["n"].to_list() == list(range(ROWS))
    halves = [sum(n**2 for n in range(ROWS) if n % 2 == half) for half in (0, 1)]
    assert evidence.rows(found["sums"]).sort("half")["square"].to_list() == halves


def refuse_untold_failures(instance: dg.DagsterInstance, run_id: str, max_retries: int) -> None:
    """Each attempt that failed has its event, with class and wait; no stage had more than it may. Raises AssertionError."""
    told = failures(instance, run_id)
    for step, count in attempts(instance, run_id).items():
        events = told.get(step, [])
        assert count <= max_retries + 1, f"{step} had {count} attempts"
        assert [one["stage/attempt"] for one in events] == list(range(1, count)), f"{step}: {count} attempts, {events}"
        for one in events:
            assert one["stage/error_class"], one
            assert one["stage/wait_seconds"] >= 0, one
            assert "transient" in one["stage/next"], one
