"""Whether the process of a run is gone."""

import functools
import multiprocessing
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.storage.runs import SqliteRunStorage

from pipeline_assets import heartbeat

PLACE_TAG = "pipeline_assets/place"
"""Where a run's steps are executed; with the run's id, since a re-execution inherits tags."""
PATIENCE_SECONDS = 30.0
"""So long after its start a run that has not named its process yet may be about to."""
_EVENTS = {
    DagsterEventType.ENGINE_EVENT,
    DagsterEventType.PIPELINE_STARTING,
    DagsterEventType.RESOURCE_INIT_SUCCESS,
    DagsterEventType.STEP_WORKER_STARTED,
}
AT_WORK = frozenset(
    {
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    }
)
"""Of runs that a process should be executing, or about to."""
_SLACK_SECONDS = 2.0
"""A process may begin this much later than the event says, by the clock's ticks."""


@dataclass(frozen=True)
class Place:
    """What a process id is an id of: host, boot of it, and namespace of ids (a container's)."""

    host: str
    boot: str
    namespace: str


@functools.cache
def here() -> Place:
    """Where this process runs."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return Place(
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        os.readlink(namespace) if namespace.exists() else "",
    )


_marked: set[str] = set()


def mark_place(instance: DagsterInstance, run: DagsterRun) -> None:
    """Note where a run is at work, once a process and run, so that no other host takes it for dead.

    Runs in SQLite files are all of one host, and there it would cost more than a small table's commit.
    """
    if run.run_id in _marked or isinstance(instance.run_storage, SqliteRunStorage):
        return
    _marked.add(run.run_id)
    if place_of(run) != here():
        instance.add_run_tags(run.run_id, place_tag(run.run_id))


def beat(step_context: Any) -> None:
    """Have the run beat for whose step this process is at work, for as long as the process lives that is the run's.

    That is the one which its steps share, or are started from; where each step has a container of its own there is none.
    """
    own = not isinstance(step_context.job, ReconstructableJob) or shares_process(step_context)
    parent = multiprocessing.parent_process()
    name = step_context.job_def.executor_def.name
    from_one = name in {"multiprocess", "multi_or_in_process_executor"} and parent is not None
    pid = os.getpid() if own else parent.pid if from_one and parent is not None else None
    if pid is not None:
        heartbeat.begin(step_context.instance, step_context.dagster_run.run_id, pid)


def shares_process(step_context: Any) -> bool:
    """Whether the run's steps share its process, by the executor that its configuration names."""
    name = step_context.job_def.executor_def.name
    config = (step_context.run_config.get("execution") or {}).get("config") or {}
    return name == "in_process" or (name == "multi_or_in_process_executor" and "in_process" in config)


def place_tag(run_id: str) -> dict[str, str]:
    """The tag of a run that is at work here, in this process."""
    return {PLACE_TAG: f"{run_id} {here().host} {here().boot} {here().namespace} {os.getpid()}"}


def place_of(run: DagsterRun) -> Place | None:
    """Where a run is, or was, at work; None where it did not say."""
    said = _said(run)
    return Place(*said[:3]) if said else None


def pid_here(run: DagsterRun) -> int | None:
    """The process that has said that it executes a run, where that is one of this host's."""
    return int(_said(run)[3]) if place_of(run) == here() else None


def _said(run: DagsterRun) -> list[str]:
    of_run, *said = run.tags.get(PLACE_TAG, "").split(" ")
    return said if of_run == run.run_id and len(said) == 4 else []


def is_gone(instance: DagsterInstance, run: DagsterRun) -> bool | None:
    """Whether a run is at work by its status, while none of the processes that its events name is alive any more.

    On another host it is gone when its beats have not come for minutes. None where it cannot be told from here: there it
    never beat, or it was launched and has named no process. A process of the same id that began after the event is another
    one.
    """
    if run.status not in AT_WORK:
        return False
    place = place_of(run)
    if place is not None and place != here():
        restarted = place.host == here().host and place.boot != here().boot
        return restarted or _beats_no_more(instance, run)
    pids = _pids(instance, run)
    if pids:
        return not any(is_alive(pid, since) for pid, since in pids)
    record = instance.get_run_record_by_id(run.run_id)
    if place is not None and record is not None:
        return not is_alive(int(_said(run)[3]), record.create_timestamp.timestamp())
    if run.remote_job_origin is not None:
        return None
    return record is not None and time.time() - record.update_timestamp.timestamp() > PATIENCE_SECONDS


def is_silent(instance: DagsterInstance, run: DagsterRun | None) -> bool:
    """Whether a run, of which None is left where it was deleted, sends no events any more, and may not have sent all."""
    return run is None or (not run.is_success and (run.is_finished or bool(is_gone(instance, run))))


def _beats_no_more(instance: DagsterInstance, run: DagsterRun) -> bool | None:
    seconds = heartbeat.silence(instance, run.run_id)
    return None if seconds is None else seconds > heartbeat.SILENT_SECONDS


def _pids(instance: DagsterInstance, run: DagsterRun) -> list[tuple[int, float]]:
    """The processes that a run's events name, and when."""
    found = []
    for entry in instance.all_logs(run.run_id, of_type=_EVENTS):
        data = entry.get_dagster_event().event_specific_data
        pid = getattr(data, "metadata", {}).get("pid")
        if pid is not None and str(pid.value).isdigit():
            found.append((int(pid.value), entry.timestamp))
    return found


def is_alive(pid: int, since: float) -> bool:
    """Whether the process that had this id at a time (seconds since 1970) is still there."""
    found = heartbeat.state_of(pid)
    if found is None:
        return _signalled(pid) if not Path("/proc").exists() else False
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    began = int(boot.split()[1]) + found[1] / os.sysconf("SC_CLK_TCK")
    return began <= since + _SLACK_SECONDS


def _signalled(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
