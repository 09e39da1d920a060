"""Maintenance of the stages' tables: fewer files, and nothing deleted that the rollback window needs.

Under the root's lock, taken for each table anew, so that a rollback has to wait for one table at most.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from dagster import DagsterInstance, DagsterRunStatus, JobDefinition, RunsFilter
from deltalake.exceptions import DeltaError

from pipeline_assets.chains import chain_of
from pipeline_assets.delta.compaction import Size, compact, size_of, small_files
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.log_cleanup import clean_log
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.delta.vacuum import delete_orphans, vacuum
from pipeline_assets.delta.window import DELETED_FILES, LOG_ENTRIES, Window, covered, written
from pipeline_assets.io.outputs import Output
from pipeline_assets.recovery.rollback_store import AtWork, Store, not_at_its_end
from pipeline_assets.recovery.tables import NoSuchStage, outputs_of, roots_of

_ENDED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
NOTHING = Size(0, 0)


@dataclass(frozen=True)
class Wanted:
    """What is to be done, in which tables (stages' names; none: all). window: how long a version can be rolled back to.

    target: the size (bytes) below which files are compacted. dry_run: it is only said.
    """

    window: timedelta
    compact: bool = True
    checkpoint: bool = True
    vacuum: bool = True
    orphans: bool = True
    clean_log: bool = True
    stages: Sequence[str] = ()
    target: int = 128 * 1024**2
    dry_run: bool = False


@dataclass
class Maintained:
    """What became of a table. done, kept: in words; failed: why something could not be done, where that is to be mended."""

    stage: str
    before: Size = NOTHING
    after: Size = NOTHING
    entries: int = 0
    removed: Size = NOTHING
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: str = ""


def maintain(instance: DagsterInstance, job: JobDefinition, wanted: Wanted) -> list[Maintained]:
    """Maintain the tables that a job's assets are written to.

    Raises NoSuchStage, and AtWork while a rollback is not at its end: nothing was changed.
    """
    outputs = outputs_of(instance, job)
    unknown = set(wanted.stages) - outputs.keys()
    if unknown:
        raise NoSuchStage(unknown, outputs)
    chosen = [outputs[name] for name in sorted(outputs) if not wanted.stages or name in wanted.stages]
    for root in roots_of(chosen):
        found = Store(root).read().open
        if found is not None:
            raise not_at_its_end(found)
    return [_maintain(instance, output, wanted) for output in chosen]


def _maintain(instance: DagsterInstance, output: Output, wanted: Wanted) -> Maintained:
    found = Maintained(output.name)
    table = open_table(output.location)
    if table is None or not table.is_ours:
        found.kept.append("there is no table" if table is None else "its table is somebody else's")
        return found
    found.before = found.after = size_of(table)
    try:
        if wanted.dry_run:
            _work(instance, output, table, wanted, found)
            return found
        with Store(output.settings.root).locked(f"Maintenance of {output.name}") as state:
            if state.open is not None:
                raise not_at_its_end(state.open)
            table.refresh()
            found.before = size_of(table)
            _work(instance, output, table, wanted, found)
            table.refresh()
            found.after = size_of(table)
    except AtWork as error:
        found.kept.append(str(error))
    except (DeltaError, OSError) as error:
        found.failed = f"{type(error).__name__}: {error}".splitlines()[0]
    return found


def _work(instance: DagsterInstance, output: Output, table: Table, wanted: Wanted, found: Maintained) -> None:
    """In an order in which each profits from those before it."""
    if wanted.compact:
        _compact(output, table, wanted, Window.of(table, wanted.window, time.time(), DELETED_FILES), found)
    files = Window.of(table, wanted.window, time.time(), DELETED_FILES)
    if wanted.checkpoint:
        if not wanted.dry_run:
            table.delta.create_checkpoint()
        found.done.append(f"log checkpoint at version {table.version}")
    if wanted.vacuum:
        removed = vacuum(table, files, dry_run=wanted.dry_run)
        _removed(found, removed.size, "vacuumed")
        found.kept += removed.kept
    if wanted.orphans:
        removed = delete_orphans(table, files, set(_chains_at_work(instance)), dry_run=wanted.dry_run)
        _removed(found, removed.size, "that no commit names")
        found.kept += removed.kept
    if wanted.clean_log:
        cleaned = clean_log(table, Window.of(table, wanted.window, time.time(), LOG_ENTRIES), dry_run=wanted.dry_run)
        found.done += [f"{cleaned.entries} log entries deleted"] if cleaned.entries else []
        found.kept += [cleaned.kept] if cleaned.kept else []
    found.entries = len(written(table))


def _compact(output: Output, table: Table, wanted: Wanted, window: Window, found: Maintained) -> None:
    small = small_files(table, wanted.target)
    if small and covered(table):  # theirs would be in one file with ours
        found.kept.append("small files: somebody else has written upon what is live; `adopt` it, or write it again")
        return
    only = None
    if output.mode is Mode.APPEND:  # what a run appended can be taken out only while its files are its own
        young = [one for one in small if one.newest >= window.since]
        small = [one for one in small if one.newest < window.since]
        only = [one.values for one in small]
        if young:
            found.kept.append(f"small files of {len(young)} partitions, appended to within the window")
    if not small:
        return
    said = f"{sum(one.small.files for one in small)} small files of {len(small)} partitions"
    if wanted.dry_run:
        found.done.append(f"{said} compacted")
        return
    fewer = compact(table, wanted.target, output.settings.parquet, only)
    if fewer is None:
        found.kept.append(f"{said}: its writers were faster")
    else:
        found.done.append(f"{said} compacted, {fewer} files fewer")


def _removed(found: Maintained, size: Size, what: str) -> None:
    found.removed = Size(found.removed.files + size.files, found.removed.bytes + size.bytes)
    if size.files:
        found.done.append(f"{size.files} files {what}")


def _chains_at_work(instance: DagsterInstance) -> Iterator[int]:
    """The chains of runs that have not ended; one whose process is gone is among them until somebody says so."""
    statuses = [status for status in DagsterRunStatus if status not in _ENDED]
    for run in instance.get_runs(RunsFilter(statuses=statuses)):
        yield chain_of(instance, run).number
