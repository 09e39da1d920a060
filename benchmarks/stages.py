"""What `stage` with everything on adds to a plain asset that succeeds at once, and what skipping an unchanged pipeline takes.

`python benchmarks/stages.py`: chains of fifty; ms a step, from its start's event to its success's.
"""

import os
import statistics
from pathlib import Path
from typing import Any

from measure import Numbers, main

STAGES, TURNS = 50, 6
CODE = """
import dagster as dg
import polars as pl
from pipeline_assets import DeltaCheckpointIOManager, stage

class Nothing(dg.IOManager):
    def handle_output(self, context, obj): ...
    def load_input(self, context): return pl.LazyFrame()

KIND = {kind!r}
EVERYTHING = dict(max_retries=3, timeout=600, retry_on_timeout=True, transient=(KeyError,), skip_if_unchanged=True)

def made(number):
    ins = {{"before": dg.AssetIn(f"stage_{{number - 1}}")}} if number else {{}}
    more = dict(EVERYTHING, fingerprint=lambda: 1) if KIND == "stage" else {{}}
    decorate = stage if KIND == "stage" else dg.asset

    if number:
        @decorate(name=f"stage_{{number}}", ins=ins, **more)
        def one(before: pl.LazyFrame) -> pl.DataFrame:
            return pl.DataFrame({{"n": [number]}})
    else:
        @decorate(name="stage_0", **more)
        def one() -> pl.DataFrame:
            return pl.DataFrame({{"n": [number]}})
    return one

io = Nothing() if KIND == "empty" else DeltaCheckpointIOManager(root_uri="tables_" + KIND)
defs = dg.Definitions(
    [made(number) for number in range({stages})],
    resources={{"io_manager": io}},
    jobs=[dg.define_asset_job("all_of_them", selection="*")],
    executor=dg.in_process_executor,
)
"""


def loaded(kind: str) -> Any:
    """The job of a chain of one kind, with tables of its own."""
    place: dict[str, Any] = {}
    exec(CODE.format(kind=kind, stages=STAGES), place)  # noqa: S102  our own
    return place["defs"].resolve_job_def("all_of_them")


def in_turns(root: Path) -> Numbers:
    """Ms a step, medians over all steps of some runs; the contenders take turns in one process."""
    import dagster as dg

    os.chdir(root)
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    jobs = {kind: loaded(kind) for kind in ("plain", "stage", "empty")}
    turns = [("plain", {}), ("stage", {"pipeline_assets/force": "true"}), ("stage", {}), ("empty", {})]
    taken: dict[str, list[float]] = {}
    with dg.DagsterInstance.get() as instance:
        for turn in range(TURNS):
            for kind, tags in turns:
                run = jobs[kind].execute_in_process(instance=instance, run_config=quiet, tags=tags)
                name = "skipped" if kind == "stage" and not tags else kind
                if turn:  # the first has its tables to create
                    taken.setdefault(name, []).extend(steps(instance, run.run_id))
    return {f"{name} (ms)": 1000 * statistics.median(seconds) for name, seconds in taken.items()}


def steps(instance: Any, run_id: str) -> list[float]:
    """Seconds from each step's start to its success."""
    import dagster as dg

    began: dict[str, float] = {}
    found = []
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}):
        if entry.step_key in began:
            found.append(entry.timestamp - began[entry.step_key])
        began[entry.step_key] = entry.timestamp
    return found


def verdict(found: dict[str, Numbers]) -> str:
    one = found["in_turns"]
    added, ratio = one["stage (ms)"] - one["plain (ms)"], one["skipped (ms)"] / one["empty (ms)"]
    return f"stage adds {added:.1f} ms (target 5)\nan unchanged stage takes {ratio:.2f} × an empty asset (target 1.2)"


if __name__ == "__main__":
    main(__file__, {"in_turns": in_turns}, verdict, times=1)
