"""How far a run is, for people: a table that changes on a terminal, a line for each change elsewhere."""

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pipeline_assets.recovery.progress import (
    DONE,
    FAILED,
    NOT_REACHED,
    RETRYING,
    RUNNING,
    WAITING,
    Progress,
    StageProgress,
)

_COLOURS = {RUNNING: "cyan", RETRYING: "yellow", DONE: "green", FAILED: "bold red"}


def seconds(stage: StageProgress) -> float | None:
    """How long a stage's last attempt took, or has taken up to now."""
    if stage.began is None:
        return None
    return max((stage.ended or time.time()) - stage.began, 0.0)


def what(stage: StageProgress) -> str:
    """What became of a stage, in a few words."""
    version = f"version {stage.version}" if stage.version is not None else ""
    rows = f"{stage.rows:,} rows" if stage.rows is not None else ""
    if stage.state == DONE and stage.flag in ("skipped", "kept"):
        return f"{stage.flag}{', unchanged since' if stage.flag == 'skipped' else ''} {version}"
    if stage.state == DONE:
        return ", ".join(
            part for part in (rows, f"{version} (adopted)" if stage.flag == "adopted" else version) if part
        )
    return stage.why if stage.state in (FAILED, RETRYING) else ""


class Shown(AbstractContextManager["Shown"]):
    """Shows runs, one after the other; `heard` is told how far one is, `printed` what its process prints."""

    def heard(self, progress: Progress) -> None:
        """Show what has changed."""
        raise NotImplementedError

    def printed(self, line: bytes) -> None:
        """Show a line of the run's process."""
        sys.stderr.buffer.write(line)
        sys.stderr.flush()

    def say(self, line: str) -> None:
        """Show a line of ours."""
        raise NotImplementedError

    def settle(self) -> None:
        """What is shown of a run changes no more, and what comes goes below."""

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to be ended."""


class Lines(Shown):
    """A line where a stage begins, ends, fails; without colours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[tuple[str, str], tuple[str, float | None]] = {}

    @override
    def heard(self, progress: Progress) -> None:
        for stage in progress.stages.values():
            now = (stage.state, stage.began)
            known = progress.run.run_id, stage.key
            if stage.state in (WAITING, NOT_REACHED) or self._shown.get(known) == now:
                continue
            before = self._shown.get(known)
            self._shown[known] = now
            if stage.state != RUNNING and stage.began is not None and (before is None or before[1] != stage.began):
                self.say(f"{stage.name} begins")
            self.say(self._line(stage))

    @staticmethod
    def _line(stage: StageProgress) -> str:
        took = f" after {seconds(stage):.1f} s" if stage.began is not None and stage.ended is not None else ""
        if stage.state == RUNNING:
            return f"{stage.name} begins"
        if stage.state == RETRYING:
            return f"{stage.name} is tried again, having failed{took}: {stage.why}"
        said = what(stage)
        return f"{stage.name} {stage.state}{took}{f': {said}' if said else ''}"

    @override
    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Screen(Shown):
    """A line a stage, that changes; what the run's process prints goes by above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._run = ""

    @override
    def heard(self, progress: Progress) -> None:
        if self._run != progress.run.run_id:
            self.settle()
        self._run = progress.run.run_id
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(_table(progress), refresh=True)

    @override
    def printed(self, line: bytes) -> None:
        self.say(line.decode(errors="replace").rstrip("\n"))

    @override
    def say(self, line: str) -> None:
        self._console.print(Text.from_ansi(line))

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    @override
    def settle(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def shown(*, as_json: bool) -> Shown:
    """What fits where the output goes: on stdout, or on stderr where stdout is one document's."""
    stream = sys.stderr if as_json else sys.stdout
    return Screen(Console(file=stream)) if stream.isatty() else Lines(stream)


def _table(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage in progress.stages.values():
        took = seconds(stage)
        table.add_row(
            Text(stage.name),
            Text(stage.state, style=_COLOURS.get(stage.state, "dim")),
            Text(f"{took:.1f} s" if took is not None else "", justify="right"),
            Text(what(stage)),
        )
    return table
