"""What a commit of an attempt says: its record, its entries in the table's log, its file actions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import polars as pl
from deltalake import Schema

from pipeline_assets.delta import names
from pipeline_assets.delta.commit import Proposal
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.files import DataFile, remove_of
from pipeline_assets.delta.merge import Merge
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.record import Part, Record
from pipeline_assets.delta.table import Table
from pipeline_assets.io.foreign import ignored_by
from pipeline_assets.io.merge_config import MergeType
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.steps import Read, Step

READS = "reads"
"""In a merge's notes: for each input the partitions that were read."""
MADE_BY = "stage"
"""In a stage's notes: code version, configuration and fingerprint that it was made with."""
WHICH = "read"
"""In the notes of a stage that has no partitions: which partitions of each input it read."""
FOREIGN_REPLACED, FOREIGN_UNDER = "replaced_foreign_version", "on_top_of_foreign_version"
FOREIGN_IGNORED = "ignored_foreign_changes"


def part_of(step: Step, output: Output, rows: int, key: str, table: Table | None, one: Partition | None = None) -> Part:
    """The checkpoint of one partition, in rows that the function returned for it."""
    return Part(
        chain=step.attempt.chain.first,
        attempt=step.attempt.number,
        pins=step.pins,
        rows=rows,
        rows_in=rows,
        run=step.attempt.run_id,
        notes=_notes(step, output, key, table, one),
    )


def entries(step: Step, output: Output, keys: Sequence[str], version: int) -> dict[str, int]:
    """The `txn` entries of a commit at a version that makes some partitions live."""
    chain = step.attempt.chain.number
    found: dict[str, int] = {}
    for key in keys:
        found[names.data(output.name, key)] = version
        found[names.chain(output.name, key)] = chain
        if output.mode is not Mode.OVERWRITE:
            found[names.member(output.name, key, chain)] = version
    return found


def creation(step: Step, output: Output, filed: Mapping[str, list[DataFile]], keys: Sequence[str]) -> Proposal:
    """The first version of a table, with its data."""
    parts = {key: part_of(step, output, _rows(filed[key]), key, None) for key in keys}
    record = Record("write", output.name, "", parts, output.mode)
    adds = [file.add for key in keys for file in filed[key]]
    return Proposal(record, adds, entries(step, output, keys, 0), custom=output.custom_metadata)


def empty_creation(step: Step, output: Output) -> Proposal:
    """The first version of a table that is appended to or merged into: version 0 could not name a member (0: undone)."""
    record = Record("create", output.name, "", mode=output.mode)
    return Proposal(record, txns={names.fence(step.attempt.chain.number): step.attempt.number})


def write(
    step: Step,
    output: Output,
    table: Table,
    partitions: Sequence[Partition],
    filed: Mapping[str, list[DataFile]],
    changed: Schema | None = None,
) -> Proposal:
    """The next version of a table: the files of these partitions replaced, or appended to.

    changed: another schema for the whole table, all of whose files are replaced.
    """
    keys = [one.key for one in partitions]
    adds = [file.add for key in keys for file in filed[key]]
    parts = {one.key: part_of(step, output, _rows(filed[one.key]), one.key, table, one) for one in partitions}
    record = Record("write", output.name, table.id, parts, output.mode)
    proposal = Proposal(record, adds, entries(step, output, keys, table.version + 1), custom=output.custom_metadata)
    if changed is not None:
        return replace(proposal, schema=changed)
    if output.mode is Mode.APPEND:
        return proposal
    return replace(proposal, actions=[*adds, *map(remove_of, table.paths(partitions))])


def merged(step: Step, output: Output, table: Table, merge: Merge) -> Proposal:
    """The next version of a table, by a merge."""
    rows = merge.rows()
    parts = {one.key: part_of(step, output, rows[one.key], one.key, table, one) for one in merge.partitions}
    record = Record("write", output.name, table.id, parts, Mode.MERGE)
    return Proposal(record, txns=entries(step, output, list(rows), table.version + 1), custom=output.custom_metadata)


def merge_of(output: Output, source: pl.DataFrame, partitions: Sequence[Partition]) -> Merge:
    """The merge that an output asks for. Raises ConfigurationError, RowsOutside."""
    config = output.merge
    merge = Merge(
        source,
        config.predicate or "",
        config.merge_type.value,
        partitions,
        config.source_alias,
        config.target_alias,
        clauses_of(output),
        config.error_on_type_mismatch,
    )
    merge.refuse_outside(output.name)
    return merge


def clauses_of(output: Output) -> list[tuple[str, dict[str, object]]]:
    """The clauses of a custom merge, in the order in which delta-rs takes them."""
    operations = output.merge.merge_operations_config
    if operations is None:
        return []
    return [
        (clause, one.model_dump(exclude_none=True))
        for clause in type(operations).model_fields
        for one in getattr(operations, clause) or ()
    ]


def names_its_columns(output: Output) -> bool:
    """Whether a merge says of each column what becomes of it, so that its source may have others than the table."""
    return output.merge.merge_type is MergeType.custom and not any("_all" in clause for clause, _ in clauses_of(output))


def which(reads: Mapping[str, Read], key: str) -> dict[str, str]:
    """Which partitions of each input are read for a partition and there, as a hash: one that is there no more is a change.

    Of several that are made at once each is made from all that is read, unless each reads the one of its own key.
    """
    found = {}
    for name, read in reads.items():
        written = set(read.table.written_partitions(read.output.name)) if read.table.is_ours else set(read.keys)
        there = sorted(written & set([key] if read.own_key else read.keys))
        found[name] = blake2b("\0".join(there).encode(), digest_size=8).hexdigest()
    return found


def _rows(files: Sequence[DataFile]) -> int:
    return sum(file.rows for file in files)


def _notes(step: Step, output: Output, key: str, table: Table | None, one: Partition | None) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    if step.made_by is not None:
        notes[MADE_BY] = dict(step.made_by(key))
        notes[WHICH] = which(step.reads, key)
    ignored = {name: found for name, read in step.reads.items() if (found := ignored_by(read, key))}
    if ignored:
        notes[FOREIGN_IGNORED] = ignored
    if output.mode is Mode.MERGE:
        notes[READS] = {name: read.keys for name, read in step.reads.items()}
    if table is not None and one is not None:
        version = table.txns.get(names.data(output.name, key))
        foreign = table.foreign_between(one, version, table.version) if version is not None else None
        if foreign is not None:
            notes[FOREIGN_REPLACED if output.mode is Mode.OVERWRITE else FOREIGN_UNDER] = foreign.version
    return notes
