"""The commits of a rollback in one table: hold, then restore, or lift (PROTOCOL.md, "A rollback").

Each is decided anew at every try, and none is made twice: `plan/ID` in the table's log says how far it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deltalake import Schema
from deltalake.transaction import AddAction, RemoveAction

from pipeline_assets.delta import names
from pipeline_assets.delta.commit import Committed, Deadline, Proposal, commit_when
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.files import remove_of
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.record import Part, Record, chain_id
from pipeline_assets.delta.restorable import ChangedUnderHold, NotRestorable, adds, before, refuse_gone
from pipeline_assets.delta.table import Table

HELD, RESTORED, LIFTED = 1, 2, 3


class Lifted(Exception):
    """What was to be restored was lifted by another process that is at work on the same rollback."""


@dataclass(frozen=True)
class Target:
    """What becomes of one partition.

    expected: the checkpoint that is live now; None where the chain that is undone has nothing live there. undone: the
    chain's checkpoints of the partition, live or replaced. back_to: the version at which the partition's files are as
    they shall be; None with an expected checkpoint: to nothing. take_out: of a partition that is appended to, the files
    (paths) of what is undone, where those of others stay. part: whose checkpoint is the newest of what is left.
    """

    partition: Partition
    expected: Name | None
    undone: tuple[Name, ...] = ()
    back_to: int | None = None
    part: Part | None = None
    take_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollback:
    """A rollback in one table. fences: chain → the attempts below it that may not commit any more.

    seen: the version that it was planned at; since then the chains must have committed nothing. schema, table_id: of the
    table then (None: they are not looked at).
    """

    id: int
    output: str
    targets: Sequence[Target]
    fences: Mapping[int, int] = field(default_factory=dict)
    mode: Mode = Mode.OVERWRITE
    seen: int | None = None
    schema: str | None = None
    table_id: str | None = None

    @property
    def plan(self) -> str:
        """The entry that says how far it is."""
        return names.plan(self.id)


def step_of(table: Table, rollback: Rollback) -> int:
    """How far a rollback is in a table: 0, HELD, RESTORED, LIFTED."""
    return table.txns.get(rollback.plan, 0)


def hold(table: Table, rollback: Rollback, deadline: Deadline) -> bool:
    """Make all writers of the partitions wait. False, and nothing is done, where a partition is not as expected.

    A hold of another rollback is never overwritten. Done already: True. Raises TimeoutError.
    """
    as_expected = True

    def propose(now: Table) -> Proposal | None:
        nonlocal as_expected
        if step_of(now, rollback) != 0:
            as_expected = step_of(now, rollback) in (HELD, RESTORED)
            return None
        as_expected = _same_table(now, rollback) and all(
            _as_expected(now, rollback, target)
            and not _committed_since(now, rollback, target)
            and _free(now, rollback, target)
            for target in rollback.targets
        )
        if not as_expected:
            return None
        holds = {names.hold(rollback.output, target.partition.key): rollback.id for target in rollback.targets}
        return Proposal(_record(now, rollback, "hold"), txns={**holds, **_fences(now, rollback), rollback.plan: HELD})

    _commit(table, propose, deadline)
    return as_expected


def restore(table: Table, rollback: Rollback, deadline: Deadline, *, overwrite: bool = False) -> Committed | None:
    """Put the partitions back, in one commit; None where that is done.

    What somebody adopted since it was held stays as it is. overwrite: a person's word that what somebody who knows of no
    holds has written since may go, else it raises ChangedUnderHold; and that nothing is left where a file of a target is
    gone, else it raises NotRestorable. Raises Lifted, TimeoutError.
    """

    def propose(now: Table) -> Proposal | None:
        if step_of(now, rollback) == RESTORED:
            return None
        if step_of(now, rollback) == LIFTED:
            raise Lifted
        changed = [one for one in rollback.targets if one.expected is not None and not _adopted(now, rollback, one)]
        for target in [] if overwrite else changed:
            if not _as_expected(now, rollback, target):
                raise ChangedUnderHold(
                    table=now.location.uri,
                    output=rollback.output,
                    partition=target.partition.key,
                    rollback=rollback.id,
                )
        changed = [_or_nothing(now, one) for one in changed] if overwrite else changed
        actions, schema = _actions(now, changed)
        return Proposal(_record(now, rollback, "restore", changed), actions, _entries(now, rollback, changed), schema)

    return _commit(table, propose, deadline)


def lift(table: Table, rollback: Rollback, deadline: Deadline) -> Committed | None:
    """Give the partitions free without a change; the fences stay. None where it is done, or was restored."""

    def propose(now: Table) -> Proposal | None:
        if step_of(now, rollback) in (RESTORED, LIFTED):
            return None
        holds = [names.hold(rollback.output, target.partition.key) for target in rollback.targets]
        own = {entry: 0 for entry in holds if now.txns.get(entry, 0) == rollback.id}
        return Proposal(_record(now, rollback, "lift"), txns={**own, rollback.plan: LIFTED})

    return _commit(table, propose, deadline)


def _commit(table: Table, propose: Callable[[Table], Proposal | None], deadline: Deadline) -> Committed | None:
    """Log checkpoints are left to the next who writes: tables are held, and people wait."""
    return commit_when(table, propose, deadline, log_checkpoint=False)


def _same_table(table: Table, rollback: Rollback) -> bool:
    same_schema = rollback.schema is None or rollback.schema == table.schema.to_json()
    return same_schema and (rollback.table_id is None or rollback.table_id == table.id)


def _as_expected(table: Table, rollback: Rollback, target: Target) -> bool:
    name = _live_name(table, rollback, target)
    if target.expected is None:
        return name is None or name not in target.undone or name in table.undone()
    if name != target.expected:
        return False
    if target.take_out:
        return set(target.take_out) <= set(table.paths([target.partition]))
    live = table.txns[names.data(rollback.output, target.partition.key)]
    return table.foreign_between(target.partition, live, table.version) is None


def _live_name(table: Table, rollback: Rollback, target: Target) -> Name | None:
    key = target.partition.key
    live = table.live(rollback.output, key)
    return live.part.name(rollback.output, key) if live is not None and live.part is not None else None


def _committed_since(table: Table, rollback: Rollback, target: Target) -> bool:
    """Whether a chain that is undone has committed to the partition since the plan; True also where nobody can tell."""
    if rollback.seen is None:
        return False
    for version in range(rollback.seen + 1, table.version + 1):
        commit = table.log.commit(version)
        if commit is None:
            return True
        record = commit.record
        if record is None or record.output != rollback.output or record.kind == "restore":
            continue
        part = record.parts.get(target.partition.key)
        if part is not None and chain_id(part.chain) in rollback.fences:
            return True
    return False


def _adopted(table: Table, rollback: Rollback, target: Target) -> bool:
    """Whether a person has adopted what is in the partition since it was held."""
    live = table.live(rollback.output, target.partition.key)
    record = table.record_at(live.version) if live is not None else None
    return record is not None and record.kind == "adopt" and _live_name(table, rollback, target) != target.expected


def _free(table: Table, rollback: Rollback, target: Target) -> bool:
    return table.txns.get(names.hold(rollback.output, target.partition.key), 0) in (0, rollback.id)


def _fences(table: Table, rollback: Rollback) -> dict[str, int]:
    """Fences only rise."""
    return {
        names.fence(chain): max(attempt, table.txns.get(names.fence(chain), 0))
        for chain, attempt in rollback.fences.items()
    }


def _entries(table: Table, rollback: Rollback, changed: Sequence[Target]) -> dict[str, int]:
    entries = {rollback.plan: RESTORED}
    for target in rollback.targets:
        key = target.partition.key
        entries[names.hold(rollback.output, key)] = 0
        if target in changed:
            entries[names.data(rollback.output, key)] = table.version + 1
            entries[names.chain(rollback.output, key)] = (
                target.part.name(rollback.output, key).chain if target.part else 0
            )
        entries.update({_undone(name): rollback.id for name in target.undone})
        if rollback.mode is not Mode.OVERWRITE:
            entries.update({names.member(name.output, key, name.chain): 0 for name in target.undone})
    return entries


def _or_nothing(table: Table, target: Target) -> Target:
    """The target, or nothing where it is gone."""
    try:
        if target.back_to is not None and not target.take_out:
            refuse_gone(table, target.back_to, [target.partition])
    except NotRestorable:
        return replace(target, back_to=None, part=None)
    return target


def _undone(name: Name) -> str:
    return names.undone(name.output, name.partition, name.chain, name.attempt)


def _record(table: Table, rollback: Rollback, kind: str, changed: Sequence[Target] = ()) -> Record:
    parts = {one.partition.key: one.part for one in changed}
    undone = tuple(name for one in rollback.targets for name in one.undone) if kind == "restore" else ()
    return Record(kind, rollback.output, table.id, parts, rollback.mode, undone, rollback.id)


def _actions(table: Table, targets: Sequence[Target]) -> tuple[list[AddAction | RemoveAction], Schema | None]:
    """What turns the partitions' files into those of their target versions; files that are in both stay.

    With the columns of then where the whole table goes back to other ones: all its files are replaced then.
    """
    taken = [path for target in targets for path in target.take_out]
    actions: list[AddAction | RemoveAction] = [remove_of(path) for path in sorted(taken)]
    rest = [target for target in targets if not target.take_out]
    for version in sorted({target.back_to for target in rest}, key=lambda one: -1 if one is None else one):
        partitions = [target.partition for target in rest if target.back_to == version]
        now = set(table.paths(partitions))
        then = before(table, version, partitions) if version is not None else None
        files = then.files if then is not None else {}
        if then is not None and then.schema is not None:
            return list(adds(table, files, ())), then.schema
        actions += [remove_of(path) for path in sorted(now - set(files))]
        actions += adds(table, files, now)
    return actions, None
