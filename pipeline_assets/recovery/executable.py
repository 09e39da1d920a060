"""The job that continues a run: with the run's selection, in this process or in those of its executor."""

from dagster import AssetKey, DagsterInstance, DagsterRun, JobDefinition
from dagster._core.definitions.executor_definition import in_process_executor
from dagster._core.definitions.job_base import IJob, InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.errors import DagsterInvalidSubsetError

from pipeline_assets.recovery.plan import NotResumable


def executable_for(instance: DagsterInstance, run: DagsterRun, job: JobDefinition | ReconstructableJob) -> IJob:
    """The job with the run's selection; in this process where other processes could not load it. Raises NotResumable."""
    whole: IJob = (
        job if isinstance(job, ReconstructableJob) else InMemoryJob(job.with_executor_def(in_process_executor))
    )
    assets = selected(instance, run, whole.get_definition().name)
    try:
        if assets:
            return whole.get_subset(asset_selection=assets)
        return whole.get_subset(op_selection=run.op_selection) if run.op_selection else whole
    except DagsterInvalidSubsetError as error:
        raise _refuse_other_assets(error, run) from error


def selected(instance: DagsterInstance, run: DagsterRun, job_name: str) -> frozenset[AssetKey] | None:
    """The assets that a run selected; of a run whose own job is gone (`dg.materialize`'s) those that it planned."""
    if run.asset_selection or run.job_name == job_name or run.execution_plan_snapshot_id is None:
        return None if run.asset_selection is None else frozenset(run.asset_selection)
    snapshot = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    keys = {output.properties.asset_key for step in snapshot.steps for output in step.outputs if output.properties}
    return frozenset(key for key in keys if key is not None)


def _refuse_other_assets(error: DagsterInvalidSubsetError, run: DagsterRun) -> NotResumable:
    """Why a run's selection is none of the job's."""
    return NotResumable(
        f"Run {run.run_id} of {run.job_name} selected what the code location does not have: {str(error).splitlines()[0]} "
        "Nothing was changed; name the run's own code location (-m MODULE), or start a new run."
    )
