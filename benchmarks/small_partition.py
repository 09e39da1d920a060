"""(b) A small daily partition: what the IO manager adds to Dagster's own cost, against a bare delta-rs write of it.

`python benchmarks/small_partition.py`: ms at the 20th and the 300th version, medians of the ten around it.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from deltalake import write_deltalake
from measure import Numbers, main

KEYS = [f"day-{number:03}" for number in range(310)]
DAYS = dg.StaticPartitionsDefinition(KEYS)


def frame(key: str) -> pl.DataFrame:
    return pl.DataFrame({"day": [key] * 1000, "n": range(1000)})


class Nothing(dg.IOManager):
    """What is left is Dagster's own cost."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None: ...

    def load_input(self, context: dg.InputContext) -> None: ...


def runs(io: Any) -> list[float]:
    """Seconds of each run."""

    @dg.asset(partitions_def=DAYS, metadata={"partition_expr": "day"})
    def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return frame(context.partition_key)

    job = dg.Definitions([table], resources={"io_manager": io}, jobs=[dg.define_asset_job("all")]).resolve_job_def(
        "all"
    )
    loggers = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    taken = []
    with dg.DagsterInstance.get() as instance:
        for key in KEYS:
            began = time.perf_counter()
            job.execute_in_process(instance=instance, partition_key=key, run_config=loggers)
            taken.append(time.perf_counter() - began)
    return taken


def summary(taken: list[float]) -> Numbers:
    return {"20th (ms)": 1000 * statistics.median(taken[15:25]), "300th (ms)": 1000 * statistics.median(taken[295:305])}


def ours(root: Path) -> Numbers:
    from pipeline_assets import DeltaCheckpointIOManager

    return summary(runs(DeltaCheckpointIOManager(root_uri=str(root / "tables"))))


def nothing(_: Path) -> Numbers:
    return summary(runs(Nothing()))


def bare(root: Path) -> Numbers:
    """delta-rs alone, one partition replaced."""
    taken = []
    for number, key in enumerate(KEYS):
        arrow = frame(key).to_arrow()
        predicate = {"predicate": f"day = '{key}'"} if number else {}
        began = time.perf_counter()
        write_deltalake(root / "table", arrow, mode="overwrite", partition_by=["day"], **predicate)
        taken.append(time.perf_counter() - began)
    return summary(taken)


def verdict(found: dict[str, Numbers]) -> str:
    lines = []
    for when in ("20th (ms)", "300th (ms)"):
        added = found["ours"][when] - found["nothing"][when]
        lines.append(f"{when}: added {added:.1f} ms = {added / found['bare'][when]:.2f} × a bare write (target 1.0)")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__file__, {"ours": ours, "nothing": nothing, "bare": bare}, verdict, times=1)
