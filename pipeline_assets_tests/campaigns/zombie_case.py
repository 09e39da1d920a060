"""One zombie: where it is stopped, how it is given up, what must hold when it has been continued."""

import random
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

import pipeline_assets.delta.commit as commits
from pipeline_assets.delta.names import PREFIX
from pipeline_assets.delta.table import open_table
from pipeline_assets.io.facts import STOPPED_SECONDS
from pipeline_assets.recovery.plan import NotResumable
from pipeline_assets.step_starts import step_starts
from pipeline_assets_tests.campaigns.giving_up import (
    ENDS_BY_LOG,
    STEP,
    TIMED,
    WATCHED,
    WAYS,
    Wrong,
    continue_chain,
    location_of,
    table_of,
    write_beside,
)
from pipeline_assets_tests.campaigns.pauses import POINTS
from pipeline_assets_tests.campaigns.zombie import MODES, Work, Zombie, forks, job_of, wait_for
from pipeline_assets_tests.conftest import INSTANCE
from pipeline_assets_tests.recovery import evidence

COMBINATIONS = [
    (point, way)
    for point in POINTS
    for way in WAYS
    if not (way in TIMED and point == POINTS[0])  # its clock does not run yet
]
LAST = POINTS[-2:]
"""Where an attempt asks nobody any more."""
TIMEOUTS = (2.0, 10.0, 30.0)
"""An attempt that has no time to come to its point has more in the next try."""
LATE = "committed: stopped in the last instruction before it, and nothing in the table told"
REASONS = {
    r"this attempt \(\d+\) was given up by a later attempt or a rollback \(\d+\)": "given up by a later attempt or rollback",
    r"a later attempt of step \S+ has begun in run": "a later attempt has begun",
    r"run \S+ has failed already": "the run has failed already",
    r"run \S+ was cancelled": "the run was cancelled",
    r"timed out after [\d.]+ s; its process was ended": "timed out, its process was ended",
    r"permanent, timed out after [\d.]+ s": "timed out",
    r"this run chain had committed version \d+ already; it is adopted, nothing was written": "adopted its chain's commit",
}


class Ground:
    """What all cases share: where their processes come from, and homes to be copied."""

    def __init__(self, folder: Path) -> None:
        commits.LOCK_SECONDS = 0.1  # a zombie may hold the courtesy lock
        self.folder, self.forks, self.cases = folder, forks(), 0
        self._homes: dict[str | None, Path] = {}

    def home(self, mode: str, *, there: bool) -> Path:
        """A new DAGSTER_HOME; there: with a table that an earlier run has written."""
        self.cases += 1
        home = self.folder / f"case-{self.cases}"
        shutil.copytree(self._template(mode if there else None), home)
        return home

    def _template(self, mode: str | None) -> Path:
        if mode not in self._homes:
            home = self.folder / f"home-{mode}"
            home.mkdir()
            (home / "dagster.yaml").write_text(f"{INSTANCE}{_NO_COMPUTE_LOGS}")
            with dg.DagsterInstance.from_config(str(home)) as instance:
                instance.get_runs(limit=1)
                instance.schedule_storage.all_instigator_state()
                if mode is not None:
                    key = "red" if mode == "partitions" else None
                    job_of(Work(str(home), mode, "earlier", key)).execute_in_process(
                        instance=instance, partition_key=key
                    )
            self._homes[mode] = home
        return self._homes[mode]


_NO_COMPUTE_LOGS = """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


@dataclass(frozen=True)
class Case:
    """there: whether the table is, before. nth: which of its commits is not made. beside: writes of others meanwhile."""

    point: str
    way: str
    mode: str
    there: bool
    nth: int = 1
    beside: int = 0

    @classmethod
    def seeded(cls, seed: int, number: int) -> "Case":
        """The case of a number: points and ways in turn, the rest by chance."""
        rng = random.Random(f"{seed}/{number}")
        point, way = COMBINATIONS[number % len(COMBINATIONS)]
        mode, there = rng.choice(MODES), rng.random() < 0.6
        makes_empty = point in LAST and mode in ("append", "merge") and not there
        return cls(
            point,
            way,
            mode,
            there,
            nth=rng.choice([1, 2]) if makes_empty else 1,
            beside=rng.choice([0, 0, 1, 2]) if mode in ("partitions", "append") else 0,
        )

    def __str__(self) -> str:
        table = f"{self.mode}, {'there' if self.there else 'new'}"
        nth = ", second commit" if self.nth > 1 else ""
        beside = f", {self.beside} written beside" if self.beside else ""
        return f"{self.point}{nth} × {self.way} ({table}{beside})"

    def run(self, ground: Ground) -> str:
        """What the zombie said. Raises Wrong, Late, AssertionError."""
        for timeout in TIMEOUTS if self.way in TIMED else (None,):
            home = ground.home(self.mode, there=self.there)
            key = "red" if self.mode == "partitions" else None
            work = Work(str(home), self.mode, "zombie", key, timeout, self.point, self.nth)
            with (
                dg.DagsterInstance.from_config(str(home)) as instance,
                Zombie(ground.forks, work, instance, watched=self.way == WATCHED) as zombie,
            ):
                said = self._haunt(zombie)
            if said is not None:
                shutil.rmtree(home)
                return said
        raise Wrong("the attempt did not come to its point")

    def _haunt(self, zombie: Zombie) -> str | None:
        """None where it had no time to come to its point."""
        if not zombie.paused():
            if self.way in TIMED:
                return None
            raise Wrong(f"the attempt ended before its point: {zombie.said()[-3000:]}")
        if self.way == WATCHED:
            return self._killed(zombie)
        stopped_at = time.monotonic()
        for _ in range(self.beside):
            write_beside(zombie, "blue" if self.mode == "partitions" else None)
        WAYS[self.way](zombie)
        heard, before = len(zombie.instance.all_logs(zombie.run_id)), State(zombie)
        wait_for(lambda: time.monotonic() > stopped_at + 2 * STOPPED_SECONDS, "time stands still")
        zombie.go_on()
        zombie.ended()
        if before.is_kept(zombie):
            said = reason(zombie, heard)
            self._finish(zombie)
            return said
        if self.point != POINTS[-1] or self.way not in ENDS_BY_LOG:
            raise Wrong(f"it has changed the table: {State(zombie)}")
        self._finish(zombie, late=True)
        return LATE

    def _killed(self, zombie: Zombie) -> str:
        before = State(zombie)
        WAYS[self.way](zombie)
        said = reason(zombie, 0)
        if not before.is_kept(zombie):
            raise Wrong("it has changed the table")
        self._finish(zombie)
        return said

    def _finish(self, zombie: Zombie, *, late: bool = False) -> None:
        """What is left is resumed; in the end the chain has committed once, and nothing of the zombie's is seen."""
        with suppress(NotResumable):
            continue_chain(zombie, "winner")
        location = location_of(zombie.work)
        if self.way != "undone":
            evidence.written_once(location)
        evidence.all_told(zombie.instance, location)
        visible = set(pl.read_delta(location.uri)["who"].unique())
        if ("zombie" in visible) != late:
            raise Wrong(f"rows of {visible} are seen")
        if self.way != "undone" and not visible & {"winner", "other", "zombie"}:
            raise Wrong(f"only rows of {visible} are seen")


class State:
    """What the table shows: its log's data commits, its entries, its files, and which of them the zombie made."""

    def __init__(self, zombie: Zombie) -> None:
        self.table = open_table(location_of(zombie.work))
        entries = evidence.entries(location_of(zombie.work))
        self.commits = [entry.version for entry in entries if entry.changes_data or entry.parts]
        starts = step_starts(zombie.instance, zombie.run_id, STEP)
        self.of_zombie = [
            entry.version for entry in entries for part in entry.parts if part["attempt"] == min(starts, default=0)
        ]
        txns = dict(self.table.txns) if self.table is not None else {}
        self.entries = {name: value for name, value in txns.items() if not name.startswith(f"{PREFIX}/fence/")}
        self.files = set(table_of(zombie.work).delta.file_uris()) if self.table is not None else set()

    def is_kept(self, zombie: Zombie) -> bool:
        """Whether it is the same now, and nothing in it is the zombie's."""
        now = State(zombie)
        if now.of_zombie:
            return False
        return (now.commits, now.entries, now.files) == (self.commits, self.entries, self.files)

    def __str__(self) -> str:
        return f"data commits {self.commits}, of the zombie {self.of_zombie}, entries {self.entries}"


def reason(zombie: Zombie, heard: int) -> str:
    """Why the zombie says that it did not commit, in the events after so many. Raises Wrong where it does not."""
    said = "\n".join(
        text
        for entry in zombie.instance.all_logs(zombie.run_id)[heard:]
        for text in (entry.user_message, _error_of(entry))
    )
    for pattern, short in REASONS.items():
        if re.search(pattern, said):
            return short
    raise Wrong(f"it does not say why: {said}\n{zombie.said()[-3000:]}")


def _error_of(entry: dg.EventLogEntry) -> str:
    error = getattr(getattr(entry.dagster_event, "event_specific_data", None), "error", None)
    return error.to_string() if error is not None else ""
