"""Deleting log entries and checkpoints of a table that neither the rollback window nor its checkpoints need."""

from dataclasses import dataclass

from pipeline_assets.delta.log import CHECKPOINT, ENTRY, LOG
from pipeline_assets.delta.states import made_at, written_at
from pipeline_assets.delta.table import Table
from pipeline_assets.delta.window import Window
from pipeline_assets.errors import describe


@dataclass(frozen=True)
class Cleaned:
    """How many entries were, or would be, deleted, and why older ones than the window's were kept."""

    entries: int
    kept: str = ""


def clean_log(table: Table, window: Window, *, dry_run: bool) -> Cleaned:
    """Delete what is before the oldest entry that is needed, and before the log checkpoint that this one stands on.

    Needed is what a version in the window is opened by, and what tells whose data each partition showed when it began.
    """
    files = table.location.names(LOG)
    oldest, why = _oldest_needed(table, window)
    stands_on = [int(found[1]) for name in files if (found := CHECKPOINT.match(name)) and int(found[1]) <= oldest]
    if not stands_on:
        return Cleaned(0, f"no log checkpoint at or before version {oldest}, which {why}")
    first = max(stands_on)
    entries = sorted(name for name in files if (found := ENTRY.match(name)) and int(found[1]) < first)
    checkpoints = sorted(name for name in files if (found := CHECKPOINT.match(name)) and int(found[1]) < first)
    if not dry_run:  # the oldest first: who dies on the way leaves no gap
        table.location.delete(f"{LOG}/{name}" for name in [*entries, *checkpoints])
    kept = f"entries from version {first} on: version {oldest} {why}" if first < window.first else ""
    return Cleaned(len(entries), kept)


def _oldest_needed(table: Table, window: Window) -> tuple[int, str]:
    """The oldest entry that is needed, and why."""
    oldest, why = window.first, "begins the window"
    for output in table.outputs():
        if table.remembers(output):
            return 0, f"tells the rows of {output}'s runs apart"
        for key, version in written_at(table, output, table.written_partitions(output), window.first).items():
            made = made_at(table, output, key, version)
            if made < oldest:
                oldest, why = made, f"tells whose data {describe(output, key)} shows"
    return oldest, why
