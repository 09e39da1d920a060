"""What recovers by itself: definitions for a code location, so that its daemon does what `on_failure` says.

`recovery_definitions()` has all of it: `dg.Definitions.merge(my_definitions, recovery_definitions())`.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
from dagster import DagsterRun, DagsterRunStatus, RunRecord
from dagster._core.definitions.reconstruct import ReconstructableJob
from pydantic import Field

from pipeline_assets.errors import ConfigurationError, PipelineAssetsError
from pipeline_assets.policy.commands import located, module_of
from pipeline_assets.policy.policies import no_backoff
from pipeline_assets.processes import AT_WORK, is_gone
from pipeline_assets.recovery.claims import continued_by
from pipeline_assets.recovery.code_location import QUIET, RECOVERY_JOB
from pipeline_assets.recovery.endings import mark_ended
from pipeline_assets.recovery.failure_report import four_lines
from pipeline_assets.recovery.on_failure import ACTIONS, MOST_TIMES, RESUME, OnFailure
from pipeline_assets.recovery.plan import NotResumable
from pipeline_assets.recovery.recovering import (
    ANSWERS_TAG,
    Jobs,
    NotRecovered,
    continuing,
    job_name_of,
    on_failure_of,
    recoveries,
    that_died,
    undo,
    why_not,
)
from pipeline_assets.recovery.rollback_store import AtWork
from pipeline_assets.recovery.supervising import Stop, executed
from pipeline_assets.recovery.tables import assets_planned

LOOK_BACK = timedelta(days=1)
"""A failure that nobody has acted on for so long is a person's."""
TICK_SECONDS = 30
MOST_DEATHS = 3
"""How many recoveries of one failure may be killed before it is a person's."""
_AGAIN, _AGAIN_SECONDS = 10, 60.0
"""How often, and how long after, a rollback is tried again that met another one at work."""
_PAGE = 100


class Recovery(dg.Config):
    """What `recovery_job` is to do."""

    run_id: str = Field(description="The failed run. It stays failed; what recovers it is told in the event log.")
    action: str = Field(
        description="`resume`: continue it, in a run of its own. `rollback`: undo what its run chain committed. "
        "`rollback_failed`: undo only what the stages that failed committed, and those downstream of them."
    )


def recovery_definitions(*, status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING) -> dg.Definitions:
    """`recovery_sensor`, `stuck_run_sensor` and `recovery_job`, for a code location whose pipelines say `on_failure`.

    status: of the sensors, until somebody switches them in the UI.
    """
    job = recovery_job()
    return dg.Definitions(jobs=[job], sensors=[recovery_sensor(job, status), stuck_run_sensor(status)])


def recovery_job(jobs: Jobs | None = None) -> dg.JobDefinition:
    """The job whose runs recover. jobs: of which code location; else of the one in which it runs."""

    @dg.op(description="Resumes a failed run, or rolls it back; see its configuration.", out=dg.Out(dg.Nothing))
    def recover(context: dg.OpExecutionContext, config: Recovery) -> None:
        try:
            said = _recover(context.instance, config, jobs or _own_jobs(context))
        except AtWork as error:
            wait = 0.0 if no_backoff() else _AGAIN_SECONDS
            raise dg.RetryRequested(max_retries=_AGAIN, seconds_to_wait=wait) from error
        except NotRecovered as error:
            said = str(error)
        except PipelineAssetsError as error:
            raise dg.Failure(located(str(error), module_of(context.run)), allow_retries=False) from error
        said = located(said, module_of(context.run))
        context.log.info(said)
        context.add_output_metadata({"failed run": dg.MetadataValue.dagster_run(config.run_id), "what was done": said})

    @dg.job(
        name=RECOVERY_JOB,
        description="Recovers a run that has failed, as its pipeline's `on_failure` says.",
        executor_def=dg.in_process_executor,
    )
    def recovering() -> None:
        recover()

    return recovering


def recovery_tags(run_id: str) -> dict[str, str]:
    """The tags of a run of `recovery_job`: which failure it answers."""
    return {ANSWERS_TAG: run_id}


def recovery_config(run_id: str, action: str) -> dict[str, Any]:
    """The configuration of a run of `recovery_job`."""
    return {"ops": {"recover": {"config": {"run_id": run_id, "action": action}}}}


def _own_jobs(context: dg.OpExecutionContext) -> Jobs:
    """The jobs of the code location that a run is of; reconstructable ones where that run's is."""
    own = context.get_step_execution_context().job
    if not isinstance(own, ReconstructableJob):
        return context.repository_def.get_job
    repository = own.repository
    return repository.get_reconstructable_job


def _recover(instance: dg.DagsterInstance, config: Recovery, jobs: Jobs) -> str:
    """Do it; what was done. Raises ConfigurationError, NotRecovered, and what refuses it."""
    run = instance.get_run_by_id(config.run_id)
    if run is None or config.action not in ACTIONS:
        what = f"no run {config.run_id}" if run is None else f"no action {config.action}, only {', '.join(ACTIONS)}"
        raise ConfigurationError(f"There is {what}. Nothing was changed; mend the configuration.")
    policy = OnFailure(config.action, times=MOST_TIMES)  # whether it is to be, who asked has seen
    if config.action != RESUME:
        return undo(instance, run, jobs, policy).said
    job = jobs(job_name_of(run))
    try:
        continued = continuing(instance, run, job, policy, QUIET)
    except NotResumable:
        later = continued_by(instance, run)
        if later is None:
            raise
        return f"Run {later.run_id} continues it already. Nothing was changed."
    stop = Stop()
    with stop.listening():
        ended = executed(instance, continued, stop)
    if ended is None:
        return "Nothing of it was left to run."
    if ended.is_success:
        return f"Run {ended.run_id} has continued it, and succeeded."
    four = four_lines(instance, ended, job, module_of(ended))
    return "\n".join([f"Run {ended.run_id} has continued it, and ended {ended.status.value}.", *four])


def recovery_sensor(
    job: dg.JobDefinition, status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING
) -> dg.SensorDefinition:
    """The sensor that asks for a run of `recovery_job` for each failure that is to be acted on."""

    @dg.sensor(
        name="recovery_sensor",
        job=job,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=status,
        description="Recovers failed runs whose pipeline says `on_failure`, in runs of recovery_job.",
    )
    def recovering(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        requests = list(_due(context))
        yield from requests
        if not requests:
            yield dg.SkipReason("No failed run is to be recovered now.")

    return recovering


def _due(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """A request for each failure that is to be acted on now."""
    instance, repository = context.instance, context.repository_def
    if repository is None:
        return
    for record in _failed(instance):
        run = record.dagster_run
        if not _is_of(context, repository, run):
            continue
        try:
            policy = on_failure_of(instance, repository, run)
        except ConfigurationError as error:
            context.log.warning(str(error))
            continue
        asked_for = asked_before(instance, run) if policy is not None else None
        if policy is None or asked_for is None:
            continue
        if why_not(instance, run, policy, repository.get_job(job_name_of(run))) is not None:
            continue
        ended = record.end_time or record.update_timestamp.timestamp()
        if time.time() >= ended + policy.wait_before(recoveries(instance, run), run.run_id):
            config = recovery_config(run.run_id, policy.action)
            key = f"{run.run_id}/{asked_for}" if asked_for else run.run_id
            yield dg.RunRequest(run_key=key, run_config=config, tags=recovery_tags(run.run_id))


def _failed(instance: dg.DagsterInstance) -> Iterator[RunRecord]:
    """The runs that have failed lately, newest first."""
    since = datetime.now(timezone.utc) - LOOK_BACK
    wanted = dg.RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=since)
    cursor: str | None = None
    while records := instance.get_run_records(wanted, limit=_PAGE, cursor=cursor):
        yield from records
        cursor = records[-1].dagster_run.run_id


def _is_of(context: dg.SensorEvaluationContext, repository: dg.RepositoryDefinition, run: DagsterRun) -> bool:
    """Whether a run is of the sensor's code location: it says so, or the location has its job and its assets."""
    name = job_name_of(run)
    if not repository.has_job(name):
        return False
    mine, its = context.code_location_origin, run.remote_job_origin
    if mine is None or its is None:
        of_job = repository.get_job(name).asset_layer.executable_asset_keys
        return assets_planned(context.instance, run) <= set(of_job)
    return its.repository_origin.code_location_origin.location_name == mine.location_name


def asked_before(instance: dg.DagsterInstance, run: DagsterRun) -> int | None:
    """How many recoveries of a failure were asked for, all of which died at it; None where no other is to be."""
    answers = instance.get_runs(dg.RunsFilter(tags={ANSWERS_TAG: run.run_id}), limit=MOST_DEATHS + 1)
    died = that_died(instance, run) if answers else []
    return len(died) if len(died) == len(answers) < MOST_DEATHS else None


def stuck_run_sensor(status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING) -> dg.SensorDefinition:
    """The sensor that marks runs failed whose process is gone."""

    @dg.sensor(
        name="stuck_run_sensor",
        minimum_interval_seconds=TICK_SECONDS,
        default_status=status,
        description="Marks runs failed whose process is gone, where this host can tell, so that others hear of it.",
    )
    def looking(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        found = mark_stuck(context.instance)
        return dg.SkipReason(f"Marked failed: {', '.join(found)}" if found else "No run is stuck.")

    return looking


def mark_stuck(instance: dg.DagsterInstance) -> list[str]:
    """Mark all runs failed, or cancelled where that was asked for, whose process is gone; their ids."""
    marked = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(AT_WORK))):
        if not is_gone(instance, run):
            continue
        why = "Its process is gone (killed, or its host restarted); marked {} by stuck_run_sensor."
        if mark_ended(instance, run, why.format("failed"), why.format("cancelled")):  # else it had ended by itself
            marked.append(run.run_id)
    return marked
