"""MERGE through delta-rs, under the same compare-and-set as every other commit."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.table import TableMerger

from pipeline_assets.delta.commit import (
    NO_HOOKS,
    Committed,
    LastWord,
    Proposal,
    once,
    properties_of,
    stands,
    try_commit,
)
from pipeline_assets.delta.partitions import Partition, spell
from pipeline_assets.delta.row_errors import RowsOutside
from pipeline_assets.delta.rows import refuse_partition_value
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import PermanentError

ALL_OF = {
    "deduplicate_insert": ("when_not_matched_insert_all",),
    "update_only": ("when_matched_update_all",),
    "upsert": ("when_matched_update_all", "when_not_matched_insert_all"),
    "replace_and_delete_unmatched": ("when_matched_update_all", "when_not_matched_by_source_delete"),
}
"""The clauses of each kind of merge."""


class MergeRefused(PermanentError):
    """A merge that delta-rs cannot do: a predicate that it does not understand, a row that two others would update."""

    def __init__(self, *, output: str, predicate: str, why: str) -> None:
        self.output = output
        super().__init__(
            f"{output} was not merged by {predicate!r}: {why}. Nothing was written; correct the merge_config, or the rows."
        )


@dataclass(frozen=True)
class Merge:
    """Rows to be merged into some partitions of a table.

    predicate: SQL over both aliases. kind: a key of ALL_OF, or `custom` with clauses: delta-rs's method names, each
    with the arguments of its calls. partitions: the target's rows that may match, or be deleted.
    """

    source: pl.DataFrame
    predicate: str
    kind: str
    partitions: Sequence[Partition]
    source_alias: str | None = None
    target_alias: str | None = None
    clauses: Sequence[tuple[str, dict[str, Any]]] = field(default_factory=tuple)
    error_on_type_mismatch: bool = True

    @property
    def deletes(self) -> bool:
        """Whether rows that the source does not have are deleted."""
        clauses = [clause for clause, _ in self.clauses] if self.kind == "custom" else ALL_OF[self.kind]
        return "when_not_matched_by_source_delete" in clauses

    def only(self, partitions: Sequence[Partition]) -> "Merge":
        """The same for some of the partitions alone."""
        if len(partitions) == len(self.partitions):
            return self
        chosen = self.source.filter(pl.any_horizontal([one.expression() for one in partitions]))
        return replace(self, source=chosen, partitions=partitions)

    def rows(self) -> dict[str, int]:
        """How many rows of the source belong to each partition."""
        return {one.key: self.source.filter(one.expression()).height for one in self.partitions}

    def refuse_outside(self, output: str) -> None:
        """Raise RowsOutside where the source has rows of other partitions, NullPartition where of none."""
        conditions = [one.expression() for one in self.partitions]
        outside = self.source.filter(~pl.any_horizontal(conditions).fill_null(False))
        if outside.height:
            values = outside.select(list(self.partitions[0].columns)).row(0, named=True)
            refuse_partition_value(output, values)
            keys = [one.key for one in self.partitions]
            raise RowsOutside(output=output, partitions=keys, rows=outside.height, values=values)


def try_merge(table: Table, proposal: Proposal, merge: Merge, last_word: LastWord = lambda: None) -> Committed | None:
    """Merge as exactly the version after `table`'s; None where another writer was faster. last_word: as for `try_commit`."""
    delta = DeltaTable(table.location.uri, version=table.version, storage_options=table.location.options)
    try:
        merger = _merger(delta, table, proposal, merge)

        def act() -> None:
            last_word()
            merger.execute()

        committed = once(table, proposal.record, act)
    except DeltaError as error:
        if isinstance(error, CommitFailedError):
            raise
        raise MergeRefused(
            output=proposal.record.output, predicate=merge.predicate, why=str(error).splitlines()[0]
        ) from error
    if committed is not None and not stands(table, committed.version, proposal.record):
        # delta-rs commits nothing where a merge changes nothing; that the chain has merged is to be known all the same.
        return try_commit(table, proposal, last_word)
    return committed


def _merger(delta: DeltaTable, table: Table, proposal: Proposal, merge: Merge) -> TableMerger:
    target = merge.target_alias or "target"
    within = _within(merge.partitions, target)
    merger = delta.merge(
        merge.source.to_arrow(compat_level=pl.CompatLevel.oldest()),
        f"({merge.predicate}) AND {within}" if within else merge.predicate,
        merge.source_alias or "source",
        target,
        error_on_type_mismatch=merge.error_on_type_mismatch,
        commit_properties=properties_of(table, proposal),
        post_commithook_properties=NO_HOOKS,
    )
    for clause, given in merge.clauses if merge.kind == "custom" else [(name, {}) for name in ALL_OF[merge.kind]]:
        arguments = dict(given)
        if within and "by_source" in clause:
            # What the source does not speak of lies in other partitions, too, and those are not ours to touch.
            own = arguments.get("predicate")
            arguments["predicate"] = f"({own}) AND {within}" if own else within
        merger = getattr(merger, clause)(**arguments)
    return merger


def _within(partitions: Sequence[Partition], alias: str) -> str | None:
    """The target's rows of the partitions, as SQL; None for the whole table."""
    choices = []
    for one in partitions:
        if not one.columns:
            return None
        parts = [f'{alias}."{column}" {operator} {_literal(value)}' for column, operator, value in one.literals()]
        choices.append(f"({' AND '.join(parts)})")
    return f"({' OR '.join(choices)})"


def _literal(value: Any) -> str:
    if isinstance(value, (bool, int)):
        return str(value).lower()
    return "'" + str(spell(value)).replace("'", "''") + "'"
