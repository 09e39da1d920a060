"""The plan of a resume as a person sees it: why each step is run or kept, how long that takes, what it was made from."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition

from pipeline_assets.policy.commands import to_resume
from pipeline_assets.recovery.chain_tables import is_overtaken
from pipeline_assets.recovery.changed import changed_since, code_versions
from pipeline_assets.recovery.durations import usual_seconds
from pipeline_assets.recovery.overtaken import forecast
from pipeline_assets.recovery.plan import (
    AGAIN,
    LEFT,
    NotResumable,
    Plan,
    StepState,
    plan_of,
    unresolved,
)
from pipeline_assets.recovery.step_log import StepLog, step_logs

CHANGED = "changed"
"""Among the stages that are to be made again: those that other code or configuration made."""
UNDONE, REMOVED = "undone by a rollback", "its table was removed"


class StalePlan(NotResumable):
    """A plan that was agreed to and is not what would be done now; nothing was changed."""

    def __init__(self, run_id: str, agreed: str, now: str) -> None:
        self.agreed, self.now = agreed, now
        super().__init__(
            f"The plan {agreed} of run {run_id} is stale: what it was made from has changed (a run, a table, the code, the "
            f"configuration), and the plan is {now} now. Nothing was changed; `{to_resume(run_id, option='--dry-run')}` "
            "shows it."
        )


def full_plan(
    instance: DagsterInstance,
    run: DagsterRun,
    job: JobDefinition,
    *,
    recompute: Collection[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Plan:
    """What a resume of a run, the newest of its chain, would do, and all that is to be said of it.

    recompute: stages (their keys, or `changed`) that are to be made again though they are finished, with what follows from
    them. Raises NotResumable.
    """
    plan = plan_of(instance, run, job, config)
    logs = step_logs(instance, plan.chain)
    steps = [_told(instance, plan, job, step, logs.get(step.key, StepLog())) for step in plan.steps]
    plan = _again(instance, forecast(instance, replace(plan, steps=steps), job), recompute)
    seconds = usual_seconds(instance, run.job_name, plan.to_run)
    plan = replace(
        plan, steps=[replace(one, seconds=seconds.get(one.key)) if one.is_run else one for one in plan.steps]
    )
    if plan.begins:  # a chain of its own keeps nothing
        plan = replace(plan, steps=[replace(one, keeps=()) for one in plan.steps])
    return replace(plan, made_from=_digest(plan, job))


def refuse_stale(plan: Plan, agreed: "Plan | str | None") -> None:
    """Raise StalePlan where a plan, or its id, was agreed to and is not this one."""
    wanted = agreed.made_from if isinstance(agreed, Plan) else agreed
    if wanted is not None and wanted != plan.made_from:
        raise StalePlan(plan.run.run_id, wanted, plan.made_from)


def _told(instance: DagsterInstance, plan: Plan, job: JobDefinition, step: StepState, log: StepLog) -> StepState:
    why = "" if not step.is_run else UNDONE if step.undone else REMOVED if step.removed else log.why
    made = None if step.is_run else log.made or _committed_at(step)
    return replace(step, why=why, made=made, changed=changed_since(instance, plan, job, step, log))


def _committed_at(step: StepState) -> float | None:
    """When the attempt began that committed a step whose end nobody told, in seconds."""
    moments = [live.part.attempt for one in step.committed for live in one.live.values() if live.part is not None]
    return max(moments) / 1000 if moments else None


def _again(instance: DagsterInstance, plan: Plan, recompute: Collection[str]) -> Plan:
    """The plan, in which some steps are made again, by a chain of its own, and all finished ones that follow from them.

    They follow as well from what was undone or removed. Not what is not replaced by that: rows that are appended or merged
    would stay. A chain of its own knows nothing of what this one has read and written. Where that counts still, what follows
    from what was undone stays as it is, to be refreshed; raises NotResumable where it was removed or asked for.
    """
    names = set(recompute) - {CHANGED}
    unknown = names - {name for step in plan.steps for name in (step.key, *step.name.split(", "))}
    if unknown:
        raise NotResumable(
            f"The run chain of {plan.run.run_id} has no stage {', '.join(sorted(unknown))}; it has "
            f"{', '.join(step.name for step in plan.steps)}. Nothing was changed; name one of those, or `changed`."
        )
    steps: list[StepState] = []
    remade: dict[str, str] = {}
    asked_for = False
    above = plan.execution.get_all_step_deps()
    for step in plan.steps:
        after = next((remade[one] for one in sorted(above[unresolved(step.key)]) if one in remade), None)
        asked = bool(names & {step.key, *step.name.split(", ")})
        why = "asked for" if asked else f"made by other {' and '.join(step.changed)}" if step.changed else ""
        wanted = not step.is_run and (asked or (CHANGED in recompute and bool(step.changed)))
        if wanted or (not step.is_run and after and not step.stays_by):
            steps.append(replace(step, state=AGAIN, why=why or f"follows from {after}", made=None))
        elif not step.is_run and after and step.versions:
            steps.append(replace(step, why=f"mode {step.stays_by}: stays, though it was made from {after}"))
        else:
            steps.append(step)
        asked_for |= wanted or step.removed
        if steps[-1].state == AGAIN or step.removed or step.undone:
            remade[unresolved(step.key)] = step.name
    found = replace(plan, steps=steps)
    counts = _still_counts(instance, found) if found.begins else None
    if counts is None:
        return found
    if asked_for:
        raise NotResumable(
            f"What is to be made again would be a run chain of its own, in which {counts} is not what it was for run "
            f"{plan.run.run_id}: newer runs have overtaken it, or it is added to a table. Nothing was changed; "
            f"`{to_resume(plan.run.run_id)}` continues the run without making anything again, or start a new run."
        )
    return replace(plan, steps=[_left_as_it_is(old, new) for old, new in zip(plan.steps, steps, strict=True)])


def _still_counts(instance: DagsterInstance, plan: Plan) -> str | None:
    """A step for which it matters that it is this chain that goes on; None where there is none."""
    above = plan.execution.get_all_step_deps()
    read = {one for step in plan.steps if step.is_run for one in above[unresolved(step.key)]}
    for step in plan.steps:
        if step.state == LEFT and step.needs_its_chain:
            return step.name
        read_by_some = not step.is_run and unresolved(step.key) in read
        if read_by_some and any(is_overtaken(instance, plan.chain, one) for one in step.committed):
            return step.name
    return None


def _left_as_it_is(before: StepState, after: StepState) -> StepState:
    """A step that would be made again, and is not; what it says where the chain's own data is there."""
    if after.state != AGAIN:
        return after
    return (
        replace(before, why=f"{after.why}, which was undone: it stays until a refresh") if before.versions else before
    )


def _digest(plan: Plan, job: JobDefinition) -> str:
    """Of what the plan follows from; not of how long it takes, nor of whether a dead run is marked as such by now."""
    steps: Sequence[Any] = [
        [step.key, step.state, sorted(step.versions.items()), step.changed, [vars(one) for one in step.keeps]]
        for step in plan.steps
    ]
    code = [[key, sorted(above)] for key, above in plan.execution.get_all_step_deps().items()]
    said = {
        "runs": plan.chain.runs,
        "succeeded": plan.run.status is DagsterRunStatus.SUCCESS,
        "steps": steps,
        "code": [sorted(code), sorted(code_versions(job, plan.execution).items())],
        "config": plan.config,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]
