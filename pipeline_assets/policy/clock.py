"""The time of an attempt, and how its end is brought about in this process: at the next return to Python.

A timer wakes the thread of the step: the main thread by a signal, which also ends a `sleep` or a wait for a child
process, another thread by an exception that Python raises in it. Only code of the stage's own, and reading and writing
for it, is interrupted: never Dagster, which may be storing an event.
"""

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipeline_assets.policy import children

SIGNAL: int = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR1
"""The alarm: one that nobody else is likely to use (pytest-timeout takes SIGALRM, a JVM SIGUSR2)."""
LATER_SECONDS = 0.01


_STORING = ("dagster._core.instance", "dagster._core.storage")
"""Modules of Dagster's in which nothing is interrupted: a connection that is broken off may keep its lock."""


class TimeIsUp(BaseException):
    """Raised inside a stage when its time is up; no `Exception`, so that a stage which catches those ends as well.

    clock: whose time; None where Python raised it in another thread than the main one, whose own it is, and where polars made
    it anew from its text, which runs a function of the user's in the thread that asked.
    """

    def __init__(self, clock: "Clock | str | None" = None) -> None:
        self.clock = clock if isinstance(clock, Clock) else None
        super().__init__()


class Clock:
    """The time of one attempt; None: as long as it takes. To be made in the thread that executes the step.

    is_alone: this process is there for the attempt's run, and not for whatever else its caller does.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.began = seconds, time.monotonic()
        self.rung = self.patient = False
        self._before = children.Before()
        self._depth = 0
        self._thread = threading.current_thread()
        self._timer: threading.Timer | None = None
        self.is_alone = False
        self._others = children.others_at_work()
        # What begins while another thread than the main one executes the step may be somebody else's.
        self.mark = children.Mark() if self._thread is threading.main_thread() else None
        if seconds is not None:
            listen()
            self._ring_in(seconds)

    @property
    def passed(self) -> bool:
        """Whether the time is up; on a clock that goes on while the process is stopped."""
        return self.seconds is not None and time.monotonic() - self.began >= self.seconds

    @property
    def left(self) -> float | None:
        """Seconds until the time is up, at least a few; None: as many as it takes."""
        return None if self.seconds is None else max(self.seconds - (time.monotonic() - self.began), 0.0)

    def check(self) -> None:
        """Raise TimeIsUp when the time is up."""
        if self.passed and self._timer is not None:
            self.rung = True
            raise TimeIsUp(self)

    def stop(self) -> None:
        """The attempt is over; nothing rings any more."""
        if self.mark is not None:
            self.mark.lift()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end_children(self) -> str:
        """End the processes that the attempt began; what to say of those that may be somebody else's, and live on.

        Of another thread than the main one, or beside other threads, none can be told from those of others.
        """
        if self.mark is not None and (self.is_alone or not self._others):
            self._before.end_since(self.mark, by_older=self.is_alone)
            return ""
        left = self._before.begun_since(by_older=False)
        pids = f"{', '.join(map(str, left[:5]))}{', …' if len(left) > 5 else ''}"
        return f"; processes that it, or another thread, began were left alone (pid {pids})" if left else ""

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Code that may be interrupted. Raises TimeIsUp."""
        self._depth += 1
        _running.append(self)
        try:
            self.check()
            yield
        finally:
            _running.remove(self)
            self._depth -= 1

    def ring_later(self) -> None:
        """Ring once more, in a moment; not when the attempt is over."""
        if self._timer is not None:
            self._ring_in(LATER_SECONDS)

    def _ring_in(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.name, self._timer.daemon = f"{children.THREADS}-clock", True
        self._timer.start()

    def _ring(self) -> None:
        """In the timer's thread: wake that of the step."""
        if self._thread is threading.main_thread():
            wake_main_thread()
        elif self._depth and not self.patient:
            if _is_storing(sys._current_frames().get(self._thread.ident or 0)):  # noqa: SLF001  no other way to see it
                self.ring_later()
                return
            self.rung = True
            ident = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(TimeIsUp))


_running: list[Clock] = []
"""The clocks inside whose code some thread is now."""
_also: set[Callable[[FrameType | None], None]] = set()


def listen(also: Callable[[FrameType | None], None] | None = None) -> None:
    """Install the handler, for the rest of the process: the signal's default would end it.

    also: is called in the main thread as well when that is woken, with what it was at.
    """
    _lost.install()
    if also is not None:
        _also.add(also)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(SIGNAL) is not _wake:
        signal.signal(SIGNAL, _wake)


class _Lost:
    """Hears of exceptions that Python throws away: out of a `__del__` or a weak reference's callback nobody gets them."""

    def __init__(self) -> None:
        self._before: Callable[[Any], object] | None = None

    def install(self) -> None:
        """Once a process: whoever hears them later may pass them on to this."""
        if self._before is None:
            self._before, sys.unraisablehook = sys.unraisablehook, self

    def __call__(self, thrown_away: Any) -> None:
        if not issubclass(thrown_away.exc_type, TimeIsUp):
            assert self._before is not None
            self._before(thrown_away)
            return
        for clock in _running:
            if clock._thread is threading.current_thread():  # noqa: SLF001
                clock.rung = False
                clock.ring_later()


_lost = _Lost()


def wake_main_thread() -> None:
    """From another thread: have the handler run there. Only after `listen`."""
    signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)


def _wake(_signal: int, frame: FrameType | None) -> None:
    """Runs in the main thread, between two of its instructions."""
    module = str(frame.f_globals.get("__name__")) if frame is not None else ""
    for clock in _running:
        if clock._thread is threading.main_thread() and clock.passed and not clock.rung:  # noqa: SLF001
            if clock.patient and module.startswith(("asyncio.", "selectors")):
                continue  # what waits in Dagster's event loop is ended by the loop's own time-out, else the loop would break
            if module == "contextlib" or _is_storing(frame):  # on the way out of a guard its `except` would not see it
                clock.ring_later()
                continue
            clock.rung = True
            raise TimeIsUp(clock)
    for heard in _also:
        heard(frame)


def _is_storing(frame: FrameType | None) -> bool:
    """Whether a frame was called by Dagster's storage."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_STORING):
            return True
        frame = frame.f_back
    return False
