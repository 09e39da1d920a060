"""What becomes of an exception out of a stage: another attempt after a while, or the end of the step."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dagster as dg
from dagster import DagsterError
from dagster._core.errors import DagsterExecutionInterruptedError

from pipeline_assets.errors import ConfigurationError, TimedOut, TransientError
from pipeline_assets.policy import maintenance
from pipeline_assets.policy.clock import TimeIsUp
from pipeline_assets.policy.commands import located, module_of
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets.policy.last_words import all_told
from pipeline_assets.policy.reports import failures, report
from pipeline_assets.policy.running import Running, running_of
from pipeline_assets.policy.starting import start
from pipeline_assets.policy.waiting import hear_stops

LONGEST_WAIT = 3600.0
"""Seconds that a far end may ask for; for longer ones a run is not kept waiting, and fails."""
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
            all_told()
            yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError) as interrupt:
        with suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):  # another one, while this one is told
            attempt.stop()
            if not isinstance(interrupt, Interrupted):
                left = attempt.clock.end_children()
                said = f"it is not tried again, and commits nothing any more{left}"
                report(attempt, failures(attempt) + 1, "interrupted", said)
        if isinstance(interrupt, Interrupted):
            raise
        raise Interrupted from interrupt
    except (dg.RetryRequested, DagsterError, GeneratorExit, SystemExit) as passed_on:
        attempt.stop()
        if isinstance(passed_on, dg.RetryRequested):
            hear_stops(attempt, step_context, passed_on.seconds_to_wait or 0.0)
        raise
    except BaseException as error:  # polars' panics are no `Exception`
        attempt.stop()
        if _is_decided(attempt, error):
            raise
        answer = _answer(attempt, error)
        if isinstance(answer, dg.RetryRequested):
            hear_stops(attempt, step_context, answer.seconds_to_wait or 0.0)
        raise answer from error


def _is_decided(attempt: Running, error: BaseException) -> bool:
    """What is not for this attempt to judge: a failure that its author wants final, the end of another attempt's time."""
    if isinstance(error, TimeIsUp):
        return error.clock not in {None, attempt.clock}
    return isinstance(error, dg.Failure) and not error.allow_retries


def _answer(attempt: Running, error: BaseException) -> Exception:
    """What Dagster is told of an error."""
    policy = attempt.policy
    verdict, transient = _judge(attempt, error)
    failed, attempts = failures(attempt) + 1, policy.max_retries + 1
    what = f"{'transient' if transient else 'permanent'}, {verdict.said}"
    if (verdict.retry_after or 0.0) > LONGEST_WAIT:
        transient, what = False, f"{what}, which asks to be left alone for {verdict.retry_after:.0f} s"
    if transient and failed < attempts:
        wait = policy.wait_after(failed, verdict.retry_after)
        said = f"attempt {failed + 1} of {attempts} in {wait:.0f} s: {what}"
        report(attempt, failed, verdict.kind.__name__, said, wait)
        return dg.RetryRequested(max_retries=_AS_OFTEN_AS_WE_SAY, seconds_to_wait=wait)
    left = f"attempt {failed} of {attempts} was the last" if transient else "it is not tried again"
    metadata = report(attempt, failed, verdict.kind.__name__, f"{left}: {what}")
    why = "" if verdict.kind is TimedOut else f" {_first_line(error)}"
    said = located(f"{attempt.name} failed, {left}: {what}.{why}", module_of(attempt.run))
    return StageFailed(said, metadata, allow_retries=False)


def _judge(attempt: Running, error: BaseException) -> tuple[Verdict, bool]:
    policy = attempt.policy
    if attempt.clock.passed or (isinstance(error, TimeIsUp) and policy.timeout is not None):
        left = attempt.clock.end_children()
        attempt.give_up()
        return Verdict(TimedOut, f"timed out after {policy.timeout:g} s{left}"), policy.retry_on_timeout
    if isinstance(error, TimedOut):  # of an attempt before, whose process was ended
        return Verdict(TimedOut, f"timed out after {policy.timeout:g} s"), False
    if isinstance(error, dg.Failure) and error.__cause__ is None:  # its author allows retries
        return Verdict(TransientError, "Failure"), True
    try:
        verdict = classify(error, policy.transient, policy.permanent)
    except Exception as broken:  # noqa: BLE001  whatever a rule of the user's raises; it ends the stage
        rule = f"a rule of transient or permanent raised {type(broken).__name__}, asked about {type(error).__name__}"
        return Verdict(ConfigurationError, rule), False
    if attempt.step is not None:
        verdict = maintenance.seen(attempt.step, verdict)
    return verdict, verdict.transient


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
