"""The rollback table of a root: plans and how far they are, and the lock that all share who change tables wholesale.

An append-only Delta table, `<root>/pipeline_rollbacks`: one small row for each change, appended by the compare-and-set of
every other commit. What holds is the fold of the rows, decided anew at each try; so it is there without Dagster's
database, and on an object store.
"""

import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import polars as pl
from deltalake import Field, Schema
from deltalake.exceptions import DeltaError
from deltalake.schema import PrimitiveType

from pipeline_assets.delta.commit import Deadline, Proposal, commit_when, try_create
from pipeline_assets.delta.files import Sink
from pipeline_assets.delta.handles import keep, newest
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.record import Record
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import DamagedTable, PermanentError
from pipeline_assets.processes import here, is_alive

logger = logging.getLogger(__name__)

NAME = "pipeline_rollbacks"
SECONDS = 60.0
"""How long a change of the table is tried; and how old a heartbeat is of whose owner nobody knows whether it is alive."""
BEAT_SECONDS = 10.0
MANY_FILES = 64
"""A file a row: from so many on they are made one."""
COLUMNS = {"n": "long", "at": "long", "kind": "string", "rollback": "long", "state": "string", "body": "string"}
FRAME = pl.Schema({name: {"long": pl.Int64, "string": pl.String}[kind] for name, kind in COLUMNS.items()})
TAKEN, BEAT, GIVEN_BACK, PLANNED, STATE = "taken", "beat", "given back", "planned", "state"
HOLDING, RESTORING, LIFTING, LIFTED, DONE = "holding", "restoring", "lifting", "lifted", "done"
ENDED = frozenset({LIFTED, DONE})


class AtWork(PermanentError):
    """Somebody else holds the root's lock, or a rollback is not at its end; nothing was changed."""


@dataclass(frozen=True)
class Row:
    """One change. rollback: 0 where it is of the lock. body: the plan, or the lock's owner, as JSON."""

    kind: str
    rollback: int = 0
    state: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Owner:
    """Who holds the lock, and for what. since: when its process is known to have been there (s)."""

    what: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=lambda: here().host)
    boot: str = field(default_factory=lambda: here().boot)
    namespace: str = field(default_factory=lambda: here().namespace)
    pid: int = field(default_factory=os.getpid)
    since: float = field(default_factory=time.time)

    def is_gone(self) -> bool:
        """Whether its process is known to be dead; False also where that cannot be told from here."""
        place = here()
        if self.host != place.host or (self.boot == place.boot and self.namespace != place.namespace):
            return False
        return self.boot != place.boot or not is_alive(self.pid, self.since)


@dataclass(frozen=True)
class Stored:
    """A plan, as JSON, and how far it is: holding, restoring, done; or lifting, lifted."""

    id: int
    state: str
    body: str

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """Its fields."""
        fields: Mapping[str, Any] = json.loads(self.body)
        return fields


@dataclass(frozen=True)
class Fold:
    """What the rows say together. beat: the newest sign of the lock's owner (ms)."""

    owner: Owner | None = None
    beat: int = 0
    plans: Mapping[int, Stored] = field(default_factory=dict)

    @property
    def open(self) -> Stored | None:
        """The rollback that is not at its end."""
        return next((one for one in self.plans.values() if one.state not in ENDED), None)

    def free_for(self, owner: Owner) -> bool:
        """Whether somebody may take the lock."""
        if self.owner is None or self.owner.token == owner.token or self.owner.is_gone():
            return True
        return time.time() * 1000 - self.beat > SECONDS * 1000


@dataclass
class Store:
    """The rollback table below a root. after_commit: is told of each commit, but of heartbeats."""

    root: Location
    after_commit: Callable[[], None] = lambda: None

    @property
    def location(self) -> Location:
        """Where the table lies."""
        return self.root.child(NAME)

    def read(self) -> Fold:
        """What holds now; nothing is created. Raises DamagedTable."""
        table = newest(self.location)
        found = Fold() if table is None else _fold(table)
        keep(table)
        return found

    def begin(self, plan: Mapping[str, Any]) -> Stored:
        """Write a plan down, which gets an id. Raises AtWork where another rollback is not at its end."""
        stored: Stored | None = None

        def row(now: Fold) -> Row:
            nonlocal stored
            if now.open is not None:
                raise not_at_its_end(now.open)
            number = max(int(time.time() * 1000), *(number + 1 for number in now.plans), 0)
            stored = Stored(number, HOLDING, json.dumps(plan))
            return Row(PLANNED, number, HOLDING, plan)

        self._change(row)
        assert stored is not None
        return stored

    def advance(self, rollback: int, before: str, after: str) -> bool:
        """Move a rollback from a state to the next; False where another process has moved it elsewhere."""
        moved = True

        def row(now: Fold) -> Row | None:
            nonlocal moved
            state = now.plans[rollback].state
            moved = state in (before, after)
            return Row(STATE, rollback, after) if state == before else None

        self._change(row)
        return moved

    @contextmanager
    def locked(self, what: str) -> Iterator[Fold]:
        """Hold the root's lock, with a heartbeat; what held when it was taken. Raises AtWork."""
        owner = Owner(what)
        found = self._take(owner)
        stop = threading.Event()
        beating = threading.Thread(target=self._keep_beating, args=(owner, stop), daemon=True)
        beating.start()
        try:
            yield found
        finally:
            stop.set()
            beating.join()
            self._give_back(owner)

    def _take(self, owner: Owner) -> Fold:
        found = Fold()

        def row(now: Fold) -> Row:
            nonlocal found
            found = now
            if not now.free_for(owner):
                assert now.owner is not None
                raise AtWork(
                    f"{now.owner.what} is at work below {self.root.uri} (process {now.owner.pid} on {now.owner.host}). "
                    "Nothing was changed; wait for its end. If it was killed, its lock is free a minute after its last sign."
                )
            return Row(TAKEN, body=asdict(owner))

        self._change(row)
        return found

    def _give_back(self, owner: Owner) -> None:
        def row(now: Fold) -> Row | None:
            mine = now.owner is not None and now.owner.token == owner.token
            return Row(GIVEN_BACK, body=asdict(owner)) if mine else None

        self._change(row)
        self._tidy()

    def _keep_beating(self, owner: Owner, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS):
            try:
                self._change(lambda now: Row(BEAT, body=asdict(owner)) if now.owner == owner else None, counted=False)
            except Exception:  # the next one may succeed, and who goes on without is stopped by the tables
                logger.warning("no heartbeat of %s", owner.what, exc_info=True)

    def _change(self, decide: Callable[[Fold], Row | None], *, counted: bool = True) -> None:
        table = self._opened()
        files: list[Sink] = []

        def propose(now: Table) -> Proposal | None:
            _discard(files)
            row = decide(_fold(now))
            if row is None:
                return None
            files.append(Sink(now.location, now.schema, [], 0, 0))
            written = files[-1].write(_frame(row, now.version + 1))
            return Proposal(Record("note", NAME, now.id), [one.add for one in written])

        committed = commit_when(table, propose, Deadline(SECONDS))
        keep(table)
        if committed is None:
            _discard(files)
        elif counted:
            self.after_commit()

    def _opened(self) -> Table:
        table = newest(self.location)
        if table is None:
            schema = Schema([Field(name, PrimitiveType(kind)) for name, kind in COLUMNS.items()])
            try_create(self.location, schema, [], Proposal(Record("create", NAME, "")))
            table = newest(self.location)
        if table is None:
            raise DamagedTable(table=self.location.uri, why="it was created, and is not there")
        return table

    def _tidy(self) -> None:
        table = newest(self.location)
        if table is None or len(table.delta.file_uris()) < MANY_FILES:
            keep(table)
            return
        try:
            table.delta.optimize.compact()
        except (DeltaError, OSError) as error:
            logger.warning("%s was not compacted: %s", self.location.uri, error)


def not_lifted(roots: Iterable[Location]) -> list[Stored]:
    """The rollbacks below some roots that were, or are to be, brought to their end."""
    stored = (one for root in roots for one in Store(root).read().plans.values())
    return [one for one in stored if one.state not in (LIFTING, LIFTED)]


def not_at_its_end(stored: Stored) -> AtWork:
    """The refusal of whatever has to wait for a rollback."""
    return AtWork(
        f"Rollback {stored.id} is not at its end ({stored.state}). Nothing was changed; it is ended by "
        "`pipeline-assets rollback --continue`."
    )


def _discard(files: list[Sink]) -> None:
    while files:
        files.pop().discard()


def _frame(row: Row, number: int) -> pl.LazyFrame:
    values = [number, int(time.time() * 1000), row.kind, row.rollback, row.state, json.dumps(row.body)]
    return pl.LazyFrame([values], schema=FRAME, orient="row")


def _fold(table: Table) -> Fold:
    owner, beat = None, 0
    plans: dict[int, Stored] = {}
    if not table.delta.file_uris():
        return Fold()
    rows = pl.scan_delta(table.delta, storage_options=table.location.polars_options).collect()
    for row in rows.sort("n").iter_rows(named=True):
        kind, number = row["kind"], row["rollback"]
        if kind == TAKEN:
            owner, beat = row["body"], row["at"]
        elif kind == BEAT:
            beat = row["at"]
        elif kind == GIVEN_BACK:
            owner = None
        elif kind == PLANNED:
            plans[number] = Stored(number, row["state"], row["body"])
        elif kind == STATE:
            plans[number] = replace(plans[number], state=row["state"])
    return Fold(Owner(**json.loads(owner)) if owner is not None else None, beat, plans)
