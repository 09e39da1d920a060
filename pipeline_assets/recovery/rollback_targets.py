"""What a rollback makes of the partitions of one table: live, replaced or never, and what each goes back to."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.partitions import Partition, read_value
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.restorable import NotRestorable, refuse_gone
from pipeline_assets.delta.states import shown_until
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.errors import DamagedTable
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import types_of

LIVE, REPLACED, NEVER = "live", "replaced", "never"


@dataclass(frozen=True)
class Moment:
    """A commit of ours that spoke of a partition: its version, kind (`write`, `adopt`, `restore`), when (ms), whose data."""

    version: int
    kind: str
    at: int
    part: Part | None


Wanted = Callable[[Moment], bool]
"""Whether what a commit made is to be undone."""


@dataclass(frozen=True)
class Entry:
    """A partition in a plan.

    state: `live` (what is undone is live there), `replaced` (another's data is), `never` (nothing was written there).
    expected, undone, back_to, take_out, part: as delta/restore.py's Target has them. version: the live one now.
    """

    partition: str
    state: str
    expected: Name | None = None
    undone: tuple[Name, ...] = ()
    version: int | None = None
    back_to: int | None = None
    part: Part | None = None
    take_out: tuple[str, ...] = ()
    chains: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        names = [[one.output, one.partition, one.chain, one.attempt] for one in self.undone]
        expected = self.expected and [
            self.expected.output,
            self.expected.partition,
            self.expected.chain,
            self.expected.attempt,
        ]
        part = self.part and self.part.as_json()
        lists = {"take_out": list(self.take_out), "chains": list(self.chains)}
        return {**self.__dict__, **lists, "expected": expected, "undone": names, "part": part}

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Entry":
        """The inverse."""
        return cls(
            partition=fields["partition"],
            state=fields["state"],
            expected=Name(*fields["expected"]) if fields["expected"] else None,
            undone=tuple(Name(*one) for one in fields["undone"]),
            version=fields["version"],
            back_to=fields["back_to"],
            part=Part.of_json(fields["part"]) if fields["part"] else None,
            take_out=tuple(fields["take_out"]),
            chains=tuple(fields["chains"]),
        )


@dataclass
class History:
    """What the log of a table says of an output's partitions, newest first.

    oldest: the version of the oldest entry that there is. whole: whether the log says all, else all since `begins` (s since
    1970).
    """

    table: Table
    output: Output
    moments: dict[str, list[Moment]] = field(default_factory=dict)
    oldest: int = 0
    whole: bool = False
    begins: float = math.inf

    @classmethod
    def of(cls, table: Table, output: Output) -> "History":
        """As far back as the log goes."""
        found = cls(table, output)
        oldest = table.version + 1
        for commit in table.log.back_from(table.version):
            oldest, record = commit.version, commit.record
            at = int(commit.info.get("timestamp", 0))
            found.begins = at / 1000 if record is not None else found.begins  # others may say no time, or a wrong one
            if record is None or record.output != output.name or not table.made(record):
                continue
            for key, part in record.parts.items():
                moment = Moment(commit.version, record.kind, at, part)
                found.moments.setdefault(key, []).append(moment)
        found.oldest = oldest
        found.whole = oldest == 0 or (table.base is not None and oldest <= table.base + 1)
        return found

    def entry(self, one: Partition, wanted: Wanted, remembered: Collection[Part] = ()) -> Entry:
        """What becomes of a partition. remembered: what the event log knows of it that is to be undone.

        Raises NotRestorable.
        """
        undone = self.table.undone()
        mine = {part.name(self.output.name, one.key): part for part in remembered}
        for moment in self.moments.get(one.key, ()):
            if moment.part is not None and moment.kind != "restore" and wanted(moment):
                mine[moment.part.name(self.output.name, one.key)] = moment.part
        mine = {name: part for name, part in mine.items() if name not in undone}
        live = self.table.live(self.output.name, one.key)
        entry = Entry(
            one.key,
            REPLACED if mine else NEVER,
            undone=tuple(sorted(mine, key=lambda name: name.attempt)),
            version=live.version if live is not None else None,
            chains=tuple(sorted({part.chain for part in mine.values()})),
        )
        if not mine or live is None:
            return entry
        if live.part is None:
            raise self.refused(one.key, "its log does not say any more whose data is live there")
        return self._undo(one, entry, live, set(mine), undone)

    def _undo(self, one: Partition, entry: Entry, live: Live, mine: set[Name], undone: Collection[Name]) -> Entry:
        assert live.part is not None
        name = live.part.name(self.output.name, one.key)
        if self.output.mode is Mode.APPEND:
            taken = self._own_files(one, mine)
            if taken is not None:
                left = self._newest(one.key, self.table.version + 1, mine, undone)
                part = left.part if left is not None else None
                as_it_is = None if taken else self.table.version  # nothing was appended: no file of it is there
                return replace(entry, state=LIVE, expected=name, part=part, take_out=tuple(taken), back_to=as_it_is)
        if name not in mine:
            if self.output.mode is Mode.OVERWRITE:
                return entry
            raise self.refused(one.key, "other run chains' rows came after, and cannot be told apart from its own")
        if self.output.mode is not Mode.OVERWRITE:
            self._refuse_mixed(one.key, mine, undone)
        foreign = self.table.foreign_between(one, live.version, self.table.version)
        if foreign is not None:
            raise self.refused(
                one.key,
                f"version {foreign.version} is a foreign commit ({foreign.operation}) on top of what would be undone; if "
                f"it is meant, `pipeline-assets adopt {self.output.name}`, if not, run the stage again",
            )
        back = self._newest(one.key, live.version, mine, undone)
        part = back.part if back is not None else None
        return replace(entry, state=LIVE, expected=name, back_to=self._version(one, back), part=part)

    def _newest(self, key: str, before: int, mine: Collection[Name], undone: Collection[Name]) -> Moment | None:
        """The newest state before a version in which nothing is that is, or is to be, undone."""
        for moment in self.moments.get(key, ()):
            if moment.version >= before:
                continue
            name = moment.part.name(self.output.name, key) if moment.part is not None else None
            if name is None or (name not in mine and name not in undone):
                return moment
        return None

    def _version(self, one: Partition, back: Moment | None) -> int | None:
        """The version to go back to; None for nothing."""
        if back is None:
            if not self.whole and not self._is_new(one.key):
                raise self.refused(one.key, "its log does not go back any more to what was there before")
            return self.table.base
        if back.part is None and self.table.base is None:
            return None
        return shown_until(self.table, self.output.name, one, back.version)

    def _is_new(self, key: str) -> bool:
        """Whether nothing of a partition is older than the log: its entries were cleaned up before the partition began."""
        if self.table.base is not None:
            return False
        try:
            return names.data(self.output.name, key) not in self.table.log.txns(self.oldest)
        except DamagedTable:
            return False

    def _own_files(self, one: Partition, mine: Collection[Name]) -> list[str] | None:
        """Of a partition that is appended to the files of some checkpoints; None where they are not all as they were."""
        versions = [
            moment.version
            for moment in self.moments.get(one.key, ())
            if moment.kind == "write" and moment.part and moment.part.name(self.output.name, one.key) in mine
        ]
        written = {
            unquote(action["path"])
            for version in versions
            for action in self.table.log.actions(version, "add")
            if self._is_in(one, action["partitionValues"])
        }
        there = len(versions) == len(mine) and written <= set(self.table.paths([one]))
        return sorted(written) if there else None

    def _is_in(self, one: Partition, spelled: Mapping[str, str | None]) -> bool:
        types = types_of(self.table.schema)
        return one.holds({column: read_value(spelled[column], types[column]) for column in one.columns})

    def _refuse_mixed(self, key: str, mine: Collection[Name], undone: Collection[Name]) -> None:
        """What others put on top of an earlier one of these cannot be taken apart, unless it was undone."""
        others = False
        for moment in self.moments.get(key, ()):
            name = moment.part.name(self.output.name, key) if moment.part is not None else None
            if name in mine and others:
                raise self.refused(key, "other run chains' rows came in between, and cannot be told apart from its own")
            others = others or (name not in mine and name not in undone)

    def refused(self, key: str, why: str) -> NotRestorable:
        """That a partition cannot go back."""
        place = "" if key == "*" else f"partition {key}: "
        return NotRestorable(table=self.table.location.uri, why=f"{place}{why}")


def refuse_unrestorable(table: Table, entries: Iterable[Entry], partitions: Sequence[Partition]) -> None:
    """Refuse where the files, the log or the columns of a target are gone. Raises NotRestorable, DamagedTable."""
    by_key = {one.key: one for one in partitions}
    by_version: dict[int, list[Partition]] = {}
    for entry in entries:
        if entry.back_to is not None:
            by_version.setdefault(entry.back_to, []).append(by_key[entry.partition])
    for version, ones in sorted(by_version.items()):
        refuse_gone(table, version, ones)
