"""Deleting files that no version in the rollback window names, and that nobody is about to commit."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from pyarrow import fs

from pipeline_assets.delta.commit import Deadline, Proposal, commit_when
from pipeline_assets.delta.compaction import Size
from pipeline_assets.delta.files import attempt_of, data_folders
from pipeline_assets.delta.log import LOG
from pipeline_assets.delta.record import VACUUM, VACUUMED, Record
from pipeline_assets.delta.restorable import vacuum_at_work
from pipeline_assets.delta.table import Table
from pipeline_assets.delta.window import Window, needed, written

DEAD_SECONDS = 86_400.0
"""So long after its beginning somebody else's VACUUM is dead that has not ended."""
SECONDS = 60.0
"""How long the commits of a VACUUM are tried."""


@dataclass(frozen=True)
class Removed:
    """What was, or would be, deleted, and why other files were kept."""

    size: Size
    kept: tuple[str, ...] = ()


def vacuum(table: Table, window: Window, *, dry_run: bool) -> Removed:
    """Delete the files that were removed before the window, between two commits that tell readers and rollbacks of it.

    delta-rs's own would clean up the log as well, by the table's properties, and takes a file that was removed, brought
    back and removed again for one that was removed long ago. The root's lock is held: one that has no end is dead.
    """
    began = vacuum_at_work(table)
    if (
        began is not None
        and table.record_at(began) is None
        and written(table).get(began, 0) > time.time() - DEAD_SECONDS
    ):
        return Removed(
            Size(0, 0), (f"what was removed: somebody else's VACUUM began at version {began} and has not ended",)
        )
    dead, size = _there(table, _removed(table) - needed(table, window))
    if dry_run or not (dead or began is not None):
        return Removed(size)
    commit_when(table, lambda now: Proposal(Record(VACUUM, "", now.id)), Deadline(SECONDS))
    table.location.delete(dead)
    commit_when(table, lambda now: Proposal(Record(VACUUMED, "", now.id)), Deadline(SECONDS))
    return Removed(size)


def delete_orphans(table: Table, window: Window, at_work: Collection[int], *, dry_run: bool) -> Removed:
    """Delete data files that the log does not name, of attempts that died before they committed.

    at_work: the chains of runs that may commit still. Younger than the window, or of one of these: it stays.
    """
    known = needed(table, window) | _removed(table)
    dead: dict[str, int] = {}
    young = working = 0
    for path, info in _data_files(table).items():
        if path in known:
            continue
        owner = attempt_of(info.base_name)
        if (info.mtime_ns or 0) / 1e9 >= window.since:
            young += 1
        elif owner is not None and owner[0] in at_work:
            working += 1
        else:
            dead[path] = info.size or 0
    if not dry_run:
        table.location.delete(dead)
    kept = [
        f"{count} files without a commit {what}"
        for count, what in ((young, "younger than the window"), (working, "of runs at work"))
        if count
    ]
    return Removed(Size(len(dead), sum(dead.values())), tuple(kept))


def _removed(table: Table) -> set[str]:
    """The files that the log says were removed, as far as it still says so."""
    return set(table.delta.vacuum(0, dry_run=True, enforce_retention_duration=False))


def _data_files(table: Table) -> dict[str, fs.FileInfo]:
    """Parquet files where data files of the table may lie; a folder in it that is no partition's is not looked into."""
    found = {}
    for folder in data_folders(table):
        for info in table.location.files.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            if info.type == fs.FileType.File and info.base_name.endswith(".parquet"):
                found[f"{folder}/{info.base_name}".lstrip("/")] = info
    return {path: info for path, info in found.items() if not path.startswith(LOG)}


def _there(table: Table, paths: set[str]) -> tuple[list[str], Size]:
    """Of some files those that are there: the log speaks of removed ones long after they have gone."""
    infos = table.location.files.get_file_info(sorted(paths)) if paths else []
    there = [info for info in infos if info.is_file]
    return [info.path for info in there], Size(len(there), sum(info.size or 0 for info in there))
