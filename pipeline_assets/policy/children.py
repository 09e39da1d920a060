"""The processes that a stage began, by /proc; where there is none (macOS), none are found.

They descend from this one, or have a mark of the attempt in their environment: those are found also where who began them is
gone (a shell's background job, a daemon). But for those that were only forked, or began with an environment of their own.
"""

import contextlib
import os
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

from pipeline_assets import heartbeat
from pipeline_assets.policy.watch import descendants, marked

_SLACK_SECONDS = 0.05
"""Start times in /proc are ticks of 10 ms since a boot time in whole seconds, so the boot time is taken more exactly."""


spared: set[int] = set()
"""Processes of our own, which are not ended: those that watch."""


THREADS = "pipeline-assets"
"""What the names of our own threads begin with."""
MARK = "PIPELINE_ASSETS_ATTEMPT"
"""The variable that marks what an attempt begins."""


class Mark:
    """Is in the environment of each process that this one begins, until it is lifted. text: as it stands there."""

    def __init__(self) -> None:
        self._value = uuid.uuid4().hex
        self._before = os.environ.get(MARK)
        self.text = f"{MARK}={self._value}"
        os.environ[MARK] = self._value

    def lift(self) -> None:
        """Again as it was before: an outer attempt's, or none."""
        if os.environ.get(MARK) != self._value:
            return
        if self._before is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = self._before


def unmarked() -> dict[str, str]:
    """The environment for a process of our own, which no attempt's end is to end."""
    return {name: value for name, value in os.environ.items() if name != MARK}


def others_at_work() -> bool:
    """Whether there are threads in this process, but this one and ours, that run Python: what begins may be theirs.

    What threads begin later was begun by them, or by this one: where there are none now, it is all this one's.
    """
    ours = {one.ident for one in threading.enumerate() if one.name.startswith(THREADS)}
    return bool(set(sys._current_frames()) - ours - {threading.get_ident()})  # noqa: SLF001  those of `_thread` as well


class Before:
    """What there was when an attempt began: to be made then."""

    def __init__(self) -> None:
        self._moment = time.time()
        self._children: set[int] = (
            set()
        )  # start times do not tell those of the last moment, Dagster's that capture output
        for path in Path("/proc/self/task").glob("*/children"):
            with contextlib.suppress(OSError):
                self._children.update(map(int, path.read_text().split()))

    def begun_since(self, *, by_older: bool) -> list[int]:
        """The descendants of this process that began later, but our own; by_older: also those of what there was before."""
        found = descendants(os.getpid())
        older = {pid for pid, ticks in found.items() if _began(ticks) < self._moment - _SLACK_SECONDS}
        older |= self._children & found.keys()
        theirs = set() if by_older else {one for pid in older for one in descendants(pid)}
        return sorted(found.keys() - older - theirs - spared - heartbeat.pids)

    def end_since(self, mark: Mark, *, by_older: bool) -> None:
        """SIGKILL what has begun since, and all that have a mark."""
        for pid in (set(self.begun_since(by_older=by_older)) | marked(mark.text)) - spared - heartbeat.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _began(ticks: int) -> float:
    return _boot_moment() + ticks / os.sysconf("SC_CLK_TCK")


def _boot_moment() -> float:
    """When ticks began, seconds since 1970."""
    return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
