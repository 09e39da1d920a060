"""(b) A small daily partition: what the IO manager adds to Dagster's own cost, against a bare delta-rs write of it.

`python benchmarks/small_partition.py`: ms at the 20th and the 300th version, medians of the thirty around it (of twelve
tables for the 20th); the contenders take turns in one process, in another order each day. The bare write is measured twice:
alone, and where ours is, in an IO manager: after any write Dagster's own part of the run takes some milliseconds longer. So
is Dagster's own cost: of an IO manager without configuration, and of one with ours (the storages' options, merges), of which
Dagster makes a snapshot for each run that it executes in process.
"""

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from deltalake import write_deltalake
from measure import Numbers, main

TABLES = 12
"""So many are written to for the 20th version, one of them for the 300th."""
WINDOWS = {"20th": range(5, 35), "300th": range(285, 315)}
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


class Timed(dg.IOManager):
    """Another one, of whose `handle_output` it notes the seconds."""

    def __init__(self, io: dg.IOManager, seconds: dict[str, float], name: str) -> None:
        self.io, self.seconds, self.name = io, seconds, name

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        began = time.perf_counter()
        self.io.handle_output(context, obj)
        self.seconds[self.name] = time.perf_counter() - began

    def load_input(self, context: dg.InputContext) -> Any:
        return self.io.load_input(context)


def job_of(name: str, io: Any) -> dg.JobDefinition:
    @dg.asset(name=name, partitions_def=DAYS, metadata={"partition_expr": "day"})
    def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return frame(context.partition_key)

    place = dg.Definitions([table], resources={"io_manager": io}, jobs=[dg.define_asset_job("all")])
    return place.resolve_job_def("all")


def in_turns(root: Path) -> Numbers:
    """A day of each contender in some order, then the next day: all meet the same machine, after the same others."""
    from pipeline_assets import DeltaCheckpointIOManager

    writes: dict[str, float] = {}

    class Ours(DeltaCheckpointIOManager):
        def create_io_manager(self, context: dg.InitResourceContext | None) -> Any:
            return Timed(super().create_io_manager(context), writes, "ours writes")

    class Idle(DeltaCheckpointIOManager):
        """Configured as ours, and does nothing."""

        def create_io_manager(self, context: dg.InitResourceContext | None) -> Any:  # noqa: ARG002  Dagster's signature
            return Nothing()

    contenders = {
        "ours": lambda place: Ours(root_uri=str(place / "ours")),
        "nothing": lambda _: Nothing(),
        "idle": lambda place: Idle(root_uri=str(place / "idle")),
        "bare_inside": lambda place: Timed(Bare(place / "inside"), writes, "bare_inside writes"),
    }
    taken: dict[str, dict[str, list[float]]] = {when: defaultdict(list) for when in WINDOWS}
    order = random.Random(20)  # noqa: S311  an order
    with dg.DagsterInstance.get() as instance:
        for table in range(TABLES):
            place = root / str(table)
            turns = [in_dagster(instance, name, io(place)) for name, io in contenders.items()]
            turns.append(("bare", lambda key, folder=place / "alone": bare(folder, key)))
            for number, key in enumerate(KEYS if table == TABLES - 1 else KEYS[:35]):
                order.shuffle(turns)
                seconds = {name: run(key) for name, run in turns} | writes
                for when in (when for when, days in WINDOWS.items() if number in days):
                    for name, one in seconds.items():
                        taken[when][name].append(one)
    return {f"{name} {when} (ms)": value for when, days in taken.items() for name, value in medians_of(days).items()}


def in_dagster(instance: dg.DagsterInstance, name: str, io: Any) -> tuple[str, Callable[[str], float]]:
    """A contender: its name, and the seconds of its run for a day."""
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    job = job_of(name, io)

    def run(key: str) -> float:
        began = time.perf_counter()
        job.execute_in_process(instance=instance, partition_key=key, run_config=quiet)
        return time.perf_counter() - began

    return name, run


def medians_of(taken: dict[str, list[float]]) -> Numbers:
    """Medians in ms, also of what each adds to the idle one of the same day: a machine's hours are not alike."""
    found = {name: 1000 * statistics.median(seconds) for name, seconds in taken.items()}
    for name, other in (("ours", "idle"), ("ours", "nothing"), ("bare_inside", "nothing")):
        pairs = zip(taken[name], taken[other], strict=True)
        found[f"{name} - {other}"] = 1000 * statistics.median(one - two for one, two in pairs)
    return found


def bare(folder: Path, key: str) -> float:
    """Seconds of delta-rs alone, one partition replaced."""
    arrow = frame(key).to_arrow()
    predicate = {"predicate": f"day = '{key}'"} if folder.exists() else {}
    began = time.perf_counter()
    write_deltalake(folder, arrow, mode="overwrite", partition_by=["day"], **predicate)
    return time.perf_counter() - began


def verdict(found: dict[str, Numbers]) -> str:
    lines = []
    for when in WINDOWS:
        numbers = {name.removesuffix(f" {when} (ms)"): one for name, one in found["in_turns"].items() if when in name}
        added, bare = numbers["bare_inside - nothing"], numbers["bare"]
        lines.append(
            f"{when}: ours adds {numbers['ours - idle']:.1f} ms to the idle one, a bare write {added:.1f} in the same place: "
            f"{numbers['ours - idle'] / added:.2f} × (target 1.0). Of that {numbers['ours writes']:.1f} and "
            f"{numbers['bare_inside writes']:.1f} in `handle_output`. "
            f"Of the bare write alone ({bare:.1f} ms) ours adds {numbers['ours - idle'] / bare:.2f} × to the idle one, and "
            f"{numbers['ours - nothing'] / bare:.2f} × to one without configuration"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(__file__, {"in_turns": in_turns}, verdict, times=1)
