"""What `stage` with everything on adds to a plain asset that succeeds at once, and what skipping an unchanged pipeline takes.

`python benchmarks/stages.py`: chains of fifty, each run by `dagster job execute` in a process of its own (so that one
watches it); ms a step, by the events, from the start of the first step to the end of the last.
"""

import subprocess
import sys
from pathlib import Path

from measure import Numbers, main

STAGES = 50
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

io = Nothing() if KIND == "empty" else DeltaCheckpointIOManager(root_uri="tables")
defs = dg.Definitions(
    [made(number) for number in range({stages})],
    resources={{"io_manager": io}},
    jobs=[dg.define_asset_job("all_of_them", selection="*")],
    executor=dg.in_process_executor,
)
"""


def runs(root: Path, kind: str, times: int) -> list[float]:
    """Ms a step of each of some runs of the same chain."""
    import dagster as dg

    (root / "place.py").write_text(CODE.format(kind=kind, stages=STAGES))
    quiet = root / "quiet.yaml"
    quiet.write_text("loggers: {console: {config: {log_level: ERROR}}}\n")
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "place", "-j", "all_of_them", "-c", str(quiet)]
    for _ in range(times):
        subprocess.run(command, cwd=root, capture_output=True, check=True)
    taken = []
    with dg.DagsterInstance.get() as instance:
        for run in list(instance.get_runs())[::-1]:
            kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}
            moments = [entry.timestamp for entry in instance.all_logs(run.run_id, of_type=kinds)]
            taken.append(1000 * (moments[-1] - moments[0]) / STAGES)
    return taken


def stage(root: Path) -> Numbers:
    made, *skipped = runs(root, "stage", 3)
    return {"made (ms)": made, "again (ms)": min(skipped)}


def plain(root: Path) -> Numbers:
    made, again = runs(root, "plain", 2)
    return {"made (ms)": made, "again (ms)": again}


def empty(root: Path) -> Numbers:
    made, *again = runs(root, "empty", 3)
    return {"made (ms)": made, "again (ms)": min(again)}


def verdict(found: dict[str, Numbers]) -> str:
    added = found["stage"]["made (ms)"] - found["plain"]["made (ms)"]
    ratio = found["stage"]["again (ms)"] / found["empty"]["again (ms)"]
    return f"stage adds {added:.1f} ms (target 5)\nan unchanged stage takes {ratio:.2f} × an empty asset (target 1.2)"


if __name__ == "__main__":
    main(__file__, {"stage": stage, "plain": plain, "empty": empty}, verdict, times=1)
