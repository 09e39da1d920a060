"""Rollback: every table of a plan is brought back, or none is changed, or it can be continued to the end after a crash.

The plan is written down first; where a table is not as it says, all are lifted and it is planned again.
"""

from dataclasses import dataclass

from dagster import DagsterInstance, DagsterRun, JobDefinition

from pipeline_assets import faults
from pipeline_assets.chains import runs_of
from pipeline_assets.recovery.rollback_execution import Execution
from pipeline_assets.recovery.rollback_plan import Asked, NotRolledBack, Plan
from pipeline_assets.recovery.rollback_planning import plan_of
from pipeline_assets.recovery.rollback_store import LIFTED, Fold, Store, Stored, not_at_its_end
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
        execution = Execution(instance, outputs, store, now.open, plan, overwrite)
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
        if Execution(instance, outputs, store, stored, plan, handles=handles).run():
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


def _outputs(instance: DagsterInstance, job: JobDefinition, asked: Asked) -> Outputs:
    run = instance.get_run_by_id(asked.run)
    return outputs_of(instance, job, run.run_config if run is not None else {})


def _store(outputs: Outputs, asked: Asked, what: str) -> Store:
    """The rollback table, that counts the commits of this rollback for the fault points."""
    chosen = [one for name, one in outputs.items() if asked.takes(name)]
    if not chosen:
        raise NoSuchStage(asked.named or ["at all"], outputs)
    count = 0

    def committed() -> None:
        nonlocal count
        count += 1
        faults.crash(faults.ROLLBACK, str(count), what, "")

    return Store(root_of(chosen), committed)
