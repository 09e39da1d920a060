"""The commits of a rollback in one table: hold, then restore, or lift (PROTOCOL.md, "A rollback").

Each is decided anew at every try, and none is made twice: `plan/ID` in the table's log says how far it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from pipeline_assets.delta import names
from pipeline_assets.delta.commit import Committed, Deadline, Proposal, commit_when
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.files import remove_of
from pipeline_assets.delta.partitions import Partition, spell
from pipeline_assets.delta.record import Part, Record
from pipeline_assets.delta.stats import add_stats
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import DamagedTable, ForeignData, PermanentError

HELD, RESTORED, LIFTED = 1, 2, 3


class NotRestorable(PermanentError):
    """A state that a table cannot go back to; nothing was changed."""

    def __init__(self, *, table: str, why: str) -> None:
        self.table = table
        super().__init__(f"The Delta table {table} was not rolled back: {why}. Nothing in it was changed.")


@dataclass(frozen=True)
class Target:
    """What becomes of one partition.

    expected: the checkpoint that is live now; None where the chain that is undone has nothing live there. undone: the
    chain's checkpoints of the partition, live or replaced. back_to: the version at which the partition's files are as
    they shall be, and whose checkpoint that is; None with an expected checkpoint: to nothing.
    """

    partition: Partition
    expected: Name | None
    undone: tuple[Name, ...] = ()
    back_to: int | None = None
    part: Part | None = None


@dataclass(frozen=True)
class Rollback:
    """A rollback in one table. fences: chain → the attempts below it that may not commit any more."""

    id: int
    output: str
    targets: Sequence[Target]
    fences: Mapping[int, int] = field(default_factory=dict)
    mode: Mode = Mode.OVERWRITE

    @property
    def plan(self) -> str:
        """The entry that says how far it is."""
        return names.plan(self.id)


def hold(table: Table, rollback: Rollback, deadline: Deadline) -> bool:
    """Make all writers of the partitions wait. False, and nothing is done, where a partition is not as expected.

    A hold of another rollback is never overwritten. Done already: True. Raises TimeoutError.
    """
    as_expected = True

    def propose(now: Table) -> Proposal | None:
        nonlocal as_expected
        if now.txns.get(rollback.plan, 0) != 0:
            as_expected = now.txns[rollback.plan] in (HELD, RESTORED)
            return None
        as_expected = all(
            _as_expected(now, rollback.output, target) and _free(now, rollback, target) for target in rollback.targets
        )
        if not as_expected:
            return None
        holds = {names.hold(rollback.output, target.partition.key): rollback.id for target in rollback.targets}
        return Proposal(_record(now, rollback, "hold"), txns={**holds, **_fences(now, rollback), rollback.plan: HELD})

    commit_when(table, propose, deadline)
    return as_expected


def restore(table: Table, rollback: Rollback, deadline: Deadline) -> Committed | None:
    """Put the partitions back, in one commit; None where that is done.

    Raises ForeignData where somebody who knows of no holds has written since, NotRestorable where a file is gone, and
    TimeoutError.
    """

    def propose(now: Table) -> Proposal | None:
        if now.txns.get(rollback.plan, 0) == RESTORED:
            return None
        changed = [target for target in rollback.targets if target.expected is not None]
        for target in rollback.targets:
            if not _as_expected(now, rollback.output, target):
                raise ForeignData(
                    table=now.location.uri,
                    why=f"{target.partition.key} was changed by somebody else while rollback {rollback.id} held it",
                )
        actions = _actions(now, changed)
        return Proposal(_record(now, rollback, "restore"), actions, _entries(now, rollback))

    return commit_when(table, propose, deadline)


def lift(table: Table, rollback: Rollback, deadline: Deadline) -> Committed | None:
    """Give the partitions free without a change; the fences stay. None where it is done, or was restored."""

    def propose(now: Table) -> Proposal | None:
        step = now.txns.get(rollback.plan, 0)
        if step in (RESTORED, LIFTED):
            return None
        holds = [names.hold(rollback.output, target.partition.key) for target in rollback.targets]
        own = {entry: 0 for entry in holds if now.txns.get(entry, 0) == rollback.id}
        return Proposal(_record(now, rollback, "lift"), txns={**own, rollback.plan: LIFTED})

    return commit_when(table, propose, deadline)


def _as_expected(table: Table, output: str, target: Target) -> bool:
    live = table.live(output, target.partition.key)
    name = live.part.name(output, target.partition.key) if live is not None and live.part is not None else None
    if target.expected is None:
        return name is None or name not in target.undone or name in table.undone()
    if live is None or name != target.expected:
        return False
    return table.foreign_between(target.partition, live.version, table.version) is None


def _free(table: Table, rollback: Rollback, target: Target) -> bool:
    return table.txns.get(names.hold(rollback.output, target.partition.key), 0) in (0, rollback.id)


def _fences(table: Table, rollback: Rollback) -> dict[str, int]:
    """Fences only rise."""
    return {
        names.fence(chain): max(attempt, table.txns.get(names.fence(chain), 0))
        for chain, attempt in rollback.fences.items()
    }


def _entries(table: Table, rollback: Rollback) -> dict[str, int]:
    entries = {rollback.plan: RESTORED}
    for target in rollback.targets:
        key = target.partition.key
        entries[names.hold(rollback.output, key)] = 0
        if target.expected is not None:
            entries[names.data(rollback.output, key)] = table.version + 1
            entries[names.chain(rollback.output, key)] = (
                target.part.name(rollback.output, key).chain if target.part else 0
            )
        if rollback.mode is not Mode.OVERWRITE:
            entries.update({names.member(name.output, key, name.chain): 0 for name in target.undone})
    return entries


def _record(table: Table, rollback: Rollback, kind: str) -> Record:
    parts = (
        {one.partition.key: one.part for one in rollback.targets if one.expected is not None}
        if kind == "restore"
        else {}
    )
    undone = tuple(name for one in rollback.targets for name in one.undone) if kind == "restore" else ()
    return Record(kind, rollback.output, table.id, parts, rollback.mode, undone, rollback.id)


def _actions(table: Table, targets: Sequence[Target]) -> list[AddAction | RemoveAction]:
    """What turns the partitions' files into those of their target versions; files that are in both stay."""
    actions: list[AddAction | RemoveAction] = []
    for version in sorted({target.back_to for target in targets}, key=lambda one: -1 if one is None else one):
        partitions = [target.partition for target in targets if target.back_to == version]
        now = set(table.paths(partitions))
        then = {} if version is None else _files_at(table, version, partitions)
        actions += [remove_of(path) for path in sorted(now - set(then))]
        actions += [_add_of(table, path, values) for path, values in sorted(then.items()) if path not in now]
    return actions


def _files_at(table: Table, version: int, partitions: Sequence[Partition]) -> dict[str, dict[str, str | None]]:
    """The files of the partitions at a version, each with its partition values as the log spells them."""
    try:
        delta = DeltaTable(table.location.uri, version=version, storage_options=table.location.options)
    except DeltaError as error:
        raise NotRestorable(
            table=table.location.uri, why=f"version {version} is not there any more ({error})"
        ) from error
    old = Table(table.location, delta)
    if old.schema.to_json() != table.schema.to_json():
        raise NotRestorable(table=table.location.uri, why=f"its columns are not those of version {version}")
    columns = old.partition_columns
    wanted = set(old.paths(partitions))
    found = {}
    for row in pa.table(delta.get_add_actions(flatten=True)).to_pylist():
        path = unquote(row["path"])
        if path in wanted:
            found[path] = {column: spell(row[f"partition.{column}"]) for column in columns}
    if set(found) != wanted:
        raise DamagedTable(table=table.location.uri, why=f"version {version} names files that its log does not list")
    return found


def _add_of(table: Table, path: str, values: dict[str, str | None]) -> AddAction:
    info = table.location.files.get_file_info(path)
    if not info.is_file:
        raise NotRestorable(table=table.location.uri, why=f"its file {path} was vacuumed")
    footer = pq.read_metadata(path, filesystem=table.location.files)
    moment = (info.mtime_ns or 0) // 1_000_000
    return AddAction(path, info.size, values, moment, data_change=True, stats=add_stats(footer))
