"""A rollback's plan on its way to its end, from wherever a crash has left it.

Everything is derived from the plan, and from `plan/ID` in each table's log. All tables are held before the first is restored;
where one is not as the plan says, all are lifted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from dagster import DagsterInstance, DagsterRunStatus

from pipeline_assets.chains import runs_of
from pipeline_assets.delta import restore as commits
from pipeline_assets.delta.commit import Deadline
from pipeline_assets.delta.restorable import NotRestorable, TargetGone, refuse_vacuum
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.errors import DamagedTable
from pipeline_assets.io.hearing import hear
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.recovery.rollback_events import tell
from pipeline_assets.recovery.rollback_plan import NotRolledBack, OfTable, Plan, in_table
from pipeline_assets.recovery.rollback_store import DONE, HOLDING, LIFTED, LIFTING, RESTORING, Store, Stored
from pipeline_assets.recovery.rollback_targets import refuse_unrestorable
from pipeline_assets.recovery.tables import Handles, Outputs


@dataclass
class Execution:
    """A plan on its way."""

    instance: DagsterInstance
    outputs: Outputs
    store: Store
    stored: Stored
    plan: Plan
    overwrite: bool = False
    handles: Handles = field(default_factory=Handles)

    def run(self) -> bool:
        """To the end; False where all had to be lifted. Raises ChangedUnderHold, NotRestorable, NotRolledBack."""
        state = self.stored.state
        if state == HOLDING:
            held = all(self._each(self._hold))
            refused = self._refused() if held else None
            state = RESTORING if held and refused is None else LIFTING
            self._advance(HOLDING, state)
            if refused is not None:
                self._lift_all()
                raise refused
        elif state == RESTORING and not self.overwrite and (refused := self._refused()) and self._turns_back():
            raise refused
        if state == RESTORING and not self._restore_all():
            state = LIFTING
        if state == LIFTING:
            self._lift_all()
            return False
        for one in self.plan.tables:
            at_once = self.stored.state == HOLDING
            tell(self.instance, self.outputs[one.stage], one, self._table(one), self.stored.id, at_once=at_once)
        self.store.advance(self.stored.id, RESTORING, DONE)
        return True

    def _restore_all(self) -> bool:
        """Each table in the plan's order; False where all is to be lifted. Raises ChangedUnderHold, NotRestorable."""
        try:
            self._each(self._restore)
        except commits.Lifted:
            self._advance(RESTORING, LIFTING)
            return False
        except NotRestorable as error:
            if self._turns_back():
                raise
            raise TargetGone(table=error.table, why=error.why, rollback=self.stored.id) from error
        return True

    def _turns_back(self) -> bool:
        """Lift all, where no table is back yet.

        The first one's log decides it for all processes that are at work on this: whoever restores begins there, and stops
        where it was lifted.
        """
        first = self.plan.tables[0]
        self._lift(first, self.outputs[first.stage], self._table(first))
        table = self._table(first)
        if commits.step_of(table, in_table(self.stored.id, self.plan, first, self.outputs[first.stage], table)) == (
            commits.RESTORED
        ):
            return False
        self._advance(RESTORING, LIFTING)
        self._lift_all()
        return True

    @cached_property
    def unsure(self) -> set[str]:
        """The chains of which an event may have been lost: one whose runs have succeeded has sent them all."""
        return {chain for chain in self.plan.fences if not _told_all(self.instance, chain)}

    def _advance(self, before: str, after: str) -> None:
        if not self.store.advance(self.stored.id, before, after):
            raise NotRolledBack(
                f"Rollback {self.stored.id} is continued by another process; `pipeline-assets rollback --continue`."
            )

    def _each(self, act: Callable[[OfTable, Output, Table], bool]) -> list[bool]:
        """Do it with each table, until one says False."""
        done = []
        for one in self.plan.tables:
            done.append(act(one, self.outputs[one.stage], self._table(one)))
            if not done[-1]:
                break
        return done

    def _table(self, one: OfTable) -> Table:
        """A stage's table at its newest version."""
        table = self.handles.newest(self.outputs[one.stage])
        if table is None:
            raise DamagedTable(table=one.uri, why=f"it was dropped while rollback {self.stored.id} was at work on it")
        return table

    def _hold(self, one: OfTable, output: Output, table: Table) -> bool:
        """Nothing is taken back that the event log has not heard of."""
        live: dict[str, Live] = {}
        for entry in one.entries:
            found = table.live(output.name, entry.partition)
            if found is not None and found.part is not None and found.part.chain in self.unsure:
                live[entry.partition] = found
        hear(self.instance, output, table, live)
        rollback = in_table(self.stored.id, self.plan, one, output, table)
        before = commits.step_of(table, rollback)
        try:
            held = commits.hold(table, rollback, Deadline(output.settings.commit_seconds))
        except TimeoutError:
            return False
        if held and before == 0:
            self.store.after_commit()
        return held

    def _refused(self) -> NotRestorable | None:
        """Whether what is to be brought back is gone by now."""
        try:
            for one in self.plan.tables:
                table, output = self._table(one), self.outputs[one.stage]
                changing = [entry for entry in one.entries if entry.expected is not None]
                if changing:
                    refuse_vacuum(table)
                    wanted = output.wanted([entry.partition for entry in changing])
                    refuse_unrestorable(table, changing, partitions_among(wanted, table.schema, output.name))
        except NotRestorable as error:
            return error
        return None

    def _restore(self, one: OfTable, output: Output, table: Table) -> bool:
        rollback = in_table(self.stored.id, self.plan, one, output, table)
        deadline = Deadline(output.settings.commit_seconds)
        if commits.restore(table, rollback, deadline, overwrite=self.overwrite) is not None:
            self.store.after_commit()
        return True

    def _lift(self, one: OfTable, output: Output, table: Table) -> bool:
        rollback = in_table(self.stored.id, self.plan, one, output, table)
        if commits.lift(table, rollback, Deadline(output.settings.commit_seconds)) is not None:
            self.store.after_commit()
        return True

    def _lift_all(self) -> None:
        self._each(self._lift)
        self.store.advance(self.stored.id, LIFTING, LIFTED)


def _told_all(instance: DagsterInstance, chain: str) -> bool:
    first = instance.get_run_by_id(chain)
    return first is not None and all(run.status is DagsterRunStatus.SUCCESS for run in runs_of(instance, first))
