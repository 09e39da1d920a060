"""The wait before another attempt, in a run's own process: a request to stop is heard in it.

Dagster sleeps then, and notes a signal to stop without being woken by it: it would be heard when the wait is over. So a
thread looks at that note while the wait lasts, and wakes the main thread where it is asleep.
"""

import threading
import time
from types import FrameType
from typing import Any

from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.plan.active import ActiveExecution
from dagster._utils.interrupts import check_captured_interrupt, pop_captured_interrupt

from pipeline_assets.policy import children, clock
from pipeline_assets.policy.reports import failures, report
from pipeline_assets.policy.running import Running

LOOK_SECONDS = 0.5
"""How often a signal to stop is looked for."""
SLACK_SECONDS = 5.0
"""Dagster begins to wait a moment after it was told to, when it has stored that."""
_SLEEP = ActiveExecution.sleep_til_ready.__code__
_waiting: dict[int, Running] = {}
"""The attempts after which this process waits for another, by the thread that looks after the wait."""


def hear_stops(attempt: Running, step_context: Any, seconds: float) -> None:
    """Let the wait after an attempt end, by DagsterExecutionInterruptedError, when the run is to stop.

    Not in a step's own process, which does not wait, nor in another thread than the main one, which gets no signals.
    """
    if seconds <= LOOK_SECONDS or not step_context.retry_mode.enabled:
        return  # `deferred` in a step's own process
    if threading.current_thread() is not threading.main_thread():
        return
    clock.listen(_wake)
    name = f"{children.THREADS}-wait"
    threading.Thread(target=_look, args=(attempt, seconds), name=name, daemon=True).start()


def _look(attempt: Running, seconds: float) -> None:
    """In a thread of its own, until the wait is over."""
    over = time.monotonic() + seconds + SLACK_SECONDS
    own = threading.get_ident()
    _waiting[own] = attempt
    try:
        while own in _waiting and time.monotonic() < over:
            if check_captured_interrupt():
                clock.wake_main_thread()
            time.sleep(LOOK_SECONDS)
    finally:
        _waiting.pop(own, None)


def _wake(frame: FrameType | None) -> None:
    """Runs in the main thread, wherever that is: only its sleep is broken off."""
    if frame is None or frame.f_code is not _SLEEP or not pop_captured_interrupt():
        return
    for attempt in {one.step_key: one for one in _waiting.values()}.values():
        report(attempt, failures(attempt), "interrupted", "the run is to stop, so there is no other attempt")
    _waiting.clear()
    raise DagsterExecutionInterruptedError
