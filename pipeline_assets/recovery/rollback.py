"""Rollback: every table of a plan is brought back, or none is changed, or it can be continued to the end after a crash.

Everything is derived from the plan, which is written down first, and from `plan/ID` in each table's log. All tables are
held before the first is restored; where one is not as the plan says, all are lifted and it is planned again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition

from pipeline_assets import faults
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
from pipeline_assets.recovery.rollback_plan import (
    Asked,
    NotRolledBack,
    OfTable,
    Plan,
    in_table,
    plan_of,
)
from pipeline_assets.recovery.rollback_store import (
    DONE,
    HOLDING,
    LIFTED,
    LIFTING,
    RESTORING,
    Fold,
    Store,
    Stored,
    not_at_its_end,
)
from pipeline_assets.recovery.rollback_targets import refuse_unrestorable
from pipeline_assets.recovery.tables import Handles, NoSuchStage, Outputs, outputs_of, root_of, roots_of

TIMES = 4
"""How often it is planned, where others are at work on what it would change."""


class AnsweredAlready(NotRolledBack):
    """A failure that was rolled back by itself before, and is not a second time."""


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did: its id and the plan that was executed."""

    id: int
    plan: Plan


def roll_back(instance: DagsterInstance, job: JobDefinition, asked: Asked, agreed: Plan | None = None) -> RolledBack:
    """Undo a run, or go back to one. Raises NotRolledBack, NotRestorable, AtWork, NoSuchStage: nothing was changed.

    job: that of the run. agreed: the plan that a person said yes to; refused where it would be another one now. Where it
    raises ChangedUnderHold all is held still, and `continue_` goes on by a person's word.
    """
    outputs = _outputs(instance, job, asked)
    store = _store(outputs, asked, f"{asked.form} {asked.run}")
    with store.locked(f"A rollback ({asked.form} {asked.run})") as found:
        if found.open is not None:
            raise not_at_its_end(found.open)
        _refuse_twice(found, asked)
        return _plan_and_execute(instance, job, asked, outputs, store, agreed)


def _refuse_twice(found: Fold, asked: Asked) -> None:
    """One failure has one rollback by itself. Raises AnsweredAlready."""
    for one in found.plans.values():
        if asked.answers and one.state != LIFTED and one.plan["asked"].get("answers") == asked.answers:
            raise AnsweredAlready(
                f"The failure of run {asked.answers} was answered by rollback {one.id} before. Nothing was changed."
            )


def continue_(instance: DagsterInstance, job: JobDefinition, *, overwrite: bool = False) -> RolledBack:
    """Bring the rollback that a crash has left open to its end; one that had to be lifted is planned again.

    job: one that has its stages. overwrite: what somebody who knows of no holds has written since may go. Raises as
    `roll_back`, and NotRolledBack where there is none.
    """
    outputs = outputs_of(instance, job)
    stored = open_rollback(instance, job)
    if stored is None:
        roots = ", ".join(one.uri for one in roots_of(outputs.values()))
        raise NotRolledBack(f"No rollback below {roots} is open, so there is nothing to continue.")
    plan = Plan.of_json(stored.plan)
    store = _store(outputs, plan.asked, f"{plan.asked.form} {plan.asked.run}")
    missing = {one.stage for one in plan.tables} - outputs.keys()
    if missing:
        raise NoSuchStage(missing, outputs)
    with store.locked(f"A rollback ({plan.asked.form} {plan.asked.run})") as now:
        if now.open is None or now.open.id != stored.id:
            raise NotRolledBack(f"Rollback {stored.id} was brought to its end by somebody else.")
        execution = _Execution(instance, outputs, store, now.open, plan, overwrite)
        if execution.run():
            return RolledBack(stored.id, plan)
        return _plan_and_execute(instance, job, plan.asked, outputs, store)


def open_rollback(instance: DagsterInstance, job: JobDefinition) -> Stored | None:
    """The rollback below the roots of a job's tables that is not at its end."""
    found = (Store(root).read().open for root in roots_of(outputs_of(instance, job).values()))
    return next((one for one in found if one is not None), None)


def _plan_and_execute(
    instance: DagsterInstance,
    job: JobDefinition,
    asked: Asked,
    outputs: Outputs,
    store: Store,
    agreed: Plan | None = None,
) -> RolledBack:
    handles = Handles()
    for time in range(TIMES):
        plan = plan_of(instance, job, asked, handles)
        if time == 0 and agreed is not None and not agreed.does_as(plan):
            raise NotRolledBack(
                f"Run {asked.run} was not rolled back: its tables have changed since the plan was made. Nothing was changed; "
                "look at the plan that there is now."
            )
        for run in _left_over(instance, plan):
            instance.report_run_failed(
                run, "Its process is gone (killed, or its host restarted); marked failed by rollback."
            )
        stored = store.begin(plan.as_json())
        if _Execution(instance, outputs, store, stored, plan, handles=handles).run():
            return RolledBack(stored.id, plan)
    raise NotRolledBack(
        f"Run {asked.run} was not rolled back: others changed its tables each of the {TIMES} times that it was planned. "
        "Nothing was changed; try it again when they are done."
    )


def _left_over(instance: DagsterInstance, plan: Plan) -> list[DagsterRun]:
    """Runs of the plan's chains whose process is gone, and which are to be marked failed."""
    runs = [
        run for chain in plan.fences if (first := instance.get_run_by_id(chain)) for run in runs_of(instance, first)
    ]
    return [run for run in runs if not run.is_finished]


@dataclass
class _Execution:
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


def _outputs(instance: DagsterInstance, job: JobDefinition, asked: Asked) -> Outputs:
    run = instance.get_run_by_id(asked.run)
    return outputs_of(instance, job, run.run_config if run is not None else {})


def _store(outputs: Outputs, asked: Asked, what: str) -> Store:
    """The rollback table, that counts the commits of this rollback for the fault points."""
    chosen: Sequence[Output] = [one for name, one in outputs.items() if asked.takes(name)]
    if not chosen:
        raise NoSuchStage(asked.named or ["at all"], outputs)
    count = 0

    def committed() -> None:
        nonlocal count
        count += 1
        faults.crash(faults.ROLLBACK, str(count), what, "")

    return Store(root_of(chosen), committed)
