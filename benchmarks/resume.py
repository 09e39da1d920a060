"""(g) Four stages, the third fails and is mended, `pipeline-assets resume` runs the third and the fourth.

`python benchmarks/resume.py [TIMES]` (5 without). What counts is the wall time of the command less the seconds of the two
stages themselves, from the start of a step to its success: starting Python, loading the code location, planning, and what
Dagster does around a run.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.settings import io_manager

ROWS = 2_000_000
TARGET = 3.0
"""Seconds beside the remaining work."""
BROKEN = "broken"


@dg.asset(key_prefix="resumed")
def orders() -> pl.LazyFrame:
    return pl.LazyFrame({"order": range(ROWS)}).with_columns(customer=pl.col("order") % 5000)


@dg.asset(key_prefix="resumed")
def priced(orders: pl.LazyFrame) -> pl.LazyFrame:
    return orders.with_columns(cents=pl.col("order") * 3 + 100)


@dg.asset(key_prefix="resumed")
def by_customer(priced: pl.LazyFrame) -> pl.LazyFrame:
    if Path(os.environ["DAGSTER_HOME"], BROKEN).exists():
        raise ValueError(BROKEN)
    return priced.group_by("customer").agg(pl.col("cents").sum(), orders=pl.len())


@dg.asset(key_prefix="resumed")
def report(by_customer: pl.LazyFrame) -> pl.LazyFrame:
    return by_customer.select(pl.col("cents").sum(), pl.col("orders").sum())


defs = dg.Definitions(
    [orders, priced, by_customer, report],
    jobs=[dg.define_asset_job("resumed_job", selection=dg.AssetSelection.all())],
    resources={"io_manager": io_manager()},
    executor=dg.in_process_executor,
)


def command(*arguments: str, status: int) -> float:
    """Wall seconds of a process of this Python."""
    began = time.perf_counter()
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, *arguments], env={**os.environ, **here}, capture_output=True, check=False)
    assert done.returncode == status, done.stderr.decode()
    return time.perf_counter() - began


def once(folder: Path) -> tuple[float, float]:
    """Wall seconds of the resume, and those of its two stages."""
    os.environ.update(DAGSTER_HOME=str(folder), PIPELINE_ASSETS_ROOT=str(folder / "tables"))
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (folder / BROKEN).touch()
    command("-m", "dagster", "asset", "materialize", "-m", Path(__file__).stem, "--select", "*", status=1)
    (folder / BROKEN).unlink()
    ours = "from pipeline_assets.cli import main; main()"
    wall = command("-c", ours, "resume", "--last", "-m", Path(__file__).stem, status=0)
    with dg.DagsterInstance.get() as instance:
        stats: Any = instance.get_run_step_stats(instance.get_runs(limit=1)[0].run_id)
    assert {one.step_key for one in stats} == {"resumed__by_customer", "resumed__report"}
    return wall, sum(one.end_time - one.start_time for one in stats)


def main(times: int) -> None:
    found = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            found.append(once(Path(folder)))
    print("| resume (s) | its stages (s) | beside them (s) |\n|---|---|---|")
    for wall, work in found:
        print(f"| {wall:.2f} | {work:.2f} | {wall - work:.2f} |")
    beside = [wall - work for wall, work in found]
    verdict = "met" if max(beside) <= TARGET else "MISSED"
    print(
        f"\nBeside the work: median {statistics.median(beside):.2f} s, most {max(beside):.2f} s; at most {TARGET}: {verdict}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
