"""Waiting for what other processes do, with a deadline; what their runs' logs say."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from pipeline_assets.processes import is_alive


def wait_for(is_so: Callable[[], object], seconds: float = 90) -> None:
    """Wait for a condition. Raises AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def seconds_until_dead(pid: float, since: float) -> float:
    """Wait until a process has gone that was there at a time; seconds from then."""
    wait_for(lambda: not is_alive(int(pid), since))
    return time.time() - since


def busy(pid: int, seconds: float = 1.0) -> None:
    """Wait until a process has computed for so long: then it is in the native code that the test means."""

    def computed() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    before = computed()
    wait_for(lambda: computed() >= before + seconds)


def log_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """The messages of a run's events, a line each."""
    return "\n".join(entry.message or entry.user_message for entry in instance.all_logs(run.run_id))


def failures(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Why the steps of a run failed."""
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return "\n".join(entry.get_dagster_event().step_failure_data.error_display_string for entry in events)
