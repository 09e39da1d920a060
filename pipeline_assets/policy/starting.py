"""What an attempt of a stage needs before it does anything: its tables' names, what gives it up, what watches it."""

import logging
import threading
from typing import Any

from dagster import DagsterEventType
from dagster._core.executor.child_process_executor import ChildProcessCrashException
from deltalake.exceptions import DeltaError

from pipeline_assets.errors import PipelineAssetsError, TimedOut
from pipeline_assets.io.beginning import give_up
from pipeline_assets.io.step_outputs import Written, written_by
from pipeline_assets.io.steps import Step, step_of
from pipeline_assets.policy.children import THREADS
from pipeline_assets.policy.reports import report_crash
from pipeline_assets.policy.running import Running
from pipeline_assets.policy.watching import GRACE_SECONDS, arm
from pipeline_assets.step_starts import step_starts

logger = logging.getLogger(__name__)


def start(attempt: Running, step_context: Any) -> None:
    """Called at the first thing that is done for an attempt, whatever that is. Raises ConfigurationError, TimedOut."""
    if attempt.started:
        return
    attempt.started = True
    outputs = written_by(step_context)
    attempt.tables = {one.output.name: one.output.location.uri for one in outputs}
    attempt.partitions = outputs[0].keys if outputs else ()
    arm(attempt, step_context)
    step = step_of(step_context)
    step.still_wanted = attempt.clock.check
    if attempt.disarm is None and attempt.policy.timeout is not None:
        attempt.give_up = lambda: _give_up_soon(step, outputs)
    attempt.step = step
    if step_context.previous_attempt_count:
        _look_back(attempt)


def _give_up_soon(step: Step, outputs: list[Written]) -> None:
    """Set the fences, if the storage lets us: a hung one must not hold the stage, and whoever comes next sets them too."""

    def fence() -> None:
        try:
            give_up(step, [(one.output, one.keys) for one in outputs])
        except (PipelineAssetsError, DeltaError, OSError) as error:
            logger.warning("the attempt that timed out could not be fenced: %s", error)

    thread = threading.Thread(target=fence, name=f"{THREADS}-fence", daemon=True)
    thread.start()
    thread.join(GRACE_SECONDS)


def _look_back(attempt: Running) -> None:
    """Say why there is another attempt where the process of the one before is gone; end where its time was up.

    The executor goes by the stock policy then, which knows nothing of time-outs. By the log it is one where the process
    crashed after the time was up. Raises TimedOut where the stage wants no other attempt.
    """
    policy, instance, run_id = attempt.policy, attempt.instance, attempt.run.run_id
    retries = [
        entry
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_UP_FOR_RETRY)
        if entry.step_key == attempt.step_key
    ]
    starts = step_starts(instance, run_id, attempt.step_key)
    if not retries or len(starts) < 2:
        return
    if retries[-1].get_dagster_event().step_retry_data.error.cls_name != ChildProcessCrashException.__name__:
        return
    if policy.timeout is None or retries[-1].timestamp - starts[-2] / 1000 < policy.timeout:
        report_crash(attempt)
    elif not policy.retry_on_timeout:
        raise TimedOut(
            f"{attempt.name} timed out after {policy.timeout:g} s, and its process was ended. Nothing was written; it is not "
            "tried again, since it has no retry_on_timeout."
        )
