"""A stage's table: its log, what can be gone back to, files that nobody names, many small files, retention."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pyarrow import fs

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Name
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import CHECKPOINT, ENTRY, LOG
from pipeline_assets.delta.partitions import files_of, paths_of
from pipeline_assets.delta.restorable import NotRestorable, refuse_vacuum
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.delta.window import DELETED_FILES, LOG_ENTRIES, interval, named
from pipeline_assets.delta.writable import refuse_unwritable
from pipeline_assets.errors import DamagedTable, UnsupportedTable
from pipeline_assets.io.outputs import Output
from pipeline_assets.recovery.code_location import MAINTENANCE_JOB
from pipeline_assets.recovery.doctor import ERROR, OK, WARNING, Finding
from pipeline_assets.recovery.reach import Reach

MANY_ENTRIES = 100
"""Log entries after the newest log checkpoint that make opening slow: 38 ms for 50, 7 ms for 10."""
MANY_FILES = 64
"""Files of one partition."""
YOUNG_SECONDS = 3600.0
"""A file that no version names may be on its way into one."""
RETENTION = {LOG_ENTRIES: 30, DELETED_FILES: 7}
"""How long other tools leave the log's entries, and files that are no more in the table; in days, where it does not say."""


@dataclass(frozen=True)
class OnDisk:
    """What lies below a table: path → bytes and when it was written (s); of data files, and of the log."""

    data: Mapping[str, tuple[int, float]]
    log: Mapping[str, tuple[int, float]]

    @classmethod
    def of(cls, location: Location) -> "OnDisk":
        """By one listing. What begins with `_` or `.` is no data, as VACUUM has it, unless it is a partition's folder."""
        data, log = {}, {}
        for info in location.files.get_file_info(fs.FileSelector("", recursive=True, allow_not_found=True)):
            found = info.size or 0, (info.mtime_ns or 0) / 1e9
            if info.type != fs.FileType.File:
                continue
            path = info.path.lstrip("/")
            if path.startswith(f"{LOG}/"):
                log[path.removeprefix(f"{LOG}/")] = found
            elif not any(part.startswith(("_", ".")) and "=" not in part for part in path.split("/")):
                data[path] = found
        return cls(data, log)


def table_of(output: Output, window: timedelta, more: str) -> Iterator[Finding]:
    """All that there is to say of a stage's table. window: how far back a rollback shall be able to go."""
    try:
        table = open_table(output.location)
        if table is None:
            return
        entries = [commit.version for commit in table.log.back_from(table.version)]
        refuse_unwritable(table, output.mode)
    except DamagedTable as error:
        mend = (
            f"bring its log back from a backup, or move the table away and make it again (pipeline-assets adopt{more})"
        )
        yield Finding(ERROR, "table", output.name, f"its log cannot be read: {error.why}", mend)
        return
    except UnsupportedTable as error:
        yield Finding(ERROR, "table", output.name, str(error), "unset it, or write to another table")
        return
    disk = OnDisk.of(output.location)
    size, files = sum(size for size, _ in disk.log.values()), len(table.delta.file_uris())
    said = f"version {table.version}, {files:,} files, a log of {len(entries):,} entries and {size:,} bytes"
    yield Finding(OK, "table", output.name, said)
    yield from _log(output, table, disk)
    yield from _files(output, table)
    yield from _missing(output, table, disk)
    yield from _orphans(output, table, disk, entries)
    yield from _restorable(output, table, window)
    yield from _retention(output, table, window)


def _log(output: Output, table: Table, disk: OnDisk) -> Iterator[Finding]:
    newest = max((int(found[1]) for name in disk.log if (found := CHECKPOINT.match(name))), default=-1)
    since = [name for name in disk.log if (found := ENTRY.match(name)) and int(found[1]) > newest]
    if len(since) > MANY_ENTRIES:
        said = (
            f"{len(since)} log entries since its newest log checkpoint (version {newest}), each read when it is opened"
        )
        yield Finding(WARNING, "log", output.name, said, f"run {MAINTENANCE_JOB}, or DeltaTable(…).create_checkpoint()")
    try:
        refuse_vacuum(table)
    except NotRestorable as error:
        yield Finding(
            WARNING, "vacuum", output.name, error.why, f"run {MAINTENANCE_JOB}, which ends it when it is a day old"
        )


def _files(output: Output, table: Table) -> Iterator[Finding]:
    """Partitions of many files."""
    columns = table.partition_columns
    counts = Counter(tuple(row[f"partition.{name}"] for name in columns) for row in files_of(table.delta)) or Counter(
        {(): 0}
    )
    values, most = max(counts.items(), key=lambda one: one[1])
    if most > MANY_FILES:
        where = f"its partition {', '.join(map(str, values))}" if values else "it"
        yield Finding(
            WARNING, "files", output.name, f"{where} has {most:,} files", f"run {MAINTENANCE_JOB}, which compacts them"
        )


def _missing(output: Output, table: Table, disk: OnDisk) -> Iterator[Finding]:
    """Data files that the newest version names, and that are not there."""
    gone = sorted(set(paths_of(table.delta, None)) - disk.data.keys())
    if gone:
        said = f"{len(gone):,} of its data files are gone, as {gone[0]}: what reads them fails"
        yield Finding(
            ERROR, "missing", output.name, said, "bring them back from a backup, or make what was in them again"
        )


def _orphans(output: Output, table: Table, disk: OnDisk, entries: Iterable[int]) -> Iterator[Finding]:
    """Files that no version names, as far back as the log goes: written by attempts that were given up or died."""
    known = named(table, entries) | set(paths_of(table.delta, None))
    before = time.time() - YOUNG_SECONDS
    orphans = {path: size for path, (size, at) in disk.data.items() if path not in known and at < before}
    if orphans:
        said = f"{len(orphans):,} files of {sum(orphans.values()):,} bytes are in no version, as {min(orphans)}"
        yield Finding(WARNING, "orphans", output.name, said, f"run {MAINTENANCE_JOB}, which takes them away")


def _restorable(output: Output, table: Table, window: timedelta) -> Iterator[Finding]:
    """Versions within the window that cannot be gone back to."""
    reach, undone = Reach(table, output), table.undone()
    wanted = list(_within(table, output.name, (time.time() - window.total_seconds()) * 1000))
    chosen = [(version, key) for version, key, name in wanted if name not in undone]
    for version, key in chosen:
        reach.want(version, key)
    gone = {version: why for version, key in chosen if (why := reach.why_not(version, key)) is not None}
    if gone:
        oldest, newest = min(gone), max(gone)
        versions = f"version {oldest}" if oldest == newest else f"{len(gone):,} of the versions {oldest} to {newest}"
        said = f"{versions}, within the rollback window of {_days(window)}, cannot be gone back to: {gone[newest]}"
        mend = "VACUUM with a longer retention from now on; what is gone can only be made again"
        yield Finding(WARNING, "restorable", output.name, said, mend)


def _within(table: Table, output: str, since: float) -> Iterator[tuple[int, str, Name]]:
    """Checkpoints that were live at a time (ms) or after it, but for those that are live now: version, partition, name."""
    live = table.entries(names.data, output)
    for version, record in table.records(output):
        for key, part in record.parts.items():
            if part is not None and live.get(key) != version:
                yield version, key, part.name(output, key)
        commit = table.log.commit(version)
        if commit is None or commit.info.get("timestamp", 0) < since:
            return


def _retention(output: Output, table: Table, window: timedelta) -> Iterator[Finding]:
    """What other tools may delete before the window is over."""
    configuration = table.delta.metadata().configuration
    for name, days in RETENTION.items():
        said = configuration.get(name)
        kept = interval(said) if said is not None else timedelta(days=days)
        if kept is not None and kept >= window:
            continue
        what = f"{name} is {said}" if said is not None else f"{name} is not set, which means {days} days"
        mend = f'DeltaTable("{output.location.uri}").alter.set_table_properties({{"{name}": "{_spelled(window)}"}})'
        yield Finding(WARNING, "retention", output.name, f"{what}; the rollback window is {_days(window)}", mend)


def _spelled(window: timedelta) -> str:
    return f"interval {-(-window.total_seconds() // 3600):.0f} hours"


def _days(window: timedelta) -> str:
    return f"{window.total_seconds() / 86400:g} days"
