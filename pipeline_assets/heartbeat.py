"""A run at work beats, so that it is a fact for other hosts that it is gone.

Only where runs are stored in a database that several hosts share. A process of its own beats for the run's process, and so
also for one that native code keeps busy for hours; it does not for one that is stopped, and notes when it ends. Run by its
path (`begin`), with an order as JSON on stdin. Beats are rows of Dagster's key-value store, in the time of the database.
"""

import contextlib
import fcntl
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as db
from dagster import DagsterInstance
from dagster._core.instance import InstanceRef
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.runs.schema import KeyValueStoreTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._serdes import deserialize_value, serialize_value
from sqlalchemy.exc import SQLAlchemyError

BEAT_SECONDS = 15.0
SILENT_SECONDS = 300.0
"""A run whose beat has not come for so long is gone."""
STARTS = 5
"""How often a beating process is started that ends without having been told to."""
_LOOK_SECONDS = 0.5
_ENDED = "ended"
_CLOCKS = {"postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())", "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))"}
"""The database's own time, in seconds since 1970: hosts' clocks are not compared."""
_RUN = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
"""Not as a module: that would load all of this package."""
_begun: set[str] = set()
pids: set[int] = set()
"""The processes that beat for this one, which whoever ends its children has to spare."""


def silence(instance: DagsterInstance, run_id: str) -> float | None:
    """Seconds since a run's newest beat, infinite where its process was seen to end; None where it never beat."""
    storage = _shared(instance)
    said = storage.get_cursor_values({_key(run_id)}).get(_key(run_id)) if storage is not None else None
    if storage is None or said is None:
        return None
    return math.inf if said == _ENDED else _now(storage) - float(said)


def begin(instance: DagsterInstance, run_id: str, pid: int) -> None:
    """Have a process beat for a run for as long as a process of this host lives, once; where other hosts can see it."""
    if run_id in _begun or isinstance(instance.run_storage, SqliteRunStorage):
        return
    _begun.add(run_id)
    process = state_of(pid)
    if process is None or not instance.is_persistent or _shared(instance) is None:
        return
    ref = serialize_value(instance.get_ref())
    order = {"instance": ref, "run": run_id, "pid": pid, "ticks": process[1], "every": BEAT_SECONDS}
    with _alone(run_id) as alone:
        if not alone:  # another process of the run has begun it
            return
    threading.Thread(target=_keep, args=(json.dumps(order),), name="pipeline-assets-heartbeat", daemon=True).start()


def _keep(order: str) -> None:
    for _ in range(STARTS):
        beating = subprocess.Popen(  # noqa: S603  our own
            [sys.executable, "-c", _RUN, __file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        pids.add(beating.pid)
        with contextlib.suppress(BrokenPipeError):
            beating.communicate(order)
        pids.discard(beating.pid)
        if beating.returncode == 0:
            return


def _shared(instance: DagsterInstance) -> SqlRunStorage | None:
    """The storage of runs, where it is a database that several hosts share, and whose clock can be asked."""
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage) or isinstance(storage, SqliteRunStorage):
        return None
    with storage.connect() as connection:
        return storage if connection.dialect.name in _CLOCKS else None


def _now(storage: SqlRunStorage) -> float:
    with storage.connect() as connection:
        return float(connection.execute(db.text(_CLOCKS[connection.dialect.name])).scalar_one())


def _key(run_id: str) -> str:
    return f"pipeline_assets/beat/{run_id}"


def state_of(pid: int) -> tuple[str, int] | None:
    """A process's state, and when it began in the kernel's ticks; None where it is gone, or there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else (fields[0], int(fields[19]))


@contextlib.contextmanager
def _alone(run_id: str) -> Iterator[bool]:
    """Whether no other process of this host beats for the run."""
    path = Path(tempfile.gettempdir(), f"pipeline_assets_beat-{os.getuid()}-{run_id}")
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _beat(instance: DagsterInstance, run_id: str, pid: int, ticks: int, every: float) -> None:
    """Until the run or the process has ended."""
    storage = _shared(instance)
    assert storage is not None
    due, until = 0.0, math.inf
    while time.monotonic() < until:
        found = state_of(pid)
        alive = found is not None and found[1] == ticks
        stopped = found is not None and found[0] in "Tt"
        until = math.inf if alive else min(until, time.monotonic() + SILENT_SECONDS)  # then silence says it, too
        if not alive or (not stopped and time.monotonic() >= due):
            with contextlib.suppress(SQLAlchemyError):  # the database is away; the next beat may find it
                run = instance.get_run_by_id(run_id)
                if run is None or run.is_finished:
                    _forget(storage, run_id)
                    return
                storage.set_cursor_values({_key(run_id): str(_now(storage)) if alive else _ENDED})
                if not alive:
                    return
                due = time.monotonic() + every
        time.sleep(min(_LOOK_SECONDS, every))


def _forget(storage: SqlRunStorage, run_id: str) -> None:
    with storage.connect() as connection:
        connection.execute(KeyValueStoreTable.delete().where(KeyValueStoreTable.c.key == _key(run_id)))


def main() -> None:
    """Beat as the order says."""
    order: Mapping[str, Any] = json.load(sys.stdin)
    with _alone(order["run"]) as alone:
        if alone:
            with DagsterInstance.from_ref(deserialize_value(order["instance"], InstanceRef)) as instance:
                _beat(instance, order["run"], order["pid"], order["ticks"], order["every"])


if __name__ == "__main__":
    main()
