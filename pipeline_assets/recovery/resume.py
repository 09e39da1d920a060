"""Resume: continue a run chain at the steps that are left."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition
from dagster._core.definitions.job_base import IJob
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.execution.api import create_execution_plan, execute_run

from pipeline_assets.chains import BEGINS_TAG, CONTINUES_TAG, parent_tags
from pipeline_assets.io.unchanged import FORCE_TAG
from pipeline_assets.policy.commands import to_resume
from pipeline_assets.processes import AT_WORK, PLACE_TAG, is_gone, place_of, place_tag
from pipeline_assets.recovery.claims import (
    AlreadyContinued,
    claimed,
    continuation_of,
    continued_by,
    mark_gone,
    next_in_chain,
    refuse_answered,
)
from pipeline_assets.recovery.code_location import OPERATIONS, with_loggers
from pipeline_assets.recovery.executable import executable_for, selected
from pipeline_assets.recovery.plan import LEFT, NotResumable, Plan, record
from pipeline_assets.recovery.planning import StalePlan, full_plan, refuse_stale

__all__ = [
    "AlreadyContinued",
    "NotResumable",
    "Resumed",
    "StalePlan",
    "continuation_of",
    "created",
    "last_run",
    "left_runs",
    "planned",
    "resumable",
    "resume",
]

_ENDED_BADLY = {DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
_RETRIES = ("dagster/auto_retry_run_id", "dagster/failure_reason", "dagster/retry_number", "dagster/will_retry")
_NOT_INHERITED = (".dagster/", "dagster/parent_run_id", "dagster/root_run_id", "dagster/run_key", PLACE_TAG, *_RETRIES)
"""Also what Dagster's `run_retries` notes of one run; by the copy of it the daemon would not try the next one again."""
_PAGE = 20


@dataclass(frozen=True)
class Resumed:
    """What a resume did: the plan, and the run that continued the chain (None: nothing was left to run)."""

    plan: Plan
    run_id: str | None
    success: bool


def left_runs(instance: DagsterInstance) -> Iterator[DagsterRun]:
    """Runs of pipelines that have not ended well, are not at work, and were not continued; newest first."""
    wanted = dg.RunsFilter(statuses=sorted(_ENDED_BADLY | AT_WORK, key=lambda status: status.value))
    cursor: str | None = None
    while runs := instance.get_runs(wanted, cursor, _PAGE):
        for run in runs:
            over = run.status in _ENDED_BADLY or is_gone(instance, run)
            if over and run.job_name not in OPERATIONS and continued_by(instance, run) is None:
                yield run
        cursor = runs[-1].run_id


def last_run(instance: DagsterInstance) -> DagsterRun:
    """The newest run that has not ended well and that nobody is continuing. Raises NotResumable."""
    run = next(left_runs(instance), None)
    if run is None:
        raise NotResumable("No run has failed, so there is nothing to resume. `dagster run list` shows all runs.")
    return run


def resumable(instance: DagsterInstance, run_id: str, *, gone: bool = False, dry: bool = False) -> DagsterRun:
    """The newest run of a run's chain, marked failed (unless dry) if its process is gone. Raises NotResumable.

    One that has succeeded is resumable where a rollback has taken something back since, as only a plan can tell.
    gone: a person knows that it is, where this host cannot tell.
    """
    run = instance.get_run_by_id(run_id)
    if run is None:
        raise NotResumable(
            f"There is no run {run_id} in this Dagster instance. `dagster run list` shows those there are."
        )
    run = newest_of_chain(instance, run)
    if run.status in _ENDED_BADLY or run.status is DagsterRunStatus.SUCCESS:
        return run
    found = is_gone(instance, run)
    if found is None:
        found = gone or None
    if found is False and run.run_id != run_id:
        raise AlreadyContinued(run_id, run.run_id, run.status.value)
    if not found:
        raise NotResumable(_at_work(run, unknown=found is None))
    if not dry:
        mark_gone(instance, run)
    return instance.get_run_by_id(run.run_id) or run


def _at_work(run: DagsterRun, *, unknown: bool) -> str:
    said = f"Run {run.run_id} is {run.status.value}"
    if not unknown:
        return f"{said}. Nothing was changed; wait for its end, or terminate it first."
    place = place_of(run)
    where = f"on host {place.host}" if place is not None else "by a launcher, and has not named its process"
    return (
        f"{said}, {where}, so it cannot be told from here whether it is alive. Nothing was changed; if you know that it is "
        f"gone, `{to_resume(run.run_id, option='--gone')}`."
    )


def resume(
    instance: DagsterInstance,
    run_id: str,
    job: JobDefinition | ReconstructableJob,
    loggers: Mapping[str, Any] | None = None,
    *,
    agreed: Plan | str | None = None,
    recompute: Collection[str] = (),
    config: Mapping[str, Any] | None = None,
    gone: bool = False,
) -> Resumed:
    """Continue the chain of a run: adopt what it committed, run what is left, as the job's executor says.

    job: the job of the run; a reconstructable one where its executor uses other processes. loggers: the `loggers` of
    the run's configuration, where the continued run did not say and the job has such. agreed: the plan (or its id) that is
    to be executed, and no other. recompute: stages, or `changed`, that are made again with what follows from them, by a run
    that begins a chain of its own. config: the run configuration, where it is to be another. gone: as in `resumable`.

    Raises NotResumable, which is AlreadyContinued where somebody else was faster, and StalePlan where the plan is another.
    """
    continued = created(instance, run_id, job, loggers, agreed=agreed, recompute=recompute, config=config, gone=gone)
    if continued.run is None:
        return Resumed(continued.plan, None, True)
    result = execute_run(continued.job, continued.run, instance)
    return Resumed(continued.plan, continued.run.run_id, result.success)


@dataclass(frozen=True)
class Continued:
    """A run that continues a chain and has not begun (None: nothing is left to run), its job and its plan."""

    plan: Plan
    job: IJob
    run: DagsterRun | None


def created(
    instance: DagsterInstance,
    run_id: str,
    job: JobDefinition | ReconstructableJob,
    loggers: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    *,
    elsewhere: bool = False,
    agreed: Plan | str | None = None,
    recompute: Collection[str] = (),
    config: Mapping[str, Any] | None = None,
    gone: bool = False,
) -> Continued:
    """What `resume` executes, with these tags too; elsewhere: not by this process. Raises NotResumable.

    Nothing is changed before the run is claimed.
    """
    run = resumable(instance, run_id, gone=gone, dry=True)
    executable, plan = _planned(instance, run, job, recompute, config)
    refuse_stale(plan, agreed)
    own = with_loggers(executable.get_definition(), plan.config, loggers)

    def create(new_id: str) -> DagsterRun:
        return _create(instance, run, executable, plan, own, new_id, tags or {}, elsewhere=elsewhere)

    made = claimed(instance, run, create) if plan.to_run else None
    _settle(instance, plan)
    return Continued(plan, executable, made)


def planned(
    instance: DagsterInstance,
    run: DagsterRun,
    job: JobDefinition | ReconstructableJob,
    *,
    recompute: Collection[str] = (),
    config: Mapping[str, Any] | None = None,
) -> Plan:
    """What a resume would do, with the same choices; nothing is changed. Raises NotResumable."""
    return _planned(instance, run, job, recompute, config)[1]


def _planned(
    instance: DagsterInstance,
    run: DagsterRun,
    job: JobDefinition | ReconstructableJob,
    recompute: Collection[str],
    config: Mapping[str, Any] | None,
) -> tuple[IJob, Plan]:
    """The job with the run's selection, and the plan."""
    refuse_answered(instance, run)
    executable = executable_for(instance, run, job)
    plan = full_plan(instance, run, executable.get_definition(), recompute=recompute, config=config)
    if run.status is DagsterRunStatus.SUCCESS and not any(step.state == LEFT for step in plan.steps):
        raise NotResumable(
            f"Run {run.run_id} has succeeded, so nothing of its run chain is left. Nothing was changed; a new run makes its "
            "stages again."
        )
    return executable, plan


def _settle(instance: DagsterInstance, plan: Plan) -> None:
    """Mark the chain's runs failed whose process is gone, and record what they committed without an event."""
    for run_id in plan.chain.runs:
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status in AT_WORK:
            mark_gone(instance, run)
    record(instance, plan)


def _create(
    instance: DagsterInstance,
    run: DagsterRun,
    job: IJob,
    plan: Plan,
    config: Mapping[str, Any],
    run_id: str,
    tags: Mapping[str, str],
    *,
    elsewhere: bool,
) -> DagsterRun:
    """The run that continues the chain, with its parent's tags and a plan of the steps that are left."""
    repository = job.repository.get_definition().repository_load_data if isinstance(job, ReconstructableJob) else None
    definition = job.get_definition()
    execution = create_execution_plan(
        job,
        config,
        step_keys_to_execute=plan.to_run,
        known_state=plan.known.update_for_step_selection(plan.to_run),
        tags=run.tags,
        repository_load_data=repository,
    )
    inherited = {name: value for name, value in run.tags.items() if not name.startswith(_NOT_INHERITED)}
    place = {} if elsewhere else place_tag(run_id)
    return instance.create_run_for_job(
        job_def=definition,
        run_id=run_id,
        execution_plan=execution,
        run_config=config,
        tags={**inherited, **parent_tags(run), **place, **_chain_tags(plan), **tags},
        op_selection=run.op_selection,
        asset_selection=selected(instance, run, definition.name),
        resolved_op_selection=run.resolved_op_selection,
        root_run_id=run.root_run_id or run.run_id,
        parent_run_id=run.run_id,
        remote_job_origin=run.remote_job_origin,
        job_code_origin=job.get_python_origin() if isinstance(job, ReconstructableJob) else None,
        repository_load_data=repository,
    )


def _chain_tags(plan: Plan) -> dict[str, str]:
    """Whether the run continues the chain or begins one, and then makes what is unchanged as well."""
    parent = plan.run.run_id
    return {BEGINS_TAG: parent, FORCE_TAG: "by resume --recompute"} if plan.begins else {CONTINUES_TAG: parent}


def newest_of_chain(instance: DagsterInstance, run: DagsterRun) -> DagsterRun:
    """The run that continued the run that continued … a run; itself where nobody has."""
    later = next(next_in_chain(instance, run), None)
    return run if later is None else newest_of_chain(instance, later)
