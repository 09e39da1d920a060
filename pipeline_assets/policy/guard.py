"""What becomes of an exception out of a stage: another attempt after a while, or the end of the step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster import DagsterError, DagsterEventType, DagsterInstance, DagsterRun, MetadataValue
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData

from pipeline_assets.errors import TimedOut
from pipeline_assets.policy.clock import TimeIsUp
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets.policy.running import Running, running_of
from pipeline_assets.policy.starting import start

ATTEMPT, CLASS, NEXT, WAIT = "stage/attempt", "stage/error_class", "stage/next", "stage/wait_seconds"
"""In the engine event of an attempt that failed: which it was, the class of its error, and what happens next."""
FAILED_BEFORE_TAG = "pipeline_assets/failed_before"
"""How many attempts at which step had failed, with the id of the run before, since a re-execution inherits tags."""
_AS_OFTEN_AS_WE_SAY = 1_000_000
"""Dagster counts an attempt too where data has to be computed again, which is no failure; so we count ourselves."""


class StageFailed(dg.Failure):
    """A stage that is not tried again. `__cause__` is the error itself."""


class Interrupted(DagsterExecutionInterruptedError, DagsterError):
    """The run is to stop. A DagsterError as well: those Dagster passes on, where it would try an interrupt again."""


Interrupted.__name__ = DagsterExecutionInterruptedError.__name__  # by it the multiprocess executor knows interrupts


@contextmanager
def guarded(step_context: Any) -> Iterator[None]:
    """Code of a stage, or that reads or writes for it. Where the step is no stage's, nothing is done.

    Raises RetryRequested for another attempt, StageFailed for none, Interrupted when the run is to stop; what Dagster
    itself raises (a wrong type, a broken invariant) is passed on, and is never tried again.
    """
    attempt = running_of(step_context)
    if attempt is None:
        yield
        return
    try:
        with attempt.clock.inside():
            start(attempt, step_context)
            yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError) as interrupt:
        attempt.stop()
        if isinstance(interrupt, Interrupted):
            raise
        _report(attempt, _failures(attempt) + 1, "interrupted", "it is not tried again, and commits nothing any more")
        raise Interrupted from interrupt
    except (dg.RetryRequested, dg.Failure, DagsterError, GeneratorExit, SystemExit):
        attempt.stop()
        raise
    except BaseException as error:  # polars' panics are no `Exception`
        attempt.stop()
        raise _answer(attempt, error) from error


def _answer(attempt: Running, error: BaseException) -> Exception:
    """What Dagster is told of an error."""
    policy = attempt.policy
    verdict, transient = _judge(attempt, error)
    failures, attempts = _failures(attempt) + 1, policy.max_retries + 1
    what = f"{'transient' if transient else 'permanent'}, {verdict.said}"
    if transient and failures < attempts:
        wait = policy.wait_after(failures, verdict.retry_after)
        said = f"attempt {failures + 1} of {attempts} in {wait:.0f} s: {what}"
        _report(attempt, failures, verdict.kind.__name__, said, wait)
        return dg.RetryRequested(max_retries=_AS_OFTEN_AS_WE_SAY, seconds_to_wait=wait)
    left = f"attempt {failures} of {attempts} was the last" if transient else "it is not tried again"
    metadata = _report(attempt, failures, verdict.kind.__name__, f"{left}: {what}")
    why = "" if verdict.kind is TimedOut else f" {_first_line(error)}"
    return StageFailed(f"{attempt.name} failed, {left}: {what}.{why}", metadata, allow_retries=False)


def _judge(attempt: Running, error: BaseException) -> tuple[Verdict, bool]:
    policy = attempt.policy
    if isinstance(error, TimeIsUp) or attempt.clock.rung:
        attempt.clock.end_children()
        attempt.give_up()
        return Verdict(TimedOut, f"timed out after {policy.timeout:g} s"), policy.retry_on_timeout
    if isinstance(error, TimedOut):  # of an attempt before, whose process was ended
        return Verdict(TimedOut, f"timed out after {policy.timeout:g} s"), False
    verdict = classify(error, policy.transient, policy.permanent)
    return verdict, verdict.transient


def _failures(attempt: Running) -> int:
    return failures_of(attempt.instance, attempt.run, attempt.step_key)


def failures_of(instance: DagsterInstance, run: DagsterRun, step_key: str) -> int:
    """How many attempts at a step have failed in a run, and in those that it goes on from by itself."""
    entries = instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    of_step = (entry.get_dagster_event() for entry in entries if entry.step_key == step_key)
    here = sum(ATTEMPT in event.engine_event_data.metadata for event in of_step)
    parent, step, number = run.tags.get(FAILED_BEFORE_TAG, "  ").split(" ")
    return here + (int(number) if (parent, step) == (run.parent_run_id, step_key) else 0)


def failed_before(run: DagsterRun, step_key: str, failures: int) -> dict[str, str]:
    """The tag of the run that continues another by itself, so that attempts are counted on."""
    return {FAILED_BEFORE_TAG: f"{run.run_id} {step_key} {failures}"}


def _report(
    attempt: Running, number: int, error_class: str, what_next: str, wait: float | None = None
) -> dict[str, MetadataValue[Any]]:
    message = f"{attempt.name}: {what_next}"
    return report_attempt(
        attempt.instance, attempt.run, attempt.step_key, message, number, error_class, what_next, wait, attempt.tables
    )


def report_attempt(
    instance: DagsterInstance,
    run: DagsterRun,
    step_key: str,
    message: str,
    number: int,
    error_class: str,
    what_next: str,
    wait: float | None = None,
    tables: Mapping[str, str] | None = None,
) -> dict[str, MetadataValue[Any]]:
    """Send an event of an attempt that failed, with a link to its tables and the command that continues; its metadata."""
    metadata: dict[str, MetadataValue[Any]] = {
        ATTEMPT: MetadataValue.int(number),
        CLASS: MetadataValue.text(error_class),
        NEXT: MetadataValue.text(what_next),
        **({WAIT: MetadataValue.float(round(wait, 1))} if wait is not None else {}),
        **{f"table of {name}": _link(uri) for name, uri in (tables or {}).items()},
        "to continue": MetadataValue.text(f"pipeline-assets resume {run.run_id}"),
    }
    instance.report_engine_event(message, run, EngineEventData(metadata), step_key=step_key)
    return metadata


def _link(uri: str) -> MetadataValue[Any]:
    return MetadataValue.url(uri) if "://" in uri else MetadataValue.path(uri)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
