"""(h) `pipeline-assets history` of a table with 10,000 checkpoints in SQLite; 1 s is allowed after the process's start.

`python benchmarks/history.py`: seconds from an open instance and loaded definitions to the text, for the newest fifty and for
all; 1,000 partitions that were written ten times each.
"""

import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import many_checkpoints
from measure import Numbers, main

PARTITIONS, ROUNDS, ALLOWED = 1000, 10, 1.0
ALL = PARTITIONS * ROUNDS


def ours(folder: Path, limit: str = "") -> Numbers:
    """Each limit in a process of its own, so that nothing is known yet when it begins."""
    if not limit:
        taken: Numbers = {}
        many_checkpoints.make(folder, folder / "tables", 1, PARTITIONS, ROUNDS)
        for wanted in ("50", str(ALL)):
            arguments = [sys.executable, __file__, "ours", str(folder), wanted]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True)
            said = json.loads(done.stdout.splitlines()[-1])
            taken |= {f"--limit {wanted} (s)": said["s"], f"of CPU, {wanted} (s)": said["cpu"]}
        return taken
    from pipeline_assets.cli.history import HEADS, _row
    from pipeline_assets.cli.shown import show
    from pipeline_assets.recovery.history import history

    repository = many_checkpoints.definitions(folder / "tables", 1, PARTITIONS).get_repository_def()
    repository.get_implicit_global_asset_job_def()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        began, cpu = time.perf_counter(), time.process_time()
        found = history(instance, repository, "many", "s00", limit=int(limit))
        with contextlib.redirect_stdout(io.StringIO()):
            show(HEADS, [_row(one) for one in found.lines])
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
    assert len(found.lines) == int(limit)
    assert all(one.restorable for one in found.lines)
    return {"s": seconds, "cpu": used}


def verdict(found: dict[str, Numbers]) -> str:
    seconds = found["ours"]["--limit 50 (s)"]
    return f"{seconds:.2f} s, {ALLOWED:g} is allowed: {'met' if seconds <= ALLOWED else 'missed'}"


if __name__ == "__main__":
    main(__file__, {"ours": ours}, verdict, 1)
