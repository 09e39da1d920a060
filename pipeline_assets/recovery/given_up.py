"""What follows when the process of a stage was ended by the one that watched it: the log is told, the run may go on.

`python -m pipeline_assets.recovery.given_up`, started by policy/watch.py with what it knows as JSON on stdin; or, where
an executor lives on (policy/last_words.py), `step_failed` in its process.
"""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster import (
    DagsterError,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    MetadataValue,
)
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.execution.api import execute_run
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.instance import InstanceRef
from dagster._core.origin import JobPythonOrigin
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._serdes import deserialize_value
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy.exc import SQLAlchemyError

from pipeline_assets.errors import TimedOut
from pipeline_assets.policy.commands import located, module_of, to_resume
from pipeline_assets.policy.policies import Policy
from pipeline_assets.policy.reports import failed_before, failures_of, report_attempt
from pipeline_assets.policy.watch import TIMEOUT
from pipeline_assets.policy.watching import RUN
from pipeline_assets.recovery.endings import mark_ended
from pipeline_assets.recovery.resume import NotResumable, created
from pipeline_assets.recovery.supervising import Stop

logger = logging.getLogger(__name__)

NOTED_SECONDS = 5.0
"""How long Dagster may take to note whether it tries a failed run again."""


def told(said: Mapping[str, Any]) -> None:
    """Record why a process was ended, end its run's entry, and continue it where the stage says so."""
    with DagsterInstance.from_ref(deserialize_value(said["instance"], InstanceRef)) as instance:
        run = instance.get_run_by_id(said["run"])
        if run is None:
            return
        end = _reported(instance, run, said)
        if said["ends"] != RUN:
            return
        _report_step(instance, said, end)
        mark_ended(instance, run, f"{end.message}.")
        ours = end.again and _is_ours_to_continue(instance, run)
        _print(run, end.message, goes_on=ours)
        if ours:
            job = recon_job_from_origin(deserialize_value(said["job"], JobPythonOrigin))
            wait = _wait(said, end.failures) if end.wait is None else end.wait
            _continue(instance, run, job, failed_before(run, said["step"], end.failures), wait)


def step_failed(said: Mapping[str, Any]) -> DagsterEvent:
    """Record, in the process of a step's executor, why that step's process was ended; the event of its failure.

    The executor goes on by that event whether or not Dagster's storage takes it.
    """
    try:
        with DagsterInstance.from_ref(deserialize_value(said["instance"], InstanceRef)) as instance:
            run = instance.get_run_by_id(said["run"])
            end = _End(_message(said), _kind(said)) if run is None else _reported(instance, run, said)
            return _report_step(instance, said, end)
    except (SQLAlchemyError, OSError, DagsterError):
        logger.exception("%s, and Dagster's storage does not take it", _message(said))
        return _failure(said, _End(_message(said), _kind(said)))


@dataclass(frozen=True)
class _End:
    """What is said of the end of a process, and what follows: whether another attempt, and when (seconds, if known)."""

    message: str
    kind: str
    failures: int = 1
    again: bool = False
    wait: float | None = None
    metadata: Mapping[str, MetadataValue[Any]] = field(default_factory=dict)


def _reported(instance: DagsterInstance, run: DagsterRun, said: Mapping[str, Any]) -> _End:
    """Send the event of the attempt that has ended with its process."""
    timed_out, message, kind = said["why"] == TIMEOUT, _message(said), _kind(said)
    failures = failures_of(instance, run, said["step"]) + 1
    again = timed_out and said["retry"] and failures <= said["max_retries"]
    wait = _wait(said, failures) if again and _is_ours(instance, run, said["ends"]) else None
    following = _following(failures, said["max_retries"] + 1 if timed_out and said["retry"] else 0, wait)
    heading = f"{message}: {following}"
    metadata = report_attempt(instance, run, said["step"], heading, failures, kind, following, wait, said["tables"])
    return _End(message, kind, failures, again, wait, metadata)


def _message(said: Mapping[str, Any]) -> str:
    why = f"timed out after {said['seconds']:g} s" if said["why"] == TIMEOUT else "did not stop when it was asked to"
    return f"{said['name']} {why}; its process was ended"


def _kind(said: Mapping[str, Any]) -> str:
    return TimedOut.__name__ if said["why"] == TIMEOUT else "interrupted"


def _wait(said: Mapping[str, Any], failures: int) -> float:
    """Seconds until the next attempt, as after any other failure."""
    shortest, longest = said["intervals"]
    return Policy(min_retry_interval=shortest, max_retry_interval=longest).wait_after(failures)


def _is_ours(instance: DagsterInstance, run: DagsterRun, ends: str) -> bool:
    """Whether it is for this process to try again, and so to wait: not for the executor, nor perhaps for the daemon."""
    return ends == RUN and (run.remote_job_origin is None or not instance.run_retries_enabled)


def _following(failures: int, attempts: int, wait: float | None) -> str:
    """What follows after so many failures, of so many attempts (0: whatever their number); wait: in seconds, if known."""
    if not attempts:
        return "it is not tried again"
    last, when = failures >= attempts, "follows" if wait is None else f"in {wait:.0f} s"
    return f"attempt {failures} of {attempts} was the last" if last else f"attempt {failures + 1} of {attempts} {when}"


def _report_step(instance: DagsterInstance, said: Mapping[str, Any], end: _End) -> DagsterEvent:
    """Record the step's failure, which no process of its own can send any more; the event."""
    event = _failure(said, end)
    instance.report_dagster_event(event, said["run"], logging.ERROR)
    return event


def _failure(said: Mapping[str, Any], end: _End) -> DagsterEvent:
    return DagsterEvent(
        event_type_value=DagsterEventType.STEP_FAILURE.value,
        job_name=said["job_name"],
        step_key=said["step"],
        event_specific_data=StepFailureData(  # type: ignore[no-untyped-call]
            error=SerializableErrorInfo(end.message, [], end.kind),
            user_failure_data=UserFailureData("given up", end.message, dict(end.metadata)),  # type: ignore[no-untyped-call]
        ),
        message=end.message,
    )


def _is_ours_to_continue(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Unless the daemon does it: what it launched, as `run_retries` or the run's own tag says."""
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.status is not DagsterRunStatus.FAILURE:
        return False
    if _is_ours(instance, run, RUN) or not _daemon_retries(instance, now):
        return True
    _say(f"Run {run.run_id} is tried again by Dagster's daemon, as run_retries says.")
    return False


def _daemon_retries(instance: DagsterInstance, run: DagsterRun) -> bool:
    """What Dagster noted when the run was marked failed; a moment after, perhaps by another process."""
    deadline = time.monotonic() + NOTED_SECONDS
    now: DagsterRun | None = run
    while now is not None and WILL_RETRY_TAG not in now.tags and time.monotonic() < deadline:
        time.sleep(0.1)
        now = instance.get_run_by_id(run.run_id)
    return now is not None and now.tags.get(WILL_RETRY_TAG, "true") == "true"


def _continue(
    instance: DagsterInstance, run: DagsterRun, job: ReconstructableJob, tags: Mapping[str, str], wait: float
) -> None:
    """In the queue, where the run came from there, so that it is counted, and can be terminated; else here.

    The run is made before the wait, so that nobody else answers the failure meanwhile.
    """
    queued = bool(instance.all_logs(run.run_id, of_type=DagsterEventType.PIPELINE_ENQUEUED))
    stop = Stop()
    with stop.listening():
        try:
            continued = created(instance, run.run_id, job, tags=tags, elsewhere=queued)
        except NotResumable as refusal:  # somebody else was faster
            _say(located(str(refusal), module_of(run)))
            return
        if continued.run is None:
            _say(f"Nothing of run {run.run_id} was left.")
            return
        next_run = _after(instance, continued.run, wait, stop)
    if next_run is None:
        _say(f"Run {continued.run.run_id}, which was to continue run {run.run_id}, was stopped before it began.")
    elif queued:
        instance.report_dagster_event(DagsterEvent.job_enqueue(next_run), next_run.run_id)
        _say(f"Run {run.run_id} is continued by run {next_run.run_id}, which waits in the queue.")
    else:
        done = execute_run(continued.job, next_run, instance)
        left = f"failed; `{to_resume(next_run.run_id, module_of(run))}` continues it"
        state = "succeeded" if done.success else left
        _say(f"Run {run.run_id} was continued by run {next_run.run_id}, which {state}.")


def _after(instance: DagsterInstance, run: DagsterRun, wait: float, stop: Stop) -> DagsterRun | None:
    """A run that has not begun, when it may; None where it was stopped while it waited."""
    if wait:
        instance.report_engine_event(f"Begins in {wait:.0f} s.", run)
        _say(f"Run {run.run_id} continues it in {wait:.0f} s.")
    if stop.wait(wait):
        mark_ended(instance, run, "It was stopped before it began.", stopped=True)
    now = instance.get_run_by_id(run.run_id)
    return now if now is not None and now.status is DagsterRunStatus.NOT_STARTED else None


def _print(run: DagsterRun, message: str, *, goes_on: bool) -> None:
    _say(f"{message}. What was committed before stands, nothing else was written.")
    follows = ", and is continued" if goes_on else f"; `{to_resume(run.run_id, module_of(run))}` continues it"
    _say(f"Run {run.run_id} of {run.job_name} has ended{follows}.")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read it is gone, a closed terminal; the run goes on nevertheless
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} pipeline_assets - {line}\n")
        sys.stderr.flush()


def main() -> None:
    """Read what the watching process knows, and act on it."""
    said = json.load(sys.stdin)
    sys.path[:] = [*said["paths"], *(path for path in sys.path if path not in said["paths"])]
    told(said)


if __name__ == "__main__":
    main()
