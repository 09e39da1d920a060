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
    "ledger": ("clean", "journal"),
    "pair": ("raw", "count"),
    "gather": ("clean", "count"),
    "report": ("gather",),
}
"""What each stage reads: `raw` the outside world, `clean` a source table as well, `gather` all keys of two stages."""
STAGES = tuple(INPUTS)
OUTPUTS: Mapping[str, tuple[str, ...]] = {"pair": ("pair", "twin")}
"""The stages that write several tables; all others write the one of their name."""
TABLES = tuple(name for stage in STAGES for name in OUTPUTS.get(stage, (stage,)))
WHOLE_TABLES = frozenset({"gather", "report"})
APPENDED = frozenset({"journal"})
MERGED = frozenset({"ledger"})
REMEMBERING = APPENDED | MERGED
"""Tables that hold the data of many chains, and remember each."""


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


@dataclass(frozen=True)
class Version:
    """What a table shows. foreign: partitions with rows of somebody else's on top of what is live."""

    live: Live
    txns: Mapping[str, int]
    foreign: frozenset[str] = frozenset()


NOTHING = Version({}, {})


@dataclass
class Table:
    """A table that may not be there yet (no version)."""

    name: str
    id: str = ""
    versions: list[Version] = field(default_factory=list)
    explained: list[int] = field(default_factory=list)
    undone: set[Name] = field(default_factory=set)

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    @property
    def newest(self) -> Version:
        return self.versions[-1] if self.versions else NOTHING

    @property
    def live(self) -> Live:
        return self.newest.live

    @property
    def txns(self) -> Mapping[str, int]:
        return self.newest.txns

    def commit(self, expected: int, data: Mapping[str, tuple[Item, ...]], txns: Mapping[str, int]) -> int | None:
        """The next version; None where another was faster. Creation is a commit like others."""
        if expected != self.version:
            return None
        foreign = self.newest.foreign - set(data)
        self.versions.append(Version({**self.live, **data}, {**self.txns, **txns}, foreign))
        if data:
            self.explained.append(self.version)
        return self.version

    def write_of_somebody_else(self, key: str) -> None:
        """A foreign commit: rows that nobody explains, in a partition that is not held."""
        self.versions.append(Version(self.live, self.txns, self.newest.foreign | {key}))

    def states(self, keys: Sequence[str]) -> Iterator[State]:
        """What checkpoints and restores made live, newest first."""
        for version in reversed(self.explained):
            live = self.versions[version].live
            yield State(version, {key: frozenset(item.name for item in live.get(key, ())) for key in keys})

    def items_at(self, version: int, keys: Iterable[str]) -> list[Item]:
        live = self.versions[version].live
        return [item for key in keys for item in live.get(key, ())]


@dataclass
class Chain:
    """A run chain: which keys it makes of which stages, and how far it is.

    raised: for stage and input the pins from which it was told to compute again. attempts: how many have begun at each
    stage. fenced: which of them has given up those before it, by table.
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
    raised: dict[tuple[str, str], set[Pin]] = field(default_factory=dict)
    began: int | None = None
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
    tables: dict[str, Table] = field(default_factory=lambda: {name: Table(name, f"id-{name}") for name in TABLES})

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


def mode_of(table: str) -> Mode:
    if table in APPENDED:
        return Mode.APPEND
    return Mode.MERGE if table in MERGED else Mode.OVERWRITE


def outputs_of(stage: str) -> tuple[str, ...]:
    """The tables that a stage writes."""
    return OUTPUTS.get(stage, (stage,))
