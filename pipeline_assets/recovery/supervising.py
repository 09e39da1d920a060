"""A run in a child process, looked after: what is killed there does not take with it who says so, and recovers."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.execution.api import execute_run

from pipeline_assets.policy.watch import TELL_SECONDS
from pipeline_assets.policy.watch import end as end_with_descendants
from pipeline_assets.policy.watching import STOP_SECONDS
from pipeline_assets.processes import is_gone, pid_here
from pipeline_assets.recovery import endings, executing
from pipeline_assets.recovery.claims import continued_by
from pipeline_assets.recovery.progress import Progress
from pipeline_assets.recovery.resume import Continued

LOOK_SECONDS = 0.1
"""How often a process and its events are looked at."""
GRACE_SECONDS = STOP_SECONDS + 5.0
"""How long a process that was asked to stop may take; a stage's own watching process ends it sooner."""
LEFT_SECONDS = TELL_SECONDS + 5.0
"""How long after a process was killed another one may take to tell the event log why, and to go on."""
FLUSH_SECONDS = 1.0
"""How long what a process has printed is waited for, where what it began lives on."""
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Heard = Callable[[Progress], None]
"""Is told, again and again, how far a run is."""
Output = Callable[[bytes], None]
"""Is told each line that a run's process prints."""


class Stop:
    """That this process was asked to stop: the signal, once one has come."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._outer: Stop | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals to stop as a word to the run; in the main thread, elsewhere nobody sends any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.hear) for number in _STOPS}
        outer = getattr(before[signal.SIGTERM], "__self__", None)
        self._outer = outer if isinstance(outer, Stop) else None
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hear(self, number: int, frame: object) -> None:
        """A signal has come; who began this is to stop as well."""
        self.signal = number
        if self._outer is not None:
            self._outer.hear(number, frame)

    def wait(self, seconds: float) -> bool:
        """Wait, unless it is to stop; whether it is to."""
        deadline = time.monotonic() + seconds
        while self.signal is None and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
        return self.signal is not None


def supervise(
    instance: DagsterInstance,
    run: DagsterRun,
    stop: Stop,
    heard: Heard = lambda _: None,
    output: Output | None = None,
    child: "Child | None" = None,
) -> DagsterRun:
    """Execute a run, made by `created`, in a child process to its end; the run as it ended.

    Where the child is killed, or ends without having said so, the run is marked failed, with the reason. When this process
    is to stop, the run is cancelled: nothing is committed afterwards. child: one that was begun `ahead`. output: of one that
    was not.
    """
    kills = endings.memory_kills()
    child = child or Child(output)
    child.execute(instance, run)
    progress = Progress(instance, run)
    passed_on: float | None = None
    try:
        while child.process.poll() is None:
            progress.poll()
            heard(progress)
            if stop.signal is not None and passed_on is None:
                passed_on = time.monotonic()
                _ask_to_stop(instance, run, child.process.pid)
            if passed_on is not None and time.monotonic() - passed_on > GRACE_SECONDS:
                end_with_descendants(child.process.pid)
            time.sleep(LOOK_SECONDS)
    except BaseException:  # whatever ends this process: nobody would look after the run
        _ask_to_stop(instance, run, child.process.pid)
        raise
    code = child.ended()
    by_itself = code >= 0 and _now(instance, run).is_finished
    _await_word(instance, run, child, FLUSH_SECONDS if by_itself else LEFT_SECONDS)
    _mark_ended(instance, run, endings.why(code, kills), stopped=passed_on is not None)
    return _over(instance, run, progress, heard)


def follow(
    instance: DagsterInstance,
    run: DagsterRun,
    stop: Stop,
    heard: Heard = lambda _: None,
    child: "Child | None" = None,
) -> DagsterRun:
    """Wait for a run that another process executes; the run as it ended, or as it is when this one is to stop.

    It is cancelled then if its process is here and nobody else can do so. child: from which came those that continue its
    run by themselves, and print where it does: while one of them is there, it may tell why the run's process is gone, and
    go on.
    """
    progress = Progress(instance, run)
    asked = False
    gone: float | None = None
    while not (now := _now(instance, run)).is_finished:
        progress.poll()
        heard(progress)
        if stop.signal is not None and not asked:
            pid = pid_here(now) if now.remote_job_origin is None else None
            if pid is None:
                return now
            _ask_to_stop(instance, now, pid)
            asked = True
        gone = (gone or time.monotonic()) if is_gone(instance, now) else None
        nobody_tells = asked or (child is not None and now.remote_job_origin is None and child.silent())
        if gone is not None and (nobody_tells or time.monotonic() - gone > LEFT_SECONDS):
            _mark_ended(instance, run, "its process is gone", stopped=asked)
        time.sleep(LOOK_SECONDS)
    if child is not None and now.status is DagsterRunStatus.FAILURE and not asked:
        _await_word(instance, run, child, LEFT_SECONDS)
    return _over(instance, run, progress, heard)


def _await_word(instance: DagsterInstance, run: DagsterRun, child: "Child", seconds: float) -> None:
    """Wait, so long at most, for those who may yet tell why a run's process has ended, and continue the run."""
    deadline = time.monotonic() + seconds
    while not child.silent() and time.monotonic() < deadline:
        if continued_by(instance, run) is not None:
            return


def _over(instance: DagsterInstance, run: DagsterRun, progress: Progress, heard: Heard) -> DagsterRun:
    progress.over()
    heard(progress)
    return _now(instance, run)


def executed(
    instance: DagsterInstance,
    continued: Continued,
    stop: Stop,
    heard: Heard = lambda _: None,
    output: Output | None = None,
    child: "Child | None" = None,
) -> DagsterRun | None:
    """The run that continues a chain, executed in a child process, or here where none could load its job; as it ended.

    child, output: as for `supervise`.
    """
    if continued.run is None:
        return None
    if continued.run.job_code_origin is not None:
        return supervise(instance, continued.run, stop, heard, output, child)
    execute_run(continued.job, continued.run, instance)
    return instance.get_run_by_id(continued.run.run_id)


@contextmanager
def ahead(output: Output | None = None) -> Iterator["Child"]:
    """A child that loads what every run needs while this process still plans one."""
    child = Child(output)
    try:
        yield child
    finally:
        child.dismiss()


class Child:
    """The process that executes a run, in a session of its own: a terminal's Ctrl-C comes by this process, once.

    output: is told what it prints; else that goes to this process's stderr.
    """

    def __init__(self, output: Output | None) -> None:
        self.process = subprocess.Popen(  # noqa: S603  our own
            [sys.executable, "-c", executing.START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout, output), daemon=True)
        self._reader.start()
        self._ordered = False

    def execute(self, instance: DagsterInstance, run: DagsterRun) -> None:
        """Tell it what to execute."""
        assert self.process.stdin is not None
        self._ordered = True
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.write(executing.order(instance, run.run_id).encode())
            self.process.stdin.flush()

    def dismiss(self) -> None:
        """End it, where it was never told to execute anything."""
        if not self._ordered:
            self.process.kill()
            self.ended()

    def ended(self) -> int:
        """Its exit status, or minus the signal that killed it."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        return self.process.wait()

    def silent(self) -> bool:
        """Whether all processes that speak for it have ended; after a moment."""
        self._reader.join(LOOK_SECONDS)
        return not self._reader.is_alive()

    @staticmethod
    def _read(stream: IO[bytes], output: Output | None) -> None:
        with stream:
            for line in stream:
                if output is not None:
                    output(line)
                else:
                    sys.stderr.buffer.write(line)
                    sys.stderr.flush()


def _ask_to_stop(instance: DagsterInstance, run: DagsterRun, pid: int) -> None:
    """Cancel a run: from now on it commits nothing, and its process is to end."""
    now = _now(instance, run)
    if not now.is_finished and now.status is not DagsterRunStatus.CANCELING:
        instance.report_run_canceling(now)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _mark_ended(instance: DagsterInstance, run: DagsterRun, why: str, *, stopped: bool) -> None:
    """End the run's entry where no process of its own has done so."""
    failed = f"{why[0].upper()}{why[1:]}."
    endings.mark_ended(instance, run, failed, f"It was stopped, and {why}.", stopped=stopped)


def _now(instance: DagsterInstance, run: DagsterRun) -> DagsterRun:
    return instance.get_run_by_id(run.run_id) or run
