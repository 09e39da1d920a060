"""Kill rollbacks of eight tables at random moments while others write and maintain, continue them, and look at the end.

    python -m pipeline_assets_tests.campaigns.rollbacks --seed 1 --cases 300 [--s3] [--kinds overwrite,foreign,append,merge]

Each case undoes a run; `--continue` is killed now and then as well. Prints each kill and the phase in which it landed; ends
with 1 where anything was wrong: a table that is not at its target, was restored or told of twice, is held still; another
partition that is not as its writer left it; a reader of the targets that saw other rows. The kinds take turns: all stages
overwrite, or the last one appends, or merges; or a foreign commit is in one of the tables, and the rollback is refused with
nothing changed.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
from polars.testing import assert_frame_equal

from pipeline_assets.delta import names
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.restore import HELD, RESTORED
from pipeline_assets.delta.table import open_table
from pipeline_assets.recovery.rollback_store import Store
from pipeline_assets_tests.campaigns.rollback_scene import (
    BEFORE,
    BY_KEY,
    FAILED,
    FOREIGN,
    KIND,
    KINDS,
    LAST,
    MINE,
    OTHERS,
    OVERWRITE,
    STAGES,
    Cast,
    Prepared,
    others,
    shown,
    write_foreign,
)
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.recovery.children import PROJECT
from pipeline_assets_tests.seaweed import S3, seaweed

MORE_KILLS = 0.4
"""How often a rollback that is continued is killed as well."""
AT_A_POINT = 0.5
"""How often it dies right after a commit rather than at a moment, of which few fall between the quick ones."""
COMMITS = 2 * len(STAGES) + 5
"""Of a rollback: lock, plan, holds, all are held, restores, the end, the lock given back."""
DONE, REFUSED = 0, 3
SECONDS = 240.0


class Wrong(AssertionError):
    """What must not be."""


class Case:
    """One rollback, from a copy of what was prepared to the look at its end."""

    def __init__(self, number: int, seed: int, prepared: Prepared, folder: Path, server: S3 | None) -> None:
        self.name, self.rng, self.prepared = f"case {number}", random.Random(f"{seed}/{number}"), prepared
        self.home = folder / f"case-{number}"
        s3 = server.under(self.home.name) if server is not None else None
        self.root = Location.of(s3.uri, s3.storage_options) if s3 else Location.of(str(self.home / "tables"))
        prepared.copy(self.home, self.root, s3)
        options = s3.storage_options if s3 else {}
        self.variables = {
            **options,
            "DAGSTER_HOME": str(self.home),
            "PIPELINE_ASSETS_ROOT": self.root.uri,
            KIND: prepared.kind,
        }
        os.environ.update(self.variables)
        self.places = {name: self.root.child("many", name) for name in STAGES}
        self.phases: list[str] = []
        self.last = ""

    def run(self, seconds: float | None) -> float:
        """All of it; how long the rollback took that was not killed. seconds: within which a kill comes. Raises Wrong."""
        cast = Cast(self.variables, self.name)
        cast.begin()
        try:
            again = seconds is not None and self.prepared.kind != FOREIGN
            while again and self._killed(cast, seconds or 0):
                self._readers()
                again = self.rng.random() < MORE_KILLS
            taken = self._to_the_end(cast) if self.prepared.kind != FOREIGN else self._refused(cast)
        finally:
            ended = cast.end()
        if ended != [0, 0]:
            said = self.home / FAILED
            raise Wrong(f"the writer and maintenance ended with {ended} {said.read_text() if said.exists() else ''}")
        if self.prepared.kind != FOREIGN:
            self._look()
        return taken

    def _refused(self, cast: Cast) -> float:
        """Somebody else has written to a table: nothing is changed, and the refusal names it. Raises Wrong."""
        name = self.rng.choice(STAGES)
        write_foreign(self.places[name])
        before = {one: self._mine(one) for one in STAGES}
        deadline, began = time.monotonic() + SECONDS, time.monotonic()
        while time.monotonic() < deadline:
            process, go = cast.rollback("--undo", self.prepared.undo, "--yes")
            go.set()
            process.join(SECONDS)
            if process.exitcode != REFUSED:
                raise Wrong(f"it ended with {process.exitcode}, and {name} has a foreign commit:\n{self._log()}")
            if f"many/{name} " in (said := self._log().splitlines()[-1]) and "is a foreign commit" in said:
                break  # else it met a VACUUM
        else:
            raise Wrong(f"it is not refused for {name}:\n{self._log()}")
        for one, shown_before in before.items():
            if self._mine(one) != shown_before:
                raise Wrong(f"{one} was changed, and {name} has a foreign commit")
        if Store(self.root).read().plans:
            raise Wrong(f"a plan was begun, and {name} has a foreign commit")
        self.phases.append("refused")
        return time.monotonic() - began

    def _mine(self, name: str) -> object:
        """What a rollback could change of a table, as writers of other partitions and maintenance leave it."""
        table = open_table(self.places[name])
        key = MINE if name in BY_KEY else "*"
        entries = {entry: value for entry, value in (table.txns if table else {}).items() if entry.endswith(f"/{key}")}
        return shown(self.places[name], name).rows(), entries

    def _killed(self, cast: Cast, seconds: float) -> bool:
        """Begin or continue it, and kill it at a random moment or after a random commit; whether that came in time."""
        point = f"rollback:{self.rng.randint(1, COMMITS)}" if self.rng.random() < AT_A_POINT else None
        process, go = cast.rollback(*self._what_a_person_does(), crash=point)
        go.set()
        process.join(SECONDS if point else self.rng.uniform(0.2, 1.1) * seconds)  # before that it is planning
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode not in (-signal.SIGKILL, DONE, REFUSED):
            raise Wrong(f"it ended with {process.exitcode}:\n{self._log()}")
        killed = process.exitcode == -signal.SIGKILL
        self.phases.append(self._phase() if killed else "after its end")
        return killed

    def _what_a_person_does(self) -> list[str]:
        undo = ["--undo", self.prepared.undo, "--yes"]
        return ["--continue"] if Store(self.root).read().open is not None else undo

    def _to_the_end(self, cast: Cast) -> float:
        """Until nothing is left to undo. Who is refused for what another is at (a VACUUM, a lock) tries again."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            choice = self._what_a_person_does()
            process, go = cast.rollback(*choice)
            began = time.monotonic()
            go.set()
            process.join(SECONDS)
            if process.exitcode == DONE:
                self.last = choice[0]
                return time.monotonic() - began
            if process.exitcode != REFUSED:
                raise Wrong(f"it ended with {process.exitcode}:\n{self._log()}")
            if "has nothing left" in self._log().splitlines()[-1]:
                return time.monotonic() - began
        raise Wrong(f"it does not end:\n{self._log()}")

    def _phase(self) -> str:
        """How far the rollback had come. Raises Wrong where one table is back before all are held."""
        fold = Store(self.root).read()
        if fold.open is None:
            return "done, not given back" if fold.plans else "before the plan"
        steps = [self._step(name, fold.open.id) for name in STAGES]
        if RESTORED in steps and fold.open.state != "restoring":
            raise Wrong(f"{fold.open.state}, and some are back: {steps}")
        if fold.open.state != "restoring":
            self._unchanged()
        if fold.open.state == "restoring" and steps.count(RESTORED) == len(STAGES):
            return "restored, not told"
        count = steps.count(RESTORED) if fold.open.state == "restoring" else steps.count(HELD)
        return f"{fold.open.state} {count} of {len(STAGES)}"

    def _step(self, name: str, rollback: int) -> int:
        table = open_table(self.places[name])
        return table.txns.get(names.plan(rollback), 0) if table is not None else 0

    def _unchanged(self) -> None:
        for name, place in self.places.items():
            if 10 not in shown(place, name)["value"].to_list():
                raise Wrong(f"{name} was changed before all were held")

    def _readers(self) -> None:
        """Whoever holds the targets sees their rows, whatever happens to the table."""
        for name, place in self.places.items():
            assert_frame_equal(shown(place, name, self.prepared.targets[name]), self.prepared.wanted[name])

    def _look(self) -> None:
        self._readers()
        last = json.loads((self.home / LAST).read_text())
        fold = Store(self.root).read()
        if fold.open is not None:
            raise Wrong(f"rollback {fold.open.id} is not at its end")
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            for name, place in self.places.items():
                assert_frame_equal(shown(place, name), self.prepared.wanted[name])
                self._once(instance, name, place)
                if name in BY_KEY and others(place) != {**{key: BEFORE[key] for key in OTHERS}, **last}:
                    raise Wrong(f"{name} holds {others(place)}, its writer left {last}")
                evidence.all_told(instance, place)

    def _once(self, instance: dg.DagsterInstance, name: str, place: Location) -> None:
        kinds = [entry.record["kind"] for entry in evidence.entries(place) if entry.record]
        key = MINE if name in BY_KEY else "*"
        told = [one for one in evidence.events(instance, f"many/{name}", key) if one.get("checkpoint/restored")]
        if (kinds.count("restore"), len(told)) != (1, 1):
            raise Wrong(f"{name} was restored {kinds.count('restore')} times and told of {len(told)} times")
        table = open_table(place)
        held = [entry for entry, value in table.txns.items() if entry.startswith("pa/hold/") and value] if table else []
        if held:
            raise Wrong(f"{name} is held: {held}")

    def _log(self) -> str:
        said = self.home / "rollback.log"
        return said.read_text()[-3000:] if said.exists() else ""


def campaign(
    seed: int, numbers: range, folder: Path, server: S3 | None = None, kinds: Sequence[str] = (OVERWRITE,)
) -> tuple[Counter[str], int]:
    """Some cases, whose kinds take turns; in which phase the kills landed, and how many cases were wrong."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # all that runs say is in the event log
    prepared = {kind: Prepared.at(folder / f"prepared-{kind}", kind) for kind in kinds}
    phases: Counter[str] = Counter()
    wrong, seconds = 0, Case(-1, seed, prepared[kinds[0]], folder, server).run(None)
    for number in numbers:
        kind = kinds[number % len(kinds)]
        case = Case(number, seed, prepared[kind], folder, server)
        try:
            taken = case.run(seconds)
            seconds = 0.7 * seconds + 0.3 * taken if "undo" in case.last else seconds
        except Exception:  # noqa: BLE001  a campaign counts what goes wrong, and goes on
            wrong += 1
            print(f"WRONG {case.name}, kept in {case.home.name}:\n{traceback.format_exc()}", flush=True)
        else:
            shutil.rmtree(case.home)
        phases.update(case.phases)
        print(f"{number:4} {kind}: {'; '.join(case.phases)}", flush=True)
    logging.disable(logging.NOTSET)
    return phases, wrong


def main() -> int:
    """The campaign that the command line asks for; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--kinds", default=OVERWRITE, help=f"of {','.join(KINDS)}; they take turns")
    asked = parser.parse_args()
    commit = subprocess.check_output(["git", "-C", str(PROJECT), "rev-parse", "HEAD"], text=True).strip()
    print(f"commit {commit}, {' '.join(sys.argv[1:])}", flush=True)
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rollbacks-"))
        server = stack.enter_context(seaweed(folder / "s3")) if asked.s3 else None
        numbers = range(asked.first, asked.first + asked.cases)
        phases, wrong = campaign(asked.seed, numbers, folder, server, asked.kinds.split(","))
    kills = phases.total() - phases["refused"]
    print(f"\n{kills} kills in {asked.cases} cases, {time.monotonic() - began:.0f} s; phases:")
    for phase, count in sorted(phases.items()):
        print(f"  {count:4} {phase}")
    print(f"wrong: {wrong}")
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
