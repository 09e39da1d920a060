"""A code location whose second stage does something slow, once, as the environment says."""

import itertools
import json
import os
import subprocess
import time
from multiprocessing.connection import Connection
from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets import stage
from pipeline_assets.policy import watching
from pipeline_assets.settings import io_manager

HOW, SECONDS, RETRIES, AGAIN, PROCESSES = "SLOW_HOW", "SLOW_SECONDS", "SLOW_RETRIES", "SLOW_AGAIN", "SLOW_PROCESSES"
ALWAYS, STOP, INTERVAL, SAYING = "SLOW_ALWAYS", "SLOW_STOP", "SLOW_INTERVAL", "SLOW_SAYING"
AFTERWARDS = "SLOW_AFTERWARDS"
NEVER = 300


def variables() -> Path:
    """A JSON object that is added to the environment of each process: so a server that is up is told of other ways."""
    return Path(os.environ["DAGSTER_HOME"], "variables.json")


if "DAGSTER_HOME" in os.environ and variables().exists():
    os.environ.update(json.loads(variables().read_text()))
watching.STOP_SECONDS = float(os.environ.get(STOP, watching.STOP_SECONDS))
watching.AFTERWARDS = os.environ.get(AFTERWARDS, watching.AFTERWARDS)
_send = Connection._send_bytes


def _send_slowly(connection: Connection, said: bytes) -> None:
    _send(connection, said)
    time.sleep(float(os.environ[SAYING]))


if SAYING in os.environ:  # what the process of a step tells its executor takes so much longer
    Connection._send_bytes = _send_slowly


def marker() -> Path:
    """Written when the slow thing begins: a JSON object with `pid`, `child` and `at`; while it is there nothing is slow."""
    return Path(os.environ["DAGSTER_HOME"], "began.json")


def begin(child: int | None = None) -> None:
    """Write the marker."""
    began = {"pid": os.getpid(), "child": child, "at": time.time()}
    marker().with_suffix(".new").write_text(json.dumps(began))
    marker().with_suffix(".new").rename(marker())


def pairs() -> pl.LazyFrame:
    """A cross join that polars is busy with for minutes."""
    numbers = pl.LazyFrame({"a": range(60_000)})
    more = numbers.join(numbers.rename({"a": "b"}), how="cross").join(pl.LazyFrame({"c": range(500)}), how="cross")
    return more.filter(pl.col("a") * pl.col("b") * pl.col("c") % 1_000_003 == 17).select(n=pl.len())


def orphan() -> int:
    """The id of a process of our own whose parent is gone already: a shell's background job."""
    said = subprocess.run(["sh", "-c", f"sleep {NEVER} >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True)
    return int(said.stdout)


def be_slow(how: str) -> pl.LazyFrame:
    """In Python, in C with the GIL held, in polars, in a child process, or with one that is an orphan.

    `unreachable` is no slowness but a failure.
    """
    child = subprocess.Popen(["sleep", str(NEVER)]) if how in {"child", "child_and_native"} else None
    pid = orphan() if how == "orphan" else child.pid if child else None
    begin(pid)
    if how == "unreachable":
        raise ConnectionResetError("the far end hung up")
    if how == "python":
        time.sleep(NEVER)
    if how == "gil":
        sum(itertools.repeat(1, 10**12))
    if how == "child" and child:
        child.wait()
    return pairs()


@stage(key_prefix="slow")
def first() -> pl.DataFrame:
    """Three rows."""
    return pl.DataFrame({"n": [1, 2, 3]})


@stage(
    key_prefix="slow",
    timeout=float(os.environ.get(SECONDS, "2")),
    max_retries=int(os.environ.get(RETRIES, "0")),
    retry_on_timeout=AGAIN in os.environ,
    min_retry_interval=float(os.environ.get(INTERVAL, "0.1")),
    max_retry_interval=float(os.environ.get(INTERVAL, "0.1")) * 2,
)
def second(first: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of the first; the first time slowly, or always."""
    if HOW in os.environ and (ALWAYS in os.environ or not marker().exists()):
        return be_slow(os.environ[HOW])
    return first


@stage(key_prefix="slow")
def third(second: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of the second."""
    return second


slow_job = dg.define_asset_job("slow_job", selection="*")
slow_processes_job = dg.define_asset_job("slow_processes_job", selection="*", executor_def=dg.multiprocess_executor)
defs = dg.Definitions(
    assets=[first, second, third],
    jobs=[slow_job, slow_processes_job],
    resources={"io_manager": io_manager()},
    executor=dg.multiprocess_executor if PROCESSES in os.environ else dg.in_process_executor,
)
