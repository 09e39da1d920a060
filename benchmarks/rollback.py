"""(j) A rollback: eight tables of 100 files each go back by one run, on a local disk, without process start.

`python benchmarks/rollback.py`: s for each of 20, median and p95; the plan, of which the rest is holding, restoring, telling.
"""

import statistics
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from measure import Numbers, main

TABLES, FILES, TIMES = 8, 100, 20
TARGET = 1.0
DAYS = [date(2013, 1, 1) + timedelta(days=number) for number in range(FILES)]
YEARS = dg.TimeWindowPartitionsDefinition(cron_schedule="0 0 1 1 *", start="2013", fmt="%Y", end_offset=1)


def stages() -> list[dg.AssetsDefinition]:
    """Each of a year, with a file a day."""

    def one(number: int) -> dg.AssetsDefinition:
        before: Any = {"deps": [f"t{number - 1}"]} if number else {}

        @dg.asset(name=f"t{number}", partitions_def=YEARS, metadata={"partition_expr": "day"}, **before)
        def rows() -> pl.DataFrame:
            return pl.DataFrame({"day": DAYS * 10, "n": range(FILES * 10)})

        return rows

    return [one(number) for number in range(TABLES)]


def roll_back(root: Path) -> Numbers:
    """So many rollbacks of a run, each after two runs that wrote all of it anew."""
    from pipeline_assets import DeltaCheckpointIOManager
    from pipeline_assets.recovery.rollback import roll_back as back
    from pipeline_assets.recovery.rollback_plan import UNDO, Asked
    from pipeline_assets.recovery.rollback_planning import plan_of

    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(root / "tables"))}
    defs = dg.Definitions(stages(), resources=resources, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    taken, planned = [], []
    with dg.DagsterInstance.get() as instance:

        def run() -> str:
            return job.execute_in_process(quiet, instance=instance, partition_key="2013").run_id

        for _ in range(TIMES):
            run()
            asked = Asked(UNDO, run())
            began = time.perf_counter()
            plan_of(instance, job, asked)
            planned.append(time.perf_counter() - began)
            began = time.perf_counter()
            done = back(instance, job, asked)
            taken.append(time.perf_counter() - began)
            assert len(done.plan.tables) == TABLES
    for table in (root / "tables" / "public").iterdir():
        assert len(pl.scan_delta(str(table)).select(pl.len()).collect()) == 1
        assert len(list(table.glob("day=*"))) == FILES
    return {
        "median (s)": statistics.median(taken),
        "p95 (s)": statistics.quantiles(taken, n=20, method="inclusive")[-1],
        "max (s)": max(taken),
        "plan alone, median (s)": statistics.median(planned),
    }


def verdict(found: dict[str, Numbers]) -> str:
    p95 = found["roll_back"]["p95 (s)"]
    return f"{TIMES} rollbacks of {TABLES} tables of {FILES} files: p95 {p95:.2f} s (target {TARGET:.1f} s)"


if __name__ == "__main__":
    main(__file__, {"roll_back": roll_back}, verdict, times=1)
