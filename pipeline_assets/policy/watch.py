"""A process of its own that ends another when an attempt in it takes too long, whatever that is doing.

Run by its path with nothing but the standard library (`python -I -S watch.py PID SIGNALS [QUEUE]`), so that it is there in
milliseconds. PID: the process that is watched, its parent. SIGNALS: a file descriptor on which the numbers of the signals
arrive that the parent gets. QUEUE: that on which the process of a step tells its executor of events. On stdin a JSON object a
line: `{"arm": ID, "kill_at": SECONDS | null, "grace": SECONDS, "asked": {NAME: SEMAPHORE} | null, "last": {"lock": SEMAPHORE,
"room": SEMAPHORE, "messages": NUMBER, "words": {WHY: HEX}} | null, "mark": TEXT | null, "command": [...], "payload":
{...}}` begins an attempt,
`{"disarm": ID}` ends it; kill_at is on the monotonic clock, grace how long an attempt may go on after it was asked to stop by
SIGTERM, SIGINT or a Request. Where there is a queue, the process is ended between two of its messages: of half a message the
executor would await the rest for ever. Where there are last words for the reason (WHY), the executor is told them before the
kill, and records the rest. Else the command is started, with the payload and `why` as JSON on its stdin: after the kill, or
before it where the process was asked to stop, since the code server, which sees it gone, would call a run failed that was
cancelled.
When stdin ends the parent is gone, and so is this.
"""

import _multiprocessing  # type: ignore[import-not-found]  # typeshed has none
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STOPS = {signal.SIGTERM, signal.SIGINT}
TIMEOUT, INTERRUPT = "timeout", "interrupt"
LOOK_SECONDS, SOON = 0.5, 0.05
"""How often a Request is looked for, and whether a process is quiet."""
QUIET_SECONDS = 10.0
"""How long a process may be in the middle of telling its executor something: the executor may be busy with another step."""
LONGEST_WAIT = 3600.0
"""No wait is longer, since `select` knows no longer ones than a time_t."""
TELL_SECONDS = 15.0
"""How long a process that is to be ended may live on until its end was told."""


class Request:
    """Dagster's request to stop, a `multiprocessing.Event`, seen from outside of the process that it is made to.

    A thread there waits for it, to send the signal; it cannot while native code keeps the GIL. Then whoever made the
    request waits as well, for ever, for that thread to wake up: with the lock on all runs of a code server in its hands.
    """

    def __init__(self, semaphores: dict[str, tuple[int, int, str]]) -> None:
        opened = {name: _semaphore(one) for name, one in semaphores.items()}
        self._flag, self._lock, self._woken = opened["flag"], opened["lock"], opened["woken"]

    def is_made(self) -> bool:
        """Whether the process was asked to stop."""
        return not self._flag._is_zero()  # noqa: SLF001

    def answer(self) -> None:
        """Let go whoever waits for a thread that is gone with its process."""
        if self._lock._is_zero():  # noqa: SLF001
            self._woken.release()


def watch(pid: int, signals: int) -> dict[str, Any] | None:
    """Wait; the attempt at which the process has to be ended, with `why`. None when the parent has gone by itself."""
    armed: dict[int, dict[str, Any]] = {}
    unread = b""
    gone = [os.pidfd_open(pid)] if hasattr(os, "pidfd_open") else []  # stdin is open while a fork of the parent lives
    while os.getppid() == pid:
        ends = [one["kill_at"] for one in armed.values() if one["kill_at"] is not None]
        waits = [max(min(ends) - time.monotonic(), 0.0)] if ends else []
        waits += [LOOK_SECONDS for one in armed.values() if one["request"] and one["why"] != INTERRUPT][:1]
        ready, _, _ = select.select([0, signals, *gone], [], [], min([*waits, LONGEST_WAIT]))
        stopped = signals in ready and STOPS & set(os.read(signals, 4096))
        for one in armed.values():
            if one["why"] != INTERRUPT and (stopped or (one["request"] and one["request"].is_made())):
                stop_at = time.monotonic() + one["grace"]
                one.update(kill_at=min(one["kill_at"] or stop_at, stop_at), why=INTERRUPT)
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                return None
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "arm" in said:
                    armed[said["arm"]] = {"why": TIMEOUT, "request": request_of(said), **said}
                else:
                    armed.pop(said["disarm"], None)
        late = [one for one in armed.values() if one["kill_at"] is not None and one["kill_at"] <= time.monotonic()]
        if late and is_quiet(first := min(late, key=lambda one: one["kill_at"])):
            return first
    return None


def is_quiet(late: dict[str, Any]) -> bool:
    """Whether the process of a step is in the middle of no message to its executor, and begins none; true of other processes.

    The queue's lock is taken, as that process would, and not given back. Else the attempt is late again in a moment, and may
    end by itself until then.
    """
    now = time.monotonic()
    try:
        lock = _semaphore(late["last"]["lock"]) if late["last"] else None
    except FileNotFoundError:
        lock = None
    if lock is None or now >= late.setdefault("loud_until", now + QUIET_SECONDS):
        late["last"] = None
        return True
    if lock.acquire(False):
        if not select.select([0], [], [], 0)[0]:
            return True
        lock.release()  # it has ended by itself, perhaps
    late["kill_at"] = now + SOON
    return False


def request_of(said: dict[str, Any]) -> Request | None:
    """What tells that the process of an attempt was asked to stop; None where nothing does, or it is over."""
    try:
        return Request(said["asked"]) if said["asked"] else None
    except FileNotFoundError:
        return None


def said_last(late: dict[str, Any], pid: int, queue: int | None) -> bool:
    """Tell the executor of a step, whose process is quiet, the last words for this reason; whether there were any.

    The process stands still meanwhile: were it gone, it would seem to have crashed. The executor may be busy; one that is
    gone need not be told.
    """
    words = bytes.fromhex(late["last"]["words"].get(late["why"], "")) if late["last"] else b""
    if queue is None or not words:
        return False
    for _ in range(late["last"]["messages"]):
        _semaphore(late["last"]["room"]).acquire(False)
    end_others(pid, late["mark"])
    executor = parent_of(pid)
    while words and parent_of(pid) == executor:
        if select.select([], [queue], [], LOOK_SECONDS)[1]:
            words = words[os.write(queue, words[: select.PIPE_BUF]) :]
    return True


def _semaphore(one: tuple[int, int, str]) -> Any:
    return _multiprocessing.SemLock._rebuild(0, *one)  # noqa: SLF001


def parent_of(pid: int) -> int | None:
    """None where the process is gone."""
    try:
        return int(_fields(Path("/proc", str(pid)))[1])
    except OSError:
        return None


def _fields(folder: Path) -> list[str]:
    """What comes after a process's name in its `stat`: state, parent, and so on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def end(pid: int, mark: str | None = None) -> None:
    """End a process and all that descend from it, but this one, or have a mark."""
    end_others(pid, mark)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def end_others(pid: int, mark: str | None) -> None:
    """The same, but the process itself, which stands still from then on: it begins no more of them."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    for one in (*descendants(pid), *(marked(mark) if mark else ())):
        if one != pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


def descendants(of: int) -> dict[int, int]:
    """Process ids below one, but this one, and when they began, in the kernel's ticks."""
    parents: dict[int, tuple[int, int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = _fields(folder)
            parents[int(folder.name)] = int(fields[1]), int(fields[19])
    found: dict[int, int] = {}
    open_ = {of}
    while open_:
        open_ = {one for one, (parent, _) in parents.items() if parent in open_ and one not in {os.getpid(), *found}}
        found.update({one: parents[one][1] for one in open_})
    return found


def marked(mark: str) -> set[int]:
    """The processes, but this one, that began with a mark (`NAME=value`) in their environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found - {os.getpid()}


def main() -> None:
    """Watch until there is something to end, or nobody to watch."""
    pid, signals = int(sys.argv[1]), int(sys.argv[2])
    late = watch(pid, signals)
    if late is None:
        return
    told = said_last(late, pid, int(sys.argv[3]) if len(sys.argv) > 3 else None)
    if late["why"] == INTERRUPT and not told:
        tell(late)
    if os.getppid() == pid:
        end(pid, late["mark"])
    if late["request"]:
        late["request"].answer()
    if late["why"] != INTERRUPT and not told:
        tell(late)


def tell(late: dict[str, Any]) -> None:
    """Run the command of an attempt that is ended, in a session of its own: who ends the terminal's processes leaves it."""
    told = subprocess.Popen(late["command"], stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603  our own
    said = json.dumps({**late["payload"], "why": late["why"]}).encode()
    with contextlib.suppress(subprocess.TimeoutExpired):
        told.communicate(said, timeout=TELL_SECONDS)


if __name__ == "__main__":
    main()
