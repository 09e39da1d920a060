"""(b) A small daily partition: what the IO manager adds to Dagster's own cost, against a bare delta-rs write of it.

`python benchmarks/small_partition.py`: ms at the 20th and the 300th version, medians of the twenty around it;
the contenders take turns in one process.
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


def job_of(name: str, io: Any) -> dg.JobDefinition:
    @dg.asset(name=name, partitions_def=DAYS, metadata={"partition_expr": "day"})
    def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return frame(context.partition_key)

    place = dg.Definitions([table], resources={"io_manager": io}, jobs=[dg.define_asset_job("all")])
    return place.resolve_job_def("all")


def in_turns(root: Path) -> Numbers:
    """A day of ours, of an IO manager that does nothing, of the bare write; then the next day: all meet the same machine."""
    from pipeline_assets import DeltaCheckpointIOManager

    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    jobs = {
        "ours": job_of("ours", DeltaCheckpointIOManager(root_uri=str(root / "tables"))),
        "nothing": job_of("nothing", Nothing()),
    }
    taken: dict[str, list[float]] = {"ours": [], "nothing": [], "bare": []}
    with dg.DagsterInstance.get() as instance:
        for number, key in enumerate(KEYS):
            for name, job in jobs.items():
                began = time.perf_counter()
                job.execute_in_process(instance=instance, partition_key=key, run_config=quiet)
                taken[name].append(time.perf_counter() - began)
            taken["bare"].append(bare(root, number, key))
    return {
        f"{name} {when} (ms)": 1000 * statistics.median(seconds[at - 10 : at + 10])
        for name, seconds in taken.items()
        for when, at in (("20th", 20), ("300th", 300))
    }


def bare(root: Path, number: int, key: str) -> float:
    """Seconds of delta-rs alone, one partition replaced."""
    arrow = frame(key).to_arrow()
    predicate = {"predicate": f"day = '{key}'"} if number else {}
    began = time.perf_counter()
    write_deltalake(root / "table", arrow, mode="overwrite", partition_by=["day"], **predicate)
    return time.perf_counter() - began


def verdict(found: dict[str, Numbers]) -> str:
    lines = []
    for when in ("20th", "300th"):
        ours, nothing, alone = (found["in_turns"][f"{name} {when} (ms)"] for name in ("ours", "nothing", "bare"))
        lines.append(
            f"{when}: added {ours - nothing:.1f} ms = {(ours - nothing) / alone:.2f} × a bare write (target 1.0)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(__file__, {"in_turns": in_turns}, verdict, times=1)
