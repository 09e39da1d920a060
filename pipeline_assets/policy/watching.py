"""The process that watches this one (watch.py), and whether this one may be ended at all."""

import functools
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._serdes import serialize_value

from pipeline_assets.policy import children, policies, watch
from pipeline_assets.policy.last_words import last_words, pipe
from pipeline_assets.policy.reports import failures
from pipeline_assets.policy.running import Running
from pipeline_assets.processes import shares_process

GRACE_SECONDS = 1.0
"""How long after its time-out an attempt may take to end by itself, at the next return to Python."""
STOP_SECONDS = 10.0
"""The same after it was asked to stop, which may come in the middle of a commit."""
AFTERWARDS = "pipeline_assets.recovery.given_up"
"""The module that is run when a process was ended."""
RUN, STEP = "run", "step"
_OUR_COMMANDS = {"dagster", "dagster-daemon", "dagster-webserver", "dg", "pipeline-assets"}
_WAITS_FOR_THE_END = "termination-handler"
"""Dagster's thread that waits until its process is asked to stop."""
_ids = itertools.count(1)
_for_runs: set[int] = set()
"""Pids: who is forked from such a process is none."""


class Watcher:
    """The process that watches this one, for as long as this one lives."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        signals, self._signals = os.pipe()
        os.set_blocking(self._signals, False)
        queue = pipe()
        shared = [signals] if queue is None else [signals, queue]
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own
                [sys.executable, "-I", "-S", watch.__file__, str(os.getpid()), *map(str, shared)],
                stdin=orders,
                stdout=sys.__stderr__,
                pass_fds=shared,
                env=children.unmarked(),
                start_new_session=True,
            )
        finally:
            os.close(orders)
            os.close(signals)
        children.spared.add(self._process.pid)

    def tell(self, said: Mapping[str, Any]) -> None:
        """Pass an order on. Raises BrokenPipeError where the watcher was killed."""
        data = json.dumps(said).encode() + b"\n"
        while data:
            data = data[os.write(self._orders, data) :]

    def hear_signals(self) -> None:
        """Let it know of signals at once, also while this process is in native code that does not return."""
        if threading.current_thread() is threading.main_thread():
            before = signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
            if before not in {-1, self._signals}:  # somebody else's, an event loop's perhaps
                signal.set_wakeup_fd(before)


@functools.cache
def _watcher(_pid: int) -> Watcher:
    return Watcher()


def made_for_runs() -> None:
    """Say that this process was started to execute runs, where that is not to be seen by its command."""
    _for_runs.add(os.getpid())


def prepare() -> None:
    """Start the watching process before a step begins: then its stderr is the terminal's, not the step's captured one."""
    if policies.defined and _is_dagsters():
        _watcher(os.getpid())


def arm(attempt: Running, step_context: Any) -> None:
    """Have this process ended if the attempt outlasts its time, or a signal to stop; where it may be ended."""
    ends = _what_ends(step_context)
    if ends is None:
        return
    number = next(_ids)
    left = attempt.clock.left
    payload = _payload(attempt, step_context, ends)
    attempt.clock.is_alone = True
    order = {
        "arm": number,
        "kill_at": None if left is None else time.monotonic() + left + GRACE_SECONDS,
        "grace": STOP_SECONDS,
        "asked": _asked(),
        "last": last_words(payload, AFTERWARDS, _reasons(attempt, step_context)) if ends == STEP else None,
        "mark": None if attempt.clock.mark is None else attempt.clock.mark.text,
        "command": [sys.executable, "-m", AFTERWARDS],
        "payload": payload,
    }
    watcher = _tell(order)
    watcher.hear_signals()
    attempt.disarm = lambda: _disarm(watcher, number)


def _reasons(attempt: Running, step_context: Any) -> list[str]:
    """For which ends of the process its executor is told that the step failed.

    Not for a time-out after which there is another attempt: the executor makes that, by the stock policy. The executor's
    count as well: what tells the log of the attempt before may not be there yet.
    """
    before = max(failures(attempt), step_context.previous_attempt_count)
    again = attempt.policy.retry_on_timeout and before < attempt.policy.max_retries
    return [watch.INTERRUPT] if again else [watch.INTERRUPT, watch.TIMEOUT]


def _tell(order: Mapping[str, Any]) -> Watcher:
    watcher = _watcher(os.getpid())
    try:
        watcher.tell(order)
    except BrokenPipeError:  # it was killed: there is to be one nevertheless
        _watcher.cache_clear()
        watcher = _watcher(os.getpid())
        watcher.tell(order)
    return watcher


def _disarm(watcher: Watcher, number: int) -> None:
    try:
        watcher.tell({"disarm": number})
    except BrokenPipeError:
        _watcher.cache_clear()


def _asked() -> dict[str, tuple[int, int, str]] | None:
    """The semaphores of the event by which a code server, or the executor, asks this process to stop (watch.Request)."""
    waiting = next((one for one in threading.enumerate() if one.name == _WAITS_FOR_THE_END), None)
    event = next(iter(getattr(waiting, "_args", ())), None)
    if event is None:
        return None
    parts = {"flag": event._flag, "lock": event._cond._lock, "woken": event._cond._woken_count}  # noqa: SLF001
    found = {name: part._semlock for name, part in parts.items()}  # noqa: SLF001
    if not all(one.name for one in found.values()):
        return None  # of a forked process; nobody else can open them
    return {name: (one.kind, one.maxvalue, one.name) for name, one in found.items()}


def _payload(attempt: Running, step_context: Any, ends: str) -> dict[str, Any]:
    job = step_context.job
    return {
        "ends": ends,
        "instance": serialize_value(attempt.instance.get_ref()),
        "run": attempt.run.run_id,
        "job_name": attempt.run.job_name,
        "step": attempt.step_key,
        "name": attempt.name,
        "tables": attempt.tables,
        "seconds": attempt.policy.timeout,
        "retry": attempt.policy.retry_on_timeout,
        "max_retries": attempt.policy.max_retries,
        "intervals": [attempt.policy.min_retry_interval, attempt.policy.max_retry_interval],
        "job": serialize_value(job.get_python_origin()),
        "paths": [path for path in sys.path if path],
    }


def _what_ends(step_context: Any) -> str | None:
    """What ends with this process: a run, a step of one, or (None) more than that, so that it is left alone.

    Where a caller's own process executes the run (`dg.materialize`, `execute_in_process`, `dg.execute_job`) it is never
    ended.
    """
    if not isinstance(step_context.job, ReconstructableJob) or not step_context.instance.is_persistent:
        return None
    if not shares_process(step_context):
        return STEP if multiprocessing.parent_process() is not None or _is_dagsters() else None
    return RUN if _is_dagsters() else None


def _is_dagsters() -> bool:
    """Whether this process was started to execute a run or a step, by a command or a code server."""
    if os.getpid() in _for_runs:
        return True
    target = getattr(multiprocessing.current_process(), "_target", None)
    if multiprocessing.parent_process() is not None:
        return str(getattr(target, "__module__", "")).startswith("dagster.")
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name.split(".")[0] in {"dagster", "pipeline_assets"}
    return Path(getattr(main, "__file__", None) or "").name in _OUR_COMMANDS
