"""(g) `pipeline-assets status` of 50 stages × 1,000 partitions in SQLite; 2 s are allowed after the process's start.

`python benchmarks/status.py`: seconds from an open instance and loaded definitions to the text, and of this process's CPU.
"""

import contextlib
import io
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import many_checkpoints
from measure import Numbers, main

STAGES, PARTITIONS, ALLOWED = 50, 1000, 2.0


def ours(folder: Path, made: str = "") -> Numbers:
    """In a process of its own, so that nothing is known yet when it begins; `made` there all is."""
    if not made:
        many_checkpoints.make(folder, folder / "tables", STAGES, PARTITIONS)
        done = subprocess.run(
            [sys.executable, __file__, "ours", str(folder), "made"], capture_output=True, text=True, check=True
        )
        print(done.stdout.splitlines()[-1])
        sys.exit(0)
    from pipeline_assets.cli.shown import show
    from pipeline_assets.cli.status import HEADS, _lines, _rows
    from pipeline_assets.recovery.status import status

    repository = many_checkpoints.definitions(folder / "tables", STAGES, PARTITIONS).get_repository_def()
    repository.get_implicit_global_asset_job_def()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        began, cpu = time.perf_counter(), time.process_time()
        found = status(instance, repository)
        with contextlib.redirect_stdout(io.StringIO()):
            show(HEADS, [row for one in found.stages for row in _rows(one)])
            print(*_lines(found, None))
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    assert sum(one.counts["materialized"] for one in found.stages) == STAGES * PARTITIONS
    assert not any(one.owed or one.disagreements for one in found.stages)
    return {"status (s)": seconds, "of CPU (s)": used}


def verdict(found: dict[str, Numbers]) -> str:
    seconds = found["ours"]["status (s)"]
    return f"{seconds:.2f} s, {ALLOWED:g} are allowed: {'met' if seconds <= ALLOWED else 'missed'}"


if __name__ == "__main__":
    main(__file__, {"ours": ours}, verdict, 1)
