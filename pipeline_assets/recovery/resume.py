"""Resume: continue a run chain at the steps that are left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition
from dagster._core.definitions.job_base import IJob, InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.execution.api import create_execution_plan, execute_run
from dagster._core.execution.plan.state import KnownExecutionState

from pipeline_assets.chains import CONTINUES_TAG, chain_of, parent_tags
from pipeline_assets.errors import PermanentError
from pipeline_assets.processes import is_gone
from pipeline_assets.recovery.plan import Plan, plan_of

_ENDED_BADLY = {DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
_NOT_INHERITED = (".dagster/", "dagster/parent_run_id", "dagster/root_run_id", "dagster/run_key")


class NotResumable(PermanentError):
    """A run that cannot, or need not, be continued; nothing was changed."""


@dataclass(frozen=True)
class Resumed:
    """What a resume did: the plan, and the run that continued the chain (None: nothing was left to run)."""

    plan: Plan
    run_id: str | None
    success: bool


def last_run(instance: DagsterInstance) -> DagsterRun:
    """The newest run that has not ended well. Raises NotResumable."""
    wanted = [*_ENDED_BADLY, DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING]
    runs = instance.get_runs(dg.RunsFilter(statuses=wanted), limit=1)
    if not runs:
        raise NotResumable("No run has failed, so there is nothing to resume. `dagster run list` shows all runs.")
    return runs[0]


def resumable(instance: DagsterInstance, run_id: str) -> DagsterRun:
    """The newest run of a run's chain, marked failed if its process is gone. Raises NotResumable."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        raise NotResumable(
            f"There is no run {run_id} in this Dagster instance. `dagster run list` shows those there are."
        )
    run = _newest_of_chain(instance, run)
    if is_gone(instance, run):
        instance.report_run_failed(run, "Its process is gone (killed, or its host restarted); marked failed by resume.")
        run = instance.get_run_by_id(run.run_id) or run
    if run.status is DagsterRunStatus.SUCCESS:
        raise NotResumable(f"Run {run.run_id} has succeeded, so nothing of its run chain is left. Nothing was changed.")
    if run.status not in _ENDED_BADLY:
        raise NotResumable(
            f"Run {run.run_id} is {run.status.value}. Nothing was changed; wait for its end, or terminate it first."
        )
    return run


def resume(
    instance: DagsterInstance,
    run_id: str,
    job: JobDefinition | ReconstructableJob,
    loggers: Mapping[str, Any] | None = None,
) -> Resumed:
    """Continue the chain of a run: adopt what it committed, run what is left, as the job's executor says.

    job: the job of the run; a reconstructable one where its executor uses other processes. loggers: the `loggers` of
    the run's configuration, where the continued run did not say. Raises NotResumable.
    """
    run = resumable(instance, run_id)
    executable: IJob = InMemoryJob(job) if isinstance(job, JobDefinition) else job
    plan = plan_of(instance, run, executable.get_definition())
    if not plan.to_run:
        return Resumed(plan, None, True)
    config = {**({"loggers": loggers} if loggers else {}), **run.run_config}
    continued = _create(instance, run, executable, plan, config)
    result = execute_run(_subset(executable, run), continued, instance)
    return Resumed(plan, continued.run_id, result.success)


def _create(instance: DagsterInstance, run: DagsterRun, job: IJob, plan: Plan, config: Mapping[str, Any]) -> DagsterRun:
    """The run that continues the chain, with its parent's tags and a plan of the steps that are left."""
    subset = _subset(job, run)
    repository = job.repository.get_definition().repository_load_data if isinstance(job, ReconstructableJob) else None
    known = KnownExecutionState.build_for_reexecution(instance, run)
    execution = create_execution_plan(
        subset,
        config,
        step_keys_to_execute=plan.to_run,
        known_state=known.update_for_step_selection(plan.to_run),
        tags=run.tags,
        repository_load_data=repository,
    )
    inherited = {name: value for name, value in run.tags.items() if not name.startswith(_NOT_INHERITED)}
    return instance.create_run_for_job(
        job_def=subset.get_definition(),
        execution_plan=execution,
        run_config=config,
        tags={**inherited, **parent_tags(run), CONTINUES_TAG: run.run_id},
        op_selection=run.op_selection,
        asset_selection=run.asset_selection,
        resolved_op_selection=run.resolved_op_selection,
        root_run_id=run.root_run_id or run.run_id,
        parent_run_id=run.run_id,
        job_code_origin=job.get_python_origin() if isinstance(job, ReconstructableJob) else None,
        repository_load_data=repository,
    )


def _subset(job: IJob, run: DagsterRun) -> IJob:
    if run.asset_selection:
        return job.get_subset(asset_selection=run.asset_selection)
    return job.get_subset(op_selection=run.op_selection) if run.op_selection else job


def _newest_of_chain(instance: DagsterInstance, run: DagsterRun) -> DagsterRun:
    for child in instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run.run_id})):
        if run.run_id in chain_of(instance, child).runs:
            return _newest_of_chain(instance, child)
    return run
