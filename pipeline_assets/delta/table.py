"""A Delta table at one version, seen as checkpoints: what is live, whose it is, what has been undone."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from urllib.parse import unquote

from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Name
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import LOG, Commit, TableLog, entry_of, log_of
from pipeline_assets.delta.partitions import Partition, paths_of, read_value
from pipeline_assets.delta.record import MAKES_DATA, Part, Record
from pipeline_assets.errors import DamagedTable

Memory = Callable[[str, int], Part | None]
"""What the event log remembers of a partition's checkpoint at a version, for when log clean-up took the commit."""
FOREIGN = f"{names.PREFIX}/foreign"
"""→ the newest version at which somebody else had changed data when a commit of ours was made."""

DATA = f"{names.PREFIX}/data/"
"""What the entries of all outputs' data begin with."""
JUST_NOW = 1.0
"""Seconds."""

BASE = f"{names.PREFIX}/base"
"""→ the version of somebody else's table on which our first commit to it stands: what is in it then, stays readable."""


@dataclass(frozen=True)
class Live:
    """The checkpoint that is live in a partition: the version that put it there, and what is known of it."""

    version: int
    part: Part | None


class Table:
    """A handle on a Delta table; `refresh` moves it to the newest version, nothing else does."""

    def __init__(self, location: Location, delta: DeltaTable) -> None:
        self.location, self.delta = location, delta
        self.id = str(delta.metadata().id)
        self.log: TableLog = log_of(location, self.id)
        self._entry = self._stamp()
        self._looked = time.monotonic()

    @property
    def version(self) -> int:
        """The version that this handle shows."""
        return self.delta.version()

    @property
    def txns(self) -> Mapping[str, int]:
        """Our entries as of this version."""
        return self.log.txns(self.version)

    @property
    def schema(self) -> Schema:
        """The Delta schema."""
        return self.delta.schema()

    @property
    def partition_columns(self) -> list[str]:
        """Names of the partition columns."""
        return list(self.delta.metadata().partition_columns)

    @property
    def is_ours(self) -> bool:
        """Whether a commit of ours stands in its log; else it is a source."""
        return any(app_id.startswith(f"{names.PREFIX}/") for app_id in self.txns)

    @property
    def base(self) -> int | None:
        """The version at which the table was somebody else's, before our first commit; None where we created it."""
        return self.txns.get(BASE)

    def refresh(self) -> None:
        """To the newest version; also when the table was dropped and made anew. Raises DamagedTable."""
        is_it = self.still_there()
        if is_it:
            if self._nothing_came():
                return
            try:
                self.delta.update_incremental()
            except DeltaError as error:
                raise DamagedTable(table=self.location.uri, why=str(error)) from error
            is_it = str(self.delta.metadata().id) == self.id  # not where one was made in its place, in the same log
        if not is_it:
            fresh = open_table(self.location)
            if fresh is None:
                raise DamagedTable(table=self.location.uri, why="it was dropped while it was in use")
            self.delta, self.id, self.log = fresh.delta, fresh.id, fresh.log
        self._entry = self._stamp()
        self._looked = time.monotonic()

    def _nothing_came(self) -> bool:
        """Whether the next entry is not there, on a local disk, a moment after the table was looked at.

        Asking delta-rs takes a hundred times as long. Later the entry may have come and have been cleaned up.
        """
        if not self.location.is_local or time.monotonic() - self._looked > JUST_NOW:
            return False
        return not self.location.files.get_file_info(entry_of(self.version + 1)).is_file

    def still_there(self) -> bool:
        """Whether the log entry that this handle stands on is still the one that it was opened on.

        An incremental update does not notice that the table was dropped and made anew.
        """
        return self._entry is not None and self._entry == self._stamp()

    def _stamp(self) -> tuple[int, int | None, int | None] | None:
        entry = self.location.files.get_file_info(entry_of(self.version))
        return (self.version, entry.size, entry.mtime_ns) if entry.is_file else None

    def paths(self, partitions: Sequence[Partition]) -> list[str]:
        """Relative paths (as on disk) of the active files that hold the partitions' rows."""
        return paths_of(self.delta, partitions)

    def live(self, output: str, partition: str, memory: Memory | None = None) -> Live | None:
        """The live checkpoint of a partition; None where there is none of ours in this table."""
        version = self.txns.get(names.data(output, partition))
        if version is None or version > self.version:
            return None
        record = self.record_at(version)
        if record is None:
            return Live(version, memory(partition, version) if memory else None)
        if not self.made(record) or record.output != output or record.parts.get(partition) is None:
            return None
        return Live(version, record.parts[partition])

    def record_at(self, version: int) -> Record | None:
        """Our record of a version; None where it is not ours or the entry is gone."""
        commit = self.log.commit(version)
        return commit.record if commit is not None else None

    def made(self, record: Record) -> bool:
        """Whether a record speaks of this Delta table; that of a creation cannot know the table's id yet."""
        return record.table_id in ("", self.id)

    def has_member(self, output: str, partition: str, chain: int) -> int:
        """The version at which a chain appended or merged here, 0 when it did not or was undone."""
        return self.txns.get(names.member(output, partition, chain), 0)

    def remembers(self, output: str) -> bool:
        """Whether it holds the rows of many chains of the output, which were appended or merged."""
        return any(
            (names.parse(app_id) or ())[:2] == ("chain", output) and app_id.count("/") == 4 for app_id in self.txns
        )

    def newest_explained(self, output: str) -> int | None:
        """The newest version that a checkpoint or a restore of the output made."""
        prefix = names.data(output, names.WHOLE).removesuffix(names.WHOLE)
        return max((version for app_id, version in self.txns.items() if app_id.startswith(prefix)), default=None)

    def written_partitions(self, output: str) -> list[str]:
        """Partitions of the output that a checkpoint or a restore has spoken of, in no order."""
        return list(self.entries(names.data, output))

    def entries(self, kind: Callable[[str, str], str], output: str) -> dict[str, int]:
        """Of an output the entries of a kind (`names.data`, `names.chain`, …) by partition, all at once."""
        prefix = kind(output, names.WHOLE).removesuffix(names.WHOLE)
        own = {app_id[len(prefix) :]: value for app_id, value in self.txns.items() if app_id.startswith(prefix)}
        return {unquote(key) if "%" in key else key: value for key, value in own.items() if "/" not in key}

    def outputs(self) -> set[str]:
        """The outputs that have, or had, data in it."""
        found = [names.parse(app_id) for app_id in self.txns if app_id.startswith(DATA)]
        return {parts[1] for parts in found if parts is not None}

    def others(self, output: str) -> dict[str, set[str]]:
        """For each partition the other outputs that say of themselves that their data is live there."""
        own = names.data(output, names.WHOLE).removesuffix(names.WHOLE)
        theirs = [one for one in self.txns if one.startswith(DATA) and not one.startswith(own)]
        found: dict[str, set[str]] = {}
        for said in map(names.parse, theirs):
            if said is not None:
                _, owner, key = said
                if self.txns.get(names.chain(owner, key)):
                    found.setdefault(key, set()).add(owner)
        return found

    def newest_owner(self) -> str | None:
        """The output that wrote last, None where none has."""
        data = {app_id: version for app_id, version in self.txns.items() if app_id.startswith(DATA)}
        found = names.parse(max(data, key=lambda app_id: data[app_id])) if data else None
        return found[1] if found else None

    def last_change(self) -> int:
        """The newest version that changed rows or columns: equal data is an equal pin."""
        for commit in self.log.back_from(self.version):
            if self._changes(commit) or commit.version == 0:
                return commit.version
        return self.version

    def records(self, output: str, version: int | None = None, most: int | None = None) -> Iterator[tuple[int, Record]]:
        """Our commits that made data of the output live, newest first, as far as the log goes, or among the newest `most`."""
        for commit in islice(self.log.back_from(self.version if version is None else version), most):
            record = commit.record
            if record is not None and record.kind in MAKES_DATA and record.output == output and self.made(record):
                yield commit.version, record

    def undone(self) -> frozenset[Name]:
        """Names of the checkpoints that rollbacks of this table have taken back; also where their commits are gone."""
        prefix = f"{names.PREFIX}/undone/"
        found = [names.parse(app_id) for app_id in self.txns if app_id.startswith(prefix)]
        return frozenset(Name(said[1], said[2], int(said[3]), int(said[4])) for said in found if said is not None)

    def last_foreign(self) -> int:
        """The newest version at which somebody else changed data, -1 for none."""
        for commit in self.log.back_from(self.version):
            if commit.is_foreign:
                return commit.version
            if commit.record is not None:
                return self.txns.get(FOREIGN, -1)
        return self.txns.get(FOREIGN, -1)

    def foreign_between(self, one: Partition, after: int, until: int) -> Commit | None:
        """The newest foreign commit in (after, until] that touched the partition."""
        if self.last_foreign() <= after:
            return None
        for commit in self.log.back_from(until):
            if commit.version <= after:
                return None
            if commit.is_foreign and self._touches(commit.version, one):
                return commit
        return None

    def same_data_as(self, version: int) -> int:
        """The newest version that differs from `version` by no change of rows or columns (Delta protocol, `dataChange`).

        What a compaction rewrote is found there also after a VACUUM took the files of `version` itself, and what log
        clean-up took the entry of is found at all; but not in a source, where no entry of ours says what changed last.
        """
        newest = version
        for number in range(version + 1, self.version + 1):
            commit = self.log.commit(number)
            if commit is None:
                return self.version if self.is_ours and self._last_known_change() <= version else newest
            if self._changes(commit):
                break
            newest = number
        return newest

    def _changes(self, commit: Commit) -> bool:
        """Whether a commit changed rows or columns; new properties alone do not."""
        if commit.changes_data or commit.schema is None:
            return commit.changes_data
        before = next((one.schema for one in self.log.back_from(commit.version - 1) if one.schema is not None), None)
        return before is not None and before != commit.schema

    def _last_known_change(self) -> int:
        """The newest version that one of ours or somebody else changed rows in, by the entries that clean-up leaves."""
        ours = max((version for app_id, version in self.txns.items() if app_id.startswith(DATA)), default=-1)
        return max(ours, self.last_foreign())

    def _touches(self, version: int, one: Partition) -> bool:
        actions = self.log.actions(version, "add", "remove")
        if not one.columns:
            return True
        types = {field.name: field.type for field in self.schema.fields}
        for spelled in (action.get("partitionValues") for action in actions if action.get("dataChange", True)):
            if spelled is None or any(column not in spelled for column in one.columns):
                return True
            if one.holds({column: read_value(spelled[column], types[column]) for column in one.columns}):
                return True
        return False


def open_table(location: Location, version: int | None = None) -> Table | None:
    """The table at a location, None where there is none. Raises DamagedTable."""
    try:
        return _opened(location, version)
    except TableNotFoundError:
        if not any(name.endswith(".json") for name in location.names(LOG)):
            return None
    try:
        return _opened(location, version)  # it was created between the two looks, perhaps
    except TableNotFoundError as error:
        raise DamagedTable(table=location.uri, why=str(error)) from error


def _opened(location: Location, version: int | None) -> Table:
    try:
        return Table(location, DeltaTable(location.uri, version=version, storage_options=location.options))
    except TableNotFoundError:
        raise
    except DeltaError as error:
        raise DamagedTable(table=location.uri, why=str(error)) from error
