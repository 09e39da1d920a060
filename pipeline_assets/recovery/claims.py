"""One failure is continued once: who has claimed it, and who is about to.

The run that continues another has an id that follows from the other's, and a database takes an id once: so the claim is
atomic, for processes, hosts and sensors alike.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import dagster as dg
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.errors import DagsterRunAlreadyExists
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, MAX_RETRIES_TAG, WILL_RETRY_TAG

from pipeline_assets.chains import chain_of
from pipeline_assets.policy.commands import to_resume
from pipeline_assets.recovery.plan import NotResumable

RETRIES_DAEMON = "EVENT_LOG_CONSUMER"
"""The daemon that tries failed runs again, by the name of its heartbeat."""
SILENT_SECONDS = 300.0
"""After so long without a heartbeat it is not there; it beats twice a minute."""
_CONTINUATIONS = uuid.UUID("6f3b6a0e-5f0c-4d5e-9d0b-0a3c8f1f7c52")


class AlreadyContinued(NotResumable):
    """A failure that another run answers already. by: its id."""

    def __init__(self, run_id: str, by: str, state: str) -> None:
        self.run_id, self.by = run_id, by
        super().__init__(
            f"Run {run_id} is continued by run {by} already, which is {state}. Nothing was changed; wait for its end, or "
            "terminate it first."
        )


def continuation_of(run_id: str) -> str:
    """The id of the run that continues a run."""
    return str(uuid.uuid5(_CONTINUATIONS, run_id))


def claimed(instance: DagsterInstance, run: DagsterRun, create: Callable[[str], DagsterRun]) -> DagsterRun:
    """The run that continues this one, made by `create` with the id that it is given. Raises NotResumable.

    Dagster's own re-executions have ids of their own: one that was made meanwhile is seen afterwards, and goes first.
    """
    run_id = continuation_of(run.run_id)
    refuse_answered(instance, run)
    try:
        made = create(run_id)
    except DagsterRunAlreadyExists:
        raise _continued(instance, run, run_id) from None
    for other in next_in_chain(instance, run):
        if other.run_id != run_id:
            instance.delete_run(run_id)  # it has not begun
            raise AlreadyContinued(run.run_id, other.run_id, other.status.value)
    if run.tags.get(WILL_RETRY_TAG) == "true":
        instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
    return made


def children_of(instance: DagsterInstance, run: DagsterRun) -> Sequence[DagsterRun]:
    """The runs that re-execute a run, in whichever way."""
    return instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run.run_id}))


def next_in_chain(instance: DagsterInstance, run: DagsterRun) -> Iterator[DagsterRun]:
    """The runs that re-execute a run, and continue its chain."""
    for child in children_of(instance, run):
        if run.run_id in chain_of(instance, child).runs:
            yield child


def continued_by(instance: DagsterInstance, run: DagsterRun) -> DagsterRun | None:
    """The run that continues a run, whoever began it, or makes some of it again as a chain of its own (`--recompute`)."""
    return next(next_in_chain(instance, run), None) or instance.get_run_by_id(continuation_of(run.run_id))


def refuse_answered(instance: DagsterInstance, run: DagsterRun) -> None:
    """Raise NotResumable where the failure is, or is about to be, answered by a run that is not of its chain."""
    made = instance.get_run_by_id(continuation_of(run.run_id))
    if made is not None:
        raise _continued(instance, run, made.run_id)
    if run.status is not DagsterRunStatus.FAILURE or run.remote_job_origin is None or not instance.run_retries_enabled:
        return
    by = instance.get_run_by_id(run.tags.get(AUTO_RETRY_RUN_ID_TAG, run.run_id))
    if by is not None and by.run_id != run.run_id:
        raise _continued(instance, run, by.run_id)
    if run.tags.get(WILL_RETRY_TAG) == "true" and _daemon_is_there(instance):
        raise NotResumable(
            f"Run {run.run_id} is about to be tried again by Dagster's daemon, as run_retries says. Nothing was changed; it "
            "takes the daemon some seconds to begin; `dagster run list` shows that run, which can be resumed if it fails."
        )


def mark_gone(instance: DagsterInstance, run: DagsterRun) -> None:
    """Mark a run failed whose process is gone; the daemon is not to try it again as well, and notes so at this moment."""
    retried = instance.run_retries_enabled and run.remote_job_origin is not None
    if retried:
        instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
    instance.report_run_failed(run, "Its process is gone (killed, or its host restarted); marked failed by resume.")
    if retried:
        as_before = run.tags.get(MAX_RETRIES_TAG, str(instance.run_retries_max_retries))
        instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: as_before})


def _continued(instance: DagsterInstance, run: DagsterRun, by: str) -> NotResumable:
    found = instance.get_run_by_id(by)
    if found is None or not found.is_finished:
        return AlreadyContinued(run.run_id, by, found.status.value if found is not None else "about to begin")
    return NotResumable(
        f"Run {run.run_id} was answered by run {by}, which is {found.status.value}. Nothing was changed; if something of "
        f"that one is left, `{to_resume(by)}`."
    )


def _daemon_is_there(instance: DagsterInstance) -> bool:
    """Whether the daemon that makes the retries is; one that is not would be waited for in vain."""
    beat = instance.get_daemon_heartbeats().get(RETRIES_DAEMON)
    return beat is not None and time.time() - beat.timestamp < SILENT_SECONDS
