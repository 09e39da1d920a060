"""What the process of a step tells its executor when it is ended from outside: that the step failed.

Dagster's multiprocess executor takes a process that is gone for one that crashed, and tries its step again by the stock
policy. A step that fails by itself says so on the queue on which its process tells the executor of all events. So what is to
be said there is made ready beforehand, and the process that watches says it before it ends this one.
"""

import functools
import importlib
import json
import multiprocessing
import os
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.queues import Queue
from multiprocessing.reduction import ForkingPickler
from typing import Any

from dagster._core.executor import child_process_executor
from dagster._core.executor.child_process_executor import ChildProcessDoneEvent

LOOK_SECONDS = 0.001


class _Failure:
    """Becomes, where it is unpickled, an event: it is for the executor's process to record it, in order with its own."""

    def __init__(self, module: str, said: str) -> None:
        self._arguments = module, said

    def __reduce__(self) -> tuple[Callable[[str, str], Any], tuple[str, str]]:
        return _step_failed, self._arguments


def _step_failed(module: str, said: str) -> Any:
    return importlib.import_module(module).step_failed(json.loads(said))


@functools.cache
def queue_of(_pid: int) -> "Queue[Any] | None":
    """The queue on which this process, which executes a step, tells its executor of events; None where it is another one."""
    process = multiprocessing.current_process()
    if getattr(process, "_target", None) is not child_process_executor._execute_command_in_child_process:  # noqa: SLF001
        return None
    queue = next(iter(getattr(process, "_args", ())), None)
    lock = getattr(queue, "_wlock", None)
    # A lock without a name is that of a forked process, and cannot be opened by another one.
    return queue if isinstance(queue, Queue) and lock is not None and lock._semlock.name else None  # noqa: SLF001


def pipe() -> int | None:
    """The file descriptor by which the queue is written to."""
    queue = queue_of(os.getpid())
    return None if queue is None else queue._writer.fileno()  # type: ignore[attr-defined]  # noqa: SLF001


def last_words(payload: Mapping[str, Any], module: str, reasons: Iterable[str]) -> dict[str, Any] | None:
    """The words, in hexadecimal, by the reason (`why`) for which this process may be ended, and the queue's semaphores.

    module: whose `step_failed` records what the payload and `why` tell, and returns the event. None where there is no queue.
    """
    queue = queue_of(os.getpid())
    if queue is None:
        return None
    done = _framed(ChildProcessDoneEvent(os.getpid()))
    words = {why: (_framed(_Failure(module, json.dumps({**payload, "why": why}))) + done).hex() for why in reasons}
    parts = {"lock": queue._wlock, "room": queue._sem}  # type: ignore[attr-defined]  # noqa: SLF001
    found = {name: part._semlock for name, part in parts.items()}  # noqa: SLF001
    semaphores = {name: (one.kind, one.maxvalue, one.name) for name, one in found.items()}
    return {**semaphores, "messages": 2, "words": words}


def all_told() -> None:
    """Wait until the executor was told all events so far: as long as it takes, or until the time of the attempt is up.

    Else native code that keeps the GIL may begin while another thread is in the middle of a message, and that it stays. An
    executor reads nothing while it waits for another step's process to exit; most that it has not read fits into the pipe.
    """
    queue, executor = queue_of(os.getpid()), multiprocessing.parent_process()
    while queue is not None and not _rests(queue) and executor is not None and executor.is_alive():
        time.sleep(LOOK_SECONDS)


def _rests(queue: Any) -> bool:
    """Whether the thread that writes to the pipe waits for something to write, or was never begun."""
    return queue._thread is None or (queue._notempty._waiters and not queue._buffer)  # noqa: SLF001


def _framed(said: object) -> bytes:
    """As `multiprocessing.connection` sends it."""
    pickled = bytes(ForkingPickler.dumps(said))
    return struct.pack("!i", len(pickled)) + pickled
