"""`maintenance_job`: keeps the tables of a code location small, and what the rollback window needs."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster import MetadataValue
from pydantic import Field

from pipeline_assets.errors import PipelineAssetsError
from pipeline_assets.markdown import table
from pipeline_assets.policy.commands import located, module_of
from pipeline_assets.recovery.code_location import ANY_ASSETS, MAINTENANCE_JOB, NEVER_AGAIN, job_beside
from pipeline_assets.recovery.maintenance import Maintained, Wanted, maintain

MEBIBYTE = 1024**2


class MaintenanceConfig(dg.Config):
    """Which of its parts are done, in which tables. Nothing that the rollback window needs is ever deleted."""

    compact: bool = Field(default=True, description="Makes one file of many small ones in a partition (OPTIMIZE).")
    checkpoint: bool = Field(default=True, description="Writes a log checkpoint, so that a table opens fast.")
    vacuum: bool = Field(default=True, description="Deletes the files that were removed before the rollback window.")
    orphans: bool = Field(
        default=True,
        description="Deletes files that no commit names, older than the rollback window, unless of a run at work.",
    )
    clean_log: bool = Field(
        default=True,
        description="Deletes log entries from before the rollback window that no table state in it needs.",
    )
    stages: list[str] = Field(default=[], description="Only these stages, by asset key: flights/legs. Empty: all.")
    target_mb: int = Field(default=128, gt=0, description="Files smaller than so many MiB are compacted.")
    dry_run: bool = Field(default=False, description="Only says what would be done.")


def maintenance_job(window: Callable[[], timedelta], name: str = MAINTENANCE_JOB) -> dg.JobDefinition:
    """A job that maintains all tables of the code location that it is put into.

    Its op `maintenance` takes MaintenanceConfig.

    window: how long a version can be rolled back to, asked when the job runs: `pipeline_assets.settings.rollback_window`.
    """

    @dg.op(name="maintenance", out=dg.Out(dg.Nothing), description="Maintains one table after the other.")
    def maintenance(context: dg.OpExecutionContext, config: MaintenanceConfig) -> None:
        try:
            wanted = _wanted(config, window())
            done = maintain(context.instance, job_beside(context, ANY_ASSETS).get_definition(), wanted)
        except PipelineAssetsError as error:
            raise dg.Failure(located(str(error), module_of(context.run)), allow_retries=False) from error
        said: dict[str, Any] = {
            "tables": MetadataValue.md(_table(done)),
            "window (days)": wanted.window / timedelta(days=1),
        }
        failed = [one for one in done if one.failed]
        if failed:
            names = ", ".join(one.stage for one in failed)
            raise dg.Failure(
                f"{names}: not all was done ({failed[0].failed}). No data was changed; launch it again when that is mended.",
                metadata=said,
                allow_retries=False,
            )
        context.add_output_metadata(said)

    @dg.job(
        name=name,
        tags=NEVER_AGAIN,
        executor_def=dg.in_process_executor,
        description="Compacts, vacuums and tidies the tables; keeps what can be rolled back to.",
    )
    def job() -> None:
        maintenance()

    return job


def _wanted(config: MaintenanceConfig, window: timedelta) -> Wanted:
    return Wanted(
        window,
        compact=config.compact,
        checkpoint=config.checkpoint,
        vacuum=config.vacuum,
        orphans=config.orphans,
        clean_log=config.clean_log,
        stages=config.stages,
        target=config.target_mb * MEBIBYTE,
        dry_run=config.dry_run,
    )


def _table(done: Iterable[Maintained]) -> str:
    columns = ("table", "files", "bytes", "deleted", "log entries", "done", "kept")
    return table(columns, map(_row, done))


def _row(one: Maintained) -> tuple[object, ...]:
    return (
        one.stage,
        f"{one.before.files} → {one.after.files}",
        f"{one.before.bytes:,} → {one.after.bytes:,}",
        f"{one.removed.files} files, {one.removed.bytes:,} bytes",
        one.entries,
        "; ".join([*one.done, *([f"failed: {one.failed}"] if one.failed else [])]),
        "; ".join(one.kept),
    )
