"""What of a table the rollback window needs: versions that were the newest at some time in it, and their files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import unquote

from deltalake import DeltaTable
from pyarrow import fs

from pipeline_assets.delta import names
from pipeline_assets.delta.log import ENTRY, LOG
from pipeline_assets.delta.partitions import paths_of
from pipeline_assets.delta.table import Table

DELETED_FILES, LOG_ENTRIES = "delta.deletedFileRetentionDuration", "delta.logRetentionDuration"
"""The table's own words on how long files and entries are kept; where they are longer than the window, they count."""
_UNITS = {"week": 604800, "day": 86400, "hour": 3600, "minute": 60, "second": 1, "millisecond": 0.001}
_INTERVAL = re.compile(r"^\s*(?:interval\s+)?(\d+)\s+([a-z]+?)s?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Window:
    """A table's versions from a moment on. since: the moment (s since 1970). first: the version that was the newest then.

    All entries after `first` are in the window. Moments are the storage's: when it says that a file was written.
    """

    since: float
    first: int

    @classmethod
    def of(cls, table: Table, length: timedelta, now: float, own: str) -> "Window":
        """That of a table, at least as long as its property `own` says."""
        said = table.delta.metadata().configuration.get(own)
        length = max(length, (interval(said) if said is not None else None) or timedelta())
        since = now - length.total_seconds()
        older = [version for version, moment in written(table).items() if moment < since and version <= table.version]
        first = max(older, default=min(written(table), default=table.version))
        return cls(since, first)


def written(table: Table) -> dict[int, float]:
    """For each entry that the log has when it was written (s since 1970)."""
    infos = table.location.files.get_file_info(fs.FileSelector(LOG))
    return {int(found[1]): (info.mtime_ns or 0) / 1e9 for info in infos if (found := ENTRY.match(info.base_name))}


def covered(table: Table) -> set[int]:
    """The versions of live checkpoints that somebody else has written upon: readers keep to them, however old they are."""
    foreign = table.last_foreign()
    live = (version for output in table.outputs() for version in table.entries(names.data, output).values())
    return {version for version in live if version < foreign}


def needed(table: Table, window: Window) -> set[str]:
    """The files, as on disk, that somebody may want: those of now, of live checkpoints, and what came or went since.

    Raises DeltaError where a checkpoint that is live cannot be opened any more.
    """
    found = set(paths_of(table.delta, None))
    for version in covered(table):
        then = DeltaTable(table.location.uri, version=version, storage_options=table.location.options)
        found.update(paths_of(then, None))
    inside = (
        version for version in range(window.first + 1, table.version + 1) if table.log.commit(version) is not None
    )
    return found | named(table, inside)


def named(table: Table, versions: Iterable[int]) -> set[str]:
    """The files, as on disk, that the entries of some versions add or remove."""
    return {unquote(action["path"]) for one in versions for action in table.log.actions(one, "add", "remove")}


def interval(said: str) -> timedelta | None:
    """A Delta property as `interval 7 days`; None where it is not understood."""
    found = _INTERVAL.match(said)
    seconds = _UNITS.get(found[2].lower()) if found is not None else None
    return timedelta(seconds=int(found[1]) * seconds) if found is not None and seconds is not None else None
