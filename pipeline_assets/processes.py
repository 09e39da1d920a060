"""Whether the process of a run is gone."""

import os
from pathlib import Path

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus

_EVENTS = {
    DagsterEventType.ENGINE_EVENT,
    DagsterEventType.PIPELINE_STARTING,
    DagsterEventType.RESOURCE_INIT_SUCCESS,
    DagsterEventType.STEP_WORKER_STARTED,
}
_AT_WORK = {DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING}
_SLACK_SECONDS = 2.0
"""A process may begin this much later than the event says, by the clock's ticks."""


def is_gone(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether a run is at work by its status, while none of the processes that its events name is alive any more.

    A process of the same id that began after the event is another one. A run that named no process is not gone.
    """
    if run.status not in _AT_WORK:
        return False
    seen = False
    for entry in instance.all_logs(run.run_id, of_type=_EVENTS):
        data = entry.get_dagster_event().event_specific_data
        pid = getattr(data, "metadata", {}).get("pid")
        if pid is None or not str(pid.value).isdigit():
            continue
        seen = True
        if is_alive(int(pid.value), entry.timestamp):
            return False
    return seen


def is_alive(pid: int, since: float) -> bool:
    """Whether the process that had this id at a time (seconds since 1970) is still there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except FileNotFoundError:
        return _signalled(pid) if not Path("/proc").exists() else False
    fields = stat.rpartition(")")[2].split()
    state, ticks = fields[0], int(fields[19])
    began = int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")
    return state != "Z" and began <= since + _SLACK_SECONDS


def _signalled(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
