"""Tables in memory with compare-and-set, the event log, and what is known of both."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline_assets.delta import names
from pipeline_assets.delta.choose import State
from pipeline_assets.delta.decide import RULES, Mode, Name, Pin, Rule
from pipeline_assets.delta.record import chain_id

WHOLE = names.WHOLE
INPUTS: Mapping[str, tuple[str, ...]] = {
    "raw": (),
    "clean": ("raw", "source"),
    "count": ("raw",),
    "journal": ("raw",),
    "gather": ("clean", "count"),
    "report": ("gather",),
}
"""What each stage reads: `raw` the outside world, `clean` a source table as well, `gather` all keys of two stages."""
STAGES = tuple(INPUTS)
WHOLE_TABLES = frozenset({"gather", "report"})
APPENDED = frozenset({"journal"})


class Broken(AssertionError):
    """A property of the protocol does not hold."""


class Red(Exception):
    """An attempt ends red."""


@dataclass(frozen=True)
class Item:
    """The data of one checkpoint: its name, what it was made from, and whose data that contains."""

    name: Name
    pins: Mapping[str, Pin]
    made_of: Mapping[tuple[str, str], Name]


Live = Mapping[str, tuple[Item, ...]]


@dataclass
class Table:
    """A table that may not be there yet (no version)."""

    name: str
    id: str = ""
    versions: list[tuple[Live, Mapping[str, int]]] = field(default_factory=list)
    explained: list[int] = field(default_factory=list)
    undone: set[Name] = field(default_factory=set)

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    @property
    def live(self) -> Live:
        return self.versions[-1][0] if self.versions else {}

    @property
    def txns(self) -> Mapping[str, int]:
        return self.versions[-1][1] if self.versions else {}

    def commit(self, expected: int, data: Mapping[str, tuple[Item, ...]], txns: Mapping[str, int]) -> int | None:
        """The next version; None where another was faster. Creation is a commit like others."""
        if expected != self.version:
            return None
        self.versions.append(({**self.live, **data}, {**self.txns, **txns}))
        if data:
            self.explained.append(self.version)
        return self.version

    def states(self, keys: Sequence[str]) -> Iterator[State]:
        """What checkpoints and restores made live, newest first."""
        for version in reversed(self.explained):
            live = self.versions[version][0]
            yield State(version, {key: frozenset(item.name for item in live.get(key, ())) for key in keys})

    def items_at(self, version: int, keys: Iterable[str]) -> list[Item]:
        live = self.versions[version][0]
        return [item for key in keys for item in live.get(key, ())]


@dataclass
class Chain:
    """A run chain: which keys it makes of which stages, and how far it is.

    attempts: how many have begun at each stage. fenced: which of them has given up those before it.
    """

    run_id: str
    keys: tuple[str, ...]
    select: tuple[str, ...]
    status: str = "new"
    why: str = ""
    run: int = 0
    last: int = 0
    started: list[str] = field(default_factory=list)
    kept: dict[tuple[str, str], Name] = field(default_factory=dict)
    source: int | None = None
    attempts: dict[str, int] = field(default_factory=dict)
    fenced: dict[str, int] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return chain_id(self.run_id)


@dataclass
class World:
    """All there is. without: rules of the protocol that are left out, to see that they are missed."""

    random: random.Random
    rules: Sequence[Rule] = RULES
    without: frozenset[str] = frozenset()
    faults: bool = True
    clock: int = 1_000_000
    source_version: int = 1
    events: dict[Name, Item] = field(default_factory=dict)
    commits: list[tuple[Name, int, Item]] = field(default_factory=list)
    fences: dict[tuple[str, int], int] = field(default_factory=dict)
    held: dict[tuple[str, int], int] = field(default_factory=dict)
    chains: list[Chain] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    tables: dict[str, Table] = field(default_factory=lambda: {stage: Table(stage, f"id-{stage}") for stage in STAGES})

    @property
    def undone(self) -> set[Name]:
        return set().union(*(table.undone for table in self.tables.values()))

    def keys_of(self, stage: str, chain: Chain) -> tuple[str, ...]:
        """The partitions of a stage that a chain makes."""
        return (WHOLE,) if stage in WHOLE_TABLES else chain.keys

    def keys_read(self, stage: str, chain: Chain, up: str) -> tuple[str, ...]:
        """The partitions of an input that a stage reads."""
        if stage == "gather":
            return tuple(self.tables[up].live)
        return self.keys_of(up, chain)

    def open(self, stage: str) -> Table:
        """Whoever opens a table records what is live in it and has no event."""
        table = self.tables[stage]
        if "adopting" not in self.without:
            for items in table.live.values():
                for item in items:
                    self.events.setdefault(item.name, item)
        return table

    def next_attempt(self, chain: Chain) -> int:
        """When an attempt begins by its host's clock, and after all that the chain knows of. Clocks of hosts differ."""
        moment = self.clock + self.random.randint(-3, 3)
        chain.last = moment if "one more" in self.without else max(moment, chain.last + 1)
        return chain.last


def mode_of(stage: str) -> Mode:
    return Mode.APPEND if stage in APPENDED else Mode.OVERWRITE
