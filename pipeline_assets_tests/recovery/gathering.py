"""A code location whose days gather into one table, and that into another; and a process that makes one day at a sign.

`python -m pipeline_assets_tests.recovery.gathering KEY FOLDER [JOB]` runs the day up to its first stage, leaves
`FOLDER/ready-…`, and goes on when there is `FOLDER/go`. Runs are created one after the other: Dagster's SQLite gives up after
five seconds where two dozen processes of a busy machine do that at once.
"""

import os
import sys
import time
from pathlib import Path

import dagster as dg
import polars as pl
from filelock import FileLock

from pipeline_assets.settings import io_manager

MANY = [f"day-{number}" for number in range(24)]
KEYS = MANY[:6]
DAYS = dg.StaticPartitionsDefinition(MANY)


@dg.asset(key_prefix="days", partitions_def=DAYS, metadata={"partition_expr": "day"})
def rows(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """A row a day, which says who made it."""
    _wait()
    return pl.DataFrame({"day": [context.partition_key], "by": [context.run.run_id], "n": [1]})


@dg.asset(key_prefix="days")
def all_days(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Every day that is there."""
    return rows.select("day", "by")


@dg.asset(key_prefix="days")
def counted(all_days: pl.LazyFrame) -> pl.LazyFrame:
    """How many those are."""
    return all_days.select(days=pl.len())


ASSETS = [rows, all_days, counted]


def definitions() -> dg.Definitions:
    """The code location, with its tables where the environment says now."""
    jobs = [
        dg.define_asset_job("days_job", selection=dg.AssetSelection.all()),
        dg.define_asset_job("rows_job", selection=[rows]),
    ]
    resources = {"io_manager": io_manager()}
    return dg.Definitions(ASSETS, jobs=jobs, resources=resources, executor=dg.in_process_executor)


_begun: list[tuple[Path, FileLock]] = []


def _wait() -> None:
    for folder, creating in _begun:
        creating.release()
        (folder / f"ready-{os.getpid()}").touch()
        while not (folder / "go").exists():
            time.sleep(0.005)


def main(key: str, folder: Path, job: str = "days_job") -> int:
    """Make a day together with others; 0 where the run ended green."""
    todo = definitions().resolve_job_def(job)
    _begun.append((folder, FileLock(folder / "creating.lock")))
    with dg.DagsterInstance.get() as instance:
        _begun[0][1].acquire()
        return 0 if todo.execute_in_process(instance=instance, partition_key=key, raise_on_error=False).success else 1


defs = definitions()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
