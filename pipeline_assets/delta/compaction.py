"""Making one file of many small ones, partition by partition: OPTIMIZE, which is no change of data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from deltalake import CommitProperties, DeltaTable, WriterProperties
from deltalake.exceptions import CommitFailedError

from pipeline_assets.delta.commit import NO_HOOKS, Proposal, once, properties_of
from pipeline_assets.delta.files import Compression, ParquetOptions
from pipeline_assets.delta.partitions import files_of
from pipeline_assets.delta.record import Record
from pipeline_assets.delta.table import Table

CLEAN_UP = "delta.enableExpiredLogCleanup"
TRIES = 5
"""How often a compaction is begun anew where writers of the table were faster."""
Values = Mapping[str, Any]
_COMPRESSION: Mapping[Compression, Any] = {name: name.upper() for name in get_args(Compression)}
"""As delta-rs spells it."""


@dataclass(frozen=True)
class Size:
    """Active files of a table, or some of them."""

    files: int
    bytes: int


@dataclass(frozen=True)
class Small:
    """A partition with several small files. newest: when the newest of all its files was written (s since 1970)."""

    values: Values
    small: Size
    newest: float


def size_of(table: Table) -> Size:
    """All active files."""
    sizes = [row["size_bytes"] for row in files_of(table.delta)]
    return Size(len(sizes), sum(sizes))


def small_files(table: Table, target: int) -> list[Small]:
    """The partitions with more than one file below a target size (bytes), which a compaction would make fewer."""
    by_partition: dict[str, tuple[Values, list[dict[str, Any]]]] = {}
    for row in files_of(table.delta):
        values: Values = {column: row[f"partition.{column}"] for column in table.partition_columns}
        by_partition.setdefault(json.dumps(values, default=str), (values, []))[1].append(row)
    found = []
    for values, rows in by_partition.values():
        sizes = [row["size_bytes"] for row in rows if row["size_bytes"] < target]
        if len(sizes) > 1:
            newest = max(row["modification_time"] for row in rows) / 1000
            found.append(Small(values, Size(len(sizes), sum(sizes)), newest))
    return found


def compact(table: Table, target: int, options: ParquetOptions, only: Sequence[Values] | None = None) -> int | None:
    """Compact a table, or some of its partitions; how many files fewer there are. None: writers were faster.

    Each commit is tried at exactly the version after the one that was looked at, as all of ours are.
    """
    before = size_of(table).files
    for values in only if only is not None else [None]:
        if not _compact(table, target, options, values):
            return None
    table.refresh()
    return before - size_of(table).files


def _compact(table: Table, target: int, options: ParquetOptions, values: Values | None) -> bool:
    filters = None if values is None else [(column, "=", str(value)) for column, value in values.items()]
    for _ in range(TRIES):
        table.refresh()
        if not _keeps_its_log(table):
            continue
        try:
            table.delta.optimize.compact(
                partition_filters=filters or None,
                target_size=target,
                writer_properties=WriterProperties(compression=_COMPRESSION[options.compression]),
                commit_properties=CommitProperties(max_commit_retries=0),
                post_commithook_properties=NO_HOOKS,
            )
        except CommitFailedError:
            continue
        return True
    return False


def _keeps_its_log(table: Table) -> bool:
    """Let delta-rs's OPTIMIZE not clean up the log, which it does whatever its hooks are told; False: another was faster.

    A table whose properties say something of it stays as they say.
    """
    if CLEAN_UP in table.delta.metadata().configuration:
        return True
    record = Record("properties", "", table.id)
    delta = DeltaTable(table.location.uri, version=table.version, storage_options=table.location.options)

    def act() -> None:
        delta.alter.set_table_properties({CLEAN_UP: "false"}, commit_properties=properties_of(table, Proposal(record)))

    stands = once(table, record, act) is not None
    table.refresh()
    return stands
