"""A caller's own process, in which a stage times out in `dg.materialize`: `python -m MODULE ROOT alone|beside`.

Prints a JSON object: what the failure says, the processes that were begun (`pids`), and which live on (`alive`).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import dagster as dg
import polars as pl

from pipeline_assets import DeltaCheckpointIOManager, stage
from pipeline_assets.processes import is_alive
from pipeline_assets_tests.stage.slow import NEVER, orphan

children: dict[str, "subprocess.Popen[str]"] = {}
pids: dict[str, int] = {}
began = threading.Event()


def begin(name: str, script: str = f"exec sleep {NEVER}") -> None:
    """A process, by its name here."""
    pipe = subprocess.PIPE
    children[name] = subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, text=True)
    pids[name] = children[name].pid


@stage(timeout=2, max_retries=0)
def late() -> pl.DataFrame:
    """Begins a process, and an orphan, has one that was there before begin another one, and never ends."""
    pids["orphan"] = orphan()
    begin("stage's")
    pool = children["before"]
    assert pool.stdin is not None
    assert pool.stdout is not None
    pool.stdin.write("\n")
    pool.stdin.flush()
    pids["pool's"] = int(pool.stdout.readline())
    began.set()
    time.sleep(NEVER)
    return pl.DataFrame()


def meanwhile() -> None:
    """What a caller does in another thread."""
    began.wait()
    begin("other thread's")


def main(root: str, how: str) -> None:
    """Materialize, look what is left, and end it."""
    begin("before", f"read line; sleep {NEVER} & echo $!; wait")
    time.sleep(0.1)  # start times are told by ticks of the clock
    if how == "beside":
        threading.Thread(target=meanwhile, daemon=True).start()
    store = DeltaCheckpointIOManager(root_uri=root)
    with dg.DagsterInstance.get() as instance:  # on disk: Dagster has processes that capture output
        result = dg.materialize([late], instance=instance, resources={"io_manager": store}, raise_on_error=False)
    said = result.get_step_failure_events()[0].step_failure_data.error_display_string
    deadline = time.monotonic() + 10
    ended = {"stage's", "orphan"} if how == "alone" else set()
    while any(is_alive(pids[name], time.time()) for name in ended) and time.monotonic() < deadline:
        time.sleep(0.02)
    alive = sorted(name for name, pid in pids.items() if is_alive(pid, time.time()))
    for name in alive:
        os.kill(pids[name], signal.SIGKILL)
    print(json.dumps({"said": said, "alive": alive, "pids": pids}))


if __name__ == "__main__":
    main(*sys.argv[1:])
