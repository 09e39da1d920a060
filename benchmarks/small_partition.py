"""(b) A small daily partition: what the IO manager adds to Dagster's own cost, against a bare delta-rs write of it.

`python benchmarks/small_partition.py`: ms at the 20th and the 300th version, medians of the thirty around it; the
contenders take turns in one process. The bare write is measured twice: alone, and where ours is, in an IO manager.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from deltalake import write_deltalake
from measure import Numbers, main

KEYS = [f"day-{number:03}" for number in range(320)]
DAYS = dg.StaticPartitionsDefinition(KEYS)


def frame(key: str) -> pl.DataFrame:
    return pl.DataFrame({"day": [key] * 1000, "n": range(1000)})


class Nothing(dg.IOManager):
    """What is left is Dagster's own cost."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None: ...

    def load_input(self, context: dg.InputContext) -> None: ...


class Bare(Nothing):
    """The write and nothing else, in the same place as ours."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ARG002  Dagster's signature
        bare(self.root, context.partition_key)


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
    contenders = {
        "ours": DeltaCheckpointIOManager(root_uri=str(root / "tables")),
        "nothing": Nothing(),
        "bare_inside": Bare(root / "inside"),
    }
    jobs = [(name, job_of(name, io)) for name, io in contenders.items()]
    taken: dict[str, list[float]] = {name: [] for name in [*contenders, "bare"]}
    with dg.DagsterInstance.get() as instance:
        for number, key in enumerate(KEYS):
            turn = number % len(jobs)
            for name, job in jobs[turn:] + jobs[:turn]:
                began = time.perf_counter()
                job.execute_in_process(instance=instance, partition_key=key, run_config=quiet)
                taken[name].append(time.perf_counter() - began)
            taken["bare"].append(bare(root / "alone", key))
    return {
        f"{name} {when} (ms)": 1000 * statistics.median(seconds[at - 15 : at + 15])
        for name, seconds in taken.items()
        for when, at in (("20th", 20), ("300th", 300))
    }


def bare(folder: Path, key: str) -> float:
    """Seconds of delta-rs alone, one partition replaced."""
    arrow = frame(key).to_arrow()
    predicate = {"predicate": f"day = '{key}'"} if folder.exists() else {}
    began = time.perf_counter()
    write_deltalake(folder, arrow, mode="overwrite", partition_by=["day"], **predicate)
    return time.perf_counter() - began


def verdict(found: dict[str, Numbers]) -> str:
    lines = []
    for when in ("20th", "300th"):
        ours, nothing, inside, alone = (
            found["in_turns"][f"{name} {when} (ms)"] for name in ("ours", "nothing", "bare_inside", "bare")
        )
        added = ours - nothing
        lines.append(
            f"{when}: added {added:.1f} ms = {added / (inside - nothing):.2f} × what a bare write adds in its place "
            f"(target 1.0), {added / alone:.2f} × one that runs alone"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(__file__, {"in_turns": in_turns}, verdict, times=1)
