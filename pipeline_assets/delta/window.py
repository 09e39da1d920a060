"""What of a table the rollback window needs: versions that were the newest at some time in it, and their files."""

import re
from collections.abc import Mapping
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
_INTERVAL = re.compile(r"^(?:interval\s+)?(\d+)\s+(week|day|hour|minute|second)s?$", re.IGNORECASE)


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
        length = max(length, _interval(table.delta.metadata().configuration, own))
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
    live = {version for app_id, version in table.txns.items() if (names.parse(app_id) or ("",))[0] == "data"}
    return {version for version in live if version < foreign}


def needed(table: Table, window: Window) -> set[str]:
    """The files, as on disk, that somebody may want: those of now, of live checkpoints, and what came or went since.

    Raises DeltaError where a checkpoint that is live cannot be opened any more.
    """
    found = set(paths_of(table.delta, None))
    for version in covered(table):
        then = DeltaTable(table.location.uri, version=version, storage_options=table.location.options)
        found.update(paths_of(then, None))
    for version in range(window.first + 1, table.version + 1):
        if table.log.commit(version) is not None:
            actions = table.log.actions(version, "add") + table.log.actions(version, "remove")
            found.update(unquote(action["path"]) for action in actions)
    return found


def _interval(configuration: Mapping[str, str | None], name: str) -> timedelta:
    """What a property says, nothing where it is not said, or is no interval of weeks, days, hours, minutes, seconds."""
    found = _INTERVAL.match((configuration.get(name) or "").strip())
    return timedelta(**{f"{found[2].lower()}s": int(found[1])}) if found else timedelta()
