"""Where an attempt stops itself (SIGSTOP), and how: by wrapping what the package calls there, in this process alone.

A process that is stopped says nothing more until it gets SIGCONT, as if its host had been suspended at that very instruction.
"""

import os
import signal
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
from deltalake.table import TableMerger

import pipeline_assets.delta.commit as commits
from pipeline_assets.delta.files import Sink
from pipeline_assets.io import writing
from pipeline_assets.io_manager import CheckpointIOManager
from pipeline_assets.policy import guard

STAGE = "second"
POINTS = (
    "before it has begun",
    "begun, nothing read",
    "input read",
    "in its function",
    "computed",
    "table opened",
    "writing files",
    "files written",
    "decided",
    "committing",
)
"""In the order in which an attempt comes by. Of the last two the first is before `try_commit`, `try_create` or `try_merge`,
the second before the call into delta-rs: the last instruction of Python's before a commit."""


class Pause:
    """Stops this process at the n-th time that an attempt at the stage comes to a point; once."""

    def __init__(self, point: str, nth: int = 1) -> None:
        self.point, self.left, self.stage = point, nth, False

    def at(self, point: str) -> None:
        """Come to a point."""
        if point != self.point or not self.stage:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGSTOP)

    def in_the_middle(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame, whose second half is made when the first is being written."""

        def second_half(rows: pl.DataFrame) -> pl.DataFrame:
            self.at("writing files")
            return rows

        return pl.concat([frame.head(1), frame.slice(1).map_batches(second_half)])

    def install(self) -> None:
        """Wrap what is called at the points; for the rest of this process."""
        self._around(CheckpointIOManager, "load_input", before="before it has begun", after="input read", begins=True)
        self._around(CheckpointIOManager, "handle_output", before="computed")
        self._around(guard, "start", after="begun, nothing read")
        self._around(writing, "newest", after="table opened")
        self._around(Sink, "write", after="files written")
        self._around(writing.proposals, "merge_of", after="files written")
        self._around(commits, "try_commit", before="decided")
        self._around(commits, "try_create", before="decided")
        self._around(writing, "try_merge", before="decided")
        self._around(deltalake.DeltaTable, "create_write_transaction", before="committing")
        self._around(commits, "create_table_with_add_actions", before="committing")
        self._around(TableMerger, "execute", before="committing")

    def _around(
        self, owner: Any, name: str, *, before: str | None = None, after: str | None = None, begins: bool = False
    ) -> None:
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            self.stage = self.stage or begins  # only this stage reads something
            if before:
                self.at(before)
            found = inner(*args, **kwargs)
            if after:
                self.at(after)
            return found

        setattr(owner, name, outer)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped as by SIGSTOP; all of its threads are, then."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False
