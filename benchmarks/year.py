"""(c) A year of days in one run, against Dagster's own cost for 365 materialization events plus the raw work.

`python benchmarks/year.py`
"""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from measure import Numbers, main
from small_partition import Nothing

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
RANGE = {"dagster/asset_partition_range_start": "2013-01-01", "dagster/asset_partition_range_end": "2013-12-31"}
ROWS = 1_000_000


def frame() -> pl.LazyFrame:
    first = dt.date(2013, 1, 1)
    days = pl.int_range(ROWS, eager=False) % 365
    return pl.select(day=pl.lit(first) + pl.duration(days=days), n=pl.int_range(ROWS)).lazy()


def run(io: Any) -> Numbers:
    @dg.asset(partitions_def=DAYS, metadata={"partition_expr": "day"}, backfill_policy=dg.BackfillPolicy.single_run())
    def table() -> pl.LazyFrame:
        return frame()

    job = dg.Definitions([table], resources={"io_manager": io}, jobs=[dg.define_asset_job("all")]).resolve_job_def(
        "all"
    )
    loggers = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    with dg.DagsterInstance.get() as instance:
        began = time.perf_counter()
        job.execute_in_process(instance=instance, tags=RANGE, run_config=loggers)
        return {"seconds": time.perf_counter() - began}


def ours(root: Path) -> Numbers:
    from pipeline_assets import DeltaCheckpointIOManager

    return run(DeltaCheckpointIOManager(root_uri=str(root / "tables")))


def nothing(_: Path) -> Numbers:
    return run(Nothing())


def raw(root: Path) -> Numbers:
    """The files alone, as polars writes them."""
    began = time.perf_counter()
    frame().sink_parquet(pl.PartitionBy(root / "files", key="day", include_key=False), mkdir=True)
    return {"seconds": time.perf_counter() - began}


def verdict(found: dict[str, Numbers]) -> str:
    floor = found["nothing"]["seconds"] + found["raw"]["seconds"]
    return f"{found['ours']['seconds'] / floor:.2f} × Dagster's own cost plus the raw work (target 1.2)"


if __name__ == "__main__":
    main(__file__, {"ours": ours, "nothing": nothing, "raw": raw}, verdict, times=1)
