"""What a table can go back to: the files of an earlier version, and why that may be impossible."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from pipeline_assets.delta.partitions import Partition, files_of, spell
from pipeline_assets.delta.record import VACUUM, VACUUMED
from pipeline_assets.delta.stats import add_stats
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import DamagedTable, ForeignData, PermanentError, describe

AT_ONCE = 8
"""How many footers of files are read together from an object store, which is all waiting; local ones take 0.06 ms."""
VACUUM_BEGINS, VACUUM_ENDS = "VACUUM START", "VACUUM END"
Values = dict[str, str | None]


class NotRestorable(PermanentError):
    """A state that a table cannot go back to; nothing was changed."""

    def __init__(self, *, table: str, why: str) -> None:
        self.table, self.why = table, why
        super().__init__(
            f"The Delta table {table} was not rolled back: {why}. Nothing in it was changed; where the data is wanted "
            "back, run the stage again."
        )


class ChangedUnderHold(ForeignData):
    """Somebody who knows of no holds has written while a rollback held the table; it stands half done, and waits."""

    def __init__(self, *, table: str, output: str, partition: str, rollback: int) -> None:
        self.table = table
        self.why = f"{describe(output, partition)} was changed by somebody else while rollback {rollback} held it"
        PermanentError.__init__(
            self,
            f"The Delta table {table} was not rolled back: {self.why}. It is held still, and others may be back already. "
            f"`pipeline-assets adopt {output}` keeps what is there, and `pipeline-assets rollback --continue` then ends it; "
            "`pipeline-assets rollback --continue --overwrite` takes it away.",
        )


class TargetGone(ChangedUnderHold):
    """A file of a target went while a rollback was at work, and tables are back already; it stands half done, and waits."""

    def __init__(self, *, table: str, why: str, rollback: int) -> None:
        self.table, self.why = table, why
        PermanentError.__init__(
            self,
            f"The Delta table {table} was not rolled back: {why} while rollback {rollback} was at work, and others are back "
            "already. It is held still. Bring the file back (a backup), and `pipeline-assets rollback --continue` ends it; "
            "`pipeline-assets rollback --continue --overwrite` leaves nothing in its place, for its stage to make again.",
        )


@dataclass(frozen=True)
class Before:
    """Partitions as they were at a version: their files (path → partition values), and the table's columns then.

    schema: None where the rows fit the columns that there are now.
    """

    files: dict[str, Values]
    schema: Schema | None = None


def before(table: Table, version: int, partitions: Sequence[Partition]) -> Before:
    """What partitions were at a version. Raises NotRestorable, DamagedTable."""
    try:
        delta, listed = _at(table, version)
    except DeltaError as error:
        raise NotRestorable(
            table=table.location.uri, why=f"version {version} is not there any more ({str(error).splitlines()[0]})"
        ) from error
    old = Table(table.location, delta)
    wanted = set(old.paths(partitions))
    found = {path: listed[path] for path in wanted & listed.keys()}
    if set(found) != wanted:
        raise DamagedTable(table=table.location.uri, why=f"version {version} names files that its log does not list")
    return Before(found, None if not found else _other_columns(table, old, partitions))


_known: "WeakKeyDictionary[Table, dict[tuple[str, int], tuple[DeltaTable, dict[str, Values]]]]" = WeakKeyDictionary()
"""Earlier versions, as long as there is the handle by which they were asked for; a rollback asks for each three times."""


def _at(table: Table, version: int) -> tuple[DeltaTable, dict[str, Values]]:
    """A version and its files (path → partition values), which never change. Raises DeltaError."""
    known = _known.setdefault(table, {})
    if (table.id, version) not in known:
        delta = DeltaTable(table.location.uri, version=version, storage_options=table.location.options)
        columns = delta.metadata().partition_columns
        rows = files_of(delta)
        files = {unquote(row["path"]): {one: spell(row[f"partition.{one}"]) for one in columns} for row in rows}
        known[table.id, version] = delta, files
    return known[table.id, version]


def refuse_gone(table: Table, version: int, partitions: Sequence[Partition]) -> None:
    """Refuse where partitions cannot be brought back from a version. Raises NotRestorable, DamagedTable."""
    now = set(table.paths(partitions))
    wanted = [path for path in sorted(before(table, version, partitions).files) if path not in now]
    for info in table.location.files.get_file_info(wanted) if wanted else ():
        if not info.is_file:
            raise _vacuumed(table, info.path)


def vacuum_at_work(table: Table) -> int | None:
    """The version at which a VACUUM began that has not ended."""
    for commit in table.log.back_from(table.version):
        said = {commit.operation, commit.record.kind if commit.record is not None else ""}
        if said & {VACUUM_ENDS, VACUUMED}:
            return None
        if said & {VACUUM_BEGINS, VACUUM}:
            return commit.version
    return None


def refuse_vacuum(table: Table) -> None:
    """Refuse while a VACUUM, which deletes what is to be brought back, is at work. Raises NotRestorable."""
    began = vacuum_at_work(table)
    if began is not None:
        raise NotRestorable(
            table=table.location.uri,
            why=f"a VACUUM began at version {began} and has not ended; wait for it, and if it died run it, or "
            "`maintenance_job`, again",
        )


def adds(table: Table, files: dict[str, Values], there: Collection[str]) -> list[AddAction]:
    """The actions that bring back files, but for those that are there. Raises NotRestorable."""
    wanted = [(path, values) for path, values in sorted(files.items()) if path not in there]
    if table.location.is_local:
        return [_add_of(table, *one) for one in wanted]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda one: _add_of(table, *one), wanted))


def _add_of(table: Table, path: str, values: Values) -> AddAction:
    info = table.location.files.get_file_info(path)
    if not info.is_file:
        raise _vacuumed(table, path)
    footer = pq.read_metadata(path, filesystem=table.location.files)
    moment = (info.mtime_ns or 0) // 1_000_000
    return AddAction(path, info.size, values, moment, data_change=True, stats=add_stats(footer))


def _vacuumed(table: Table, path: str) -> NotRestorable:
    return NotRestorable(table=table.location.uri, why=f"its file {path} was vacuumed")


def _other_columns(table: Table, old: Table, partitions: Sequence[Partition]) -> Schema | None:
    """The columns of then where those of now do not hold the rows, and the whole table goes back. Raises NotRestorable.

    Rows of then have NULL in columns that were added since.
    """
    now = {field.name: field for field in table.schema.fields}
    then = {field.name: field for field in old.schema.fields}
    same = all(name in now and now[name].to_json() == field.to_json() for name, field in then.items())
    if same and all(now[name].nullable for name in now.keys() - then.keys()):
        return None
    if len(partitions) == 1 and not partitions[0].columns and not table.partition_columns:
        return old.schema
    raise NotRestorable(table=table.location.uri, why=f"its columns are not those of version {old.version}")
