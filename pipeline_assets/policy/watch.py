"""A process of its own that ends another when an attempt in it takes too long, whatever that is doing.

Run by its path with nothing but the standard library (`python -I -S watch.py PID SIGNALS`), so that it is there in
milliseconds. PID: the process that is watched, its parent. SIGNALS: a file descriptor on which the numbers of the signals
arrive that the parent gets. On stdin a JSON object a line: `{"arm": ID, "kill_at": SECONDS | null, "grace": SECONDS,
"command": [...], "payload": {...}}` begins an attempt, `{"disarm": ID}` ends it; kill_at is on the monotonic clock, grace
how long an attempt may go on after SIGTERM or SIGINT. After the kill the command is started, with the payload and `why`
as JSON on its stdin. When stdin ends the parent is gone, and so is this.
"""

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


def watch(pid: int, signals: int) -> dict[str, Any] | None:
    """Wait; the attempt at which the process has to be ended, with `why`. None when the parent has gone by itself."""
    armed: dict[int, dict[str, Any]] = {}
    unread = b""
    gone = [os.pidfd_open(pid)] if hasattr(os, "pidfd_open") else []  # stdin is open while a fork of the parent lives
    while os.getppid() == pid:
        ends = [one["kill_at"] for one in armed.values() if one["kill_at"] is not None]
        wait = max(min(ends) - time.monotonic(), 0.0) if ends else None
        ready, _, _ = select.select([0, signals, *gone], [], [], wait)
        if signals in ready and STOPS & set(os.read(signals, 4096)):
            for one in armed.values():
                stop_at = time.monotonic() + one["grace"]
                if one["kill_at"] is None or stop_at < one["kill_at"]:
                    one.update(kill_at=stop_at, why="interrupt")
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                return None
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "arm" in said:
                    armed[said["arm"]] = {"why": "timeout", **said}
                else:
                    armed.pop(said["disarm"], None)
        late = [one for one in armed.values() if one["kill_at"] is not None and one["kill_at"] <= time.monotonic()]
        if late:
            return min(late, key=lambda one: one["kill_at"])
    return None


def end(pid: int) -> None:
    """End a process and all that descend from it, but this one."""
    os.kill(pid, signal.SIGSTOP)  # it begins no more of them
    for one in (*descendants(pid), pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def descendants(of: int) -> list[int]:
    """Process ids below one, but this one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    open_ = {of}
    while open_:
        open_ = {one for one, parent in parents.items() if parent in open_ and one != os.getpid()}
        found += open_
    return found


def main() -> None:
    """Watch until there is something to end, or nobody to watch."""
    pid, signals = int(sys.argv[1]), int(sys.argv[2])
    late = watch(pid, signals)
    if late is None:
        return
    with contextlib.suppress(ProcessLookupError):
        end(pid)
    # In a session of its own: what ends the terminal's processes is not to end the word about why.
    told = subprocess.Popen(late["command"], stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603  our own
    told.communicate(json.dumps({**late["payload"], "why": late["why"]}).encode())


if __name__ == "__main__":
    main()
