"""What a failure sets off, where its pipeline says so: whether at all, when, and doing it, once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster import (
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    JobDefinition,
    RepositoryDefinition,
    RunsFilter,
)
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from pipeline_assets.chains import chain_of
from pipeline_assets.errors import PermanentError
from pipeline_assets.recovery.claims import continued_by
from pipeline_assets.recovery.code_location import ANY_ASSETS, EPHEMERAL, OPERATIONS, RECOVERY_JOB
from pipeline_assets.recovery.failure_report import failed_steps
from pipeline_assets.recovery.on_failure import ON_FAILURE_TAG, RESUME, ROLLBACK, OnFailure, of_tags
from pipeline_assets.recovery.refresh import REFRESHES_TAG, Refreshed, refresh
from pipeline_assets.recovery.resume import Continued, created
from pipeline_assets.recovery.rollback import AnsweredAlready, RolledBack, continue_, roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked, Plan
from pipeline_assets.recovery.rollback_planning import NothingToUndo
from pipeline_assets.recovery.rollback_store import ENDED, LIFTED, Store, Stored, not_lifted
from pipeline_assets.recovery.rollback_targets import LIVE
from pipeline_assets.recovery.tables import assets_by_step, assets_planned, outputs_of, roots_of, with_downstream

ANSWERS_TAG = "pipeline_assets/answers"
"""Of a run that a failure has set off: the id of the failed run."""

Job = JobDefinition | ReconstructableJob
Jobs = Callable[[str], Job]
"""The jobs of a code location by name."""


class NotRecovered(PermanentError):
    """A failure that is not acted on by itself, since somebody else does, or nobody is to; nothing was changed."""


@dataclass(frozen=True)
class Undone:
    """What became of a rollback that a failure set off: None where there was nothing to undo, or it was done before."""

    said: str
    rollback: RolledBack | None = None
    refreshed: Refreshed | None = None


def on_failure_of(instance: DagsterInstance, repository: RepositoryDefinition, run: DagsterRun) -> OnFailure | None:
    """What the pipeline of a run says; None for nothing. Raises ConfigurationError where its tags make no sense.

    The run's own tags, else its job's. A run of Dagster's job of all assets is of the smallest job with such tags that has
    all of its assets.
    """
    if ON_FAILURE_TAG in run.tags:
        return of_tags(run.tags, f"run {run.run_id}")
    if run.job_name != ANY_ASSETS:
        job = repository.get_job(run.job_name) if repository.has_job(run.job_name) else None
        return _of_job(job)
    assets = assets_planned(instance, run)
    having = [
        job
        for job in repository.get_all_jobs()
        if ON_FAILURE_TAG in job.run_tags and assets and assets <= set(job.asset_layer.executable_asset_keys)
    ]
    return _of_job(
        min(having, key=lambda job: (len(set(job.asset_layer.executable_asset_keys)), job.name), default=None)
    )


def _of_job(job: JobDefinition | None) -> OnFailure | None:
    return of_tags(job.run_tags, f"job {job.name}") if job is not None and ON_FAILURE_TAG in job.run_tags else None


def recoveries(instance: DagsterInstance, run: DagsterRun) -> int:
    """How often the chain of a run, up to it, was continued by itself."""
    runs = (instance.get_run_by_id(run_id) for run_id in chain_of(instance, run).runs)
    # A re-execution inherits tags, so one counts where it names the run that it continues.
    return sum(one is not None and one.tags.get(ANSWERS_TAG, "") == one.parent_run_id for one in runs)


def why_not(instance: DagsterInstance, run: DagsterRun, policy: OnFailure, job: JobDefinition) -> str | None:
    """Why a run's end is not acted on by itself; None where it is. job: that of the run."""
    if run.status is not DagsterRunStatus.FAILURE:
        return f"it is {run.status.value}"
    if run.job_name in OPERATIONS or REFRESHES_TAG in run.tags:
        return "it was a recovery itself"
    if instance.run_retries_enabled and run.remote_job_origin is not None and run.tags.get(WILL_RETRY_TAG) == "true":
        return "Dagster tries it again, as run_retries says"
    if AUTO_RETRY_RUN_ID_TAG in run.tags:
        return f"run {run.tags[AUTO_RETRY_RUN_ID_TAG]} has tried it again, as run_retries says"
    later = continued_by(instance, run)
    if later is not None:
        return f"run {later.run_id} continues it, or has made it again"
    if policy.action == RESUME and (done := recoveries(instance, run)) >= policy.times:
        return f"its chain was continued {done} times already"
    return undone_since(instance, run, job)


def that_died(instance: DagsterInstance, run: DagsterRun) -> list[DagsterRun]:
    """The runs of recovery_job that a failure has set off and that died: they failed, and no step of theirs says of what."""
    wanted = RunsFilter(job_name=RECOVERY_JOB, tags={ANSWERS_TAG: run.run_id}, statuses=[DagsterRunStatus.FAILURE])
    failures = DagsterEventType.STEP_FAILURE
    return [one for one in instance.get_runs(wanted) if not instance.all_logs(one.run_id, of_type=failures)]


def undone_since(
    instance: DagsterInstance, run: DagsterRun, job: JobDefinition, *, also_unfinished: bool = False
) -> str | None:
    """Whether a rollback that was begun after the run's end takes its chain back: then somebody has answered.

    But for one that the failure set off itself, where who was at work on it died: there something is left to be done.
    also_unfinished: that one counts, too.
    """
    record = instance.get_run_record_by_id(run.run_id)
    if record is None:
        return "it was deleted"
    ended, chain = int(1000 * (record.end_time or record.update_timestamp.timestamp())), chain_of(instance, run).first
    for one in not_lifted(roots_of(outputs_of(instance, job, run.run_config).values())):
        if one.id < ended or chain not in one.plan["fences"]:
            continue
        own = one.plan["asked"].get("answers") == run.run_id
        if also_unfinished or not own or not that_died(instance, run):
            return f"rollback {one.id} has answered it"
    return None


def _begun(instance: DagsterInstance, run: DagsterRun, job: JobDefinition) -> Stored | None:
    """The rollback that a failure has set off already, by a recovery that died at it or after it."""
    if not that_died(instance, run):
        return None
    stores = (Store(root).read() for root in roots_of(outputs_of(instance, job, run.run_config).values()))
    plans = [one for found in stores for one in found.plans.values() if one.state != LIFTED]
    return next((one for one in plans if one.plan["asked"].get("answers") == run.run_id), None)


def continuing(
    instance: DagsterInstance, run: DagsterRun, job: Job, policy: OnFailure, loggers: Mapping[str, Any] | None = None
) -> Continued:
    """The run that continues a failed one by itself, made and not begun. Raises NotRecovered, NotResumable."""
    _refuse(instance, run, policy, _definition(job))
    made = created(instance, run.run_id, job, loggers, tags={ANSWERS_TAG: run.run_id})
    if made.run is not None and made.run.parent_run_id != run.run_id:
        instance.delete_run(made.run.run_id)  # it has not begun
        raise NotRecovered(f"Run {run.run_id} was continued in this moment, and not by this one. Nothing was changed.")
    return made


def undo(instance: DagsterInstance, run: DagsterRun, jobs: Jobs, policy: OnFailure) -> Undone:
    """Roll back what the chain of a failed run committed, and make again what is owed; or of it only what failed and follows.

    What a recovery that died has begun is brought to its end.

    Raises NotRecovered, and as `roll_back`.
    """
    definition = _definition(jobs(job_name_of(run)))
    _refuse(instance, run, policy, definition)
    stages: Sequence[str] = ()
    if policy.action != ROLLBACK:
        stages = failed_and_downstream(instance, run, definition)
        if not stages:
            return Undone("No stage had begun, so there was nothing to undo.")
    begun = _begun(instance, run, definition)
    try:
        if begun is None:
            done = roll_back(instance, definition, Asked(UNDO, run.run_id, stages=stages, answers=run.run_id))
        elif begun.state in ENDED:
            done = RolledBack(begun.id, Plan.of_json(begun.plan))
        else:
            done = continue_(instance, definition)
    except (NothingToUndo, AnsweredAlready) as error:
        return Undone(str(error))
    planned = [one.stage for one in done.plan.tables]
    undone = [one.stage for one in done.plan.tables if any(entry.state == LIVE for entry in one.entries)]
    if policy.action != ROLLBACK:  # what was undone lacks what its inputs hold, and would be what is made again
        return Undone(f"Rollback {done.id} has undone {', '.join(undone)}.", done)
    made = refresh(instance, jobs(ANY_ASSETS), done.id, planned)
    also = f" {len(made.runs)} runs made again what was owed." if made.runs else ""
    failed = "" if made.success else f" What is owed was not all made again: {made.failure}"
    return Undone(f"Rollback {done.id} has undone {', '.join(undone)}.{also}{failed}", done, made)


def failed_and_downstream(instance: DagsterInstance, run: DagsterRun, job: JobDefinition) -> list[str]:
    """The stages of a run that failed, or were at work when it ended, and what its job makes of them."""
    steps = set(failed_steps(instance, run))
    assets = [key for step, keys in assets_by_step(instance, run).items() if step in steps for key in keys]
    found = with_downstream(job, assets) & set(job.asset_layer.executable_asset_keys)
    return sorted(key.to_user_string() for key in found)


def job_name_of(run: DagsterRun) -> str:
    """The job of a code location that executes a run; that of `dg.materialize` is in none."""
    return ANY_ASSETS if run.job_name == EPHEMERAL else run.job_name


def _refuse(instance: DagsterInstance, run: DagsterRun, policy: OnFailure, job: JobDefinition) -> None:
    why = why_not(instance, run, policy, job)
    if why is not None:
        raise NotRecovered(f"Run {run.run_id} is left as it is: {why}. Nothing was changed.")


def _definition(job: Job) -> JobDefinition:
    return job.get_definition() if isinstance(job, ReconstructableJob) else job
