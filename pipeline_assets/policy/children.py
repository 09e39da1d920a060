"""The processes that descend from this one, by /proc; where there is none (macOS), none are found."""

import contextlib
import os
import signal
import time

from pipeline_assets import heartbeat
from pipeline_assets.policy.watch import descendants

_SLACK_SECONDS = 0.05
"""Start times in /proc are ticks of 10 ms since a boot time in whole seconds, so the boot time is taken more exactly."""


spared: set[int] = set()
"""Processes of our own, which are not ended: those that watch."""


def end_since(moment: float) -> list[int]:
    """SIGKILL the descendants of this process that began after a moment (seconds since 1970); their ids."""
    ended = []
    for pid, ticks in descendants(os.getpid()).items():
        if _began(ticks) >= moment - _SLACK_SECONDS and pid not in spared | heartbeat.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                ended.append(pid)
    return ended


def _began(ticks: int) -> float:
    return _boot_moment() + ticks / os.sysconf("SC_CLK_TCK")


def _boot_moment() -> float:
    """When ticks began, seconds since 1970."""
    return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
