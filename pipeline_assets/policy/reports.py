"""What the event log says of attempts that failed: which it was, the class of its error, and what happens next."""

import logging
from collections.abc import Mapping
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, MetadataValue
from dagster._core.events import EngineEventData
from sqlalchemy.exc import SQLAlchemyError

from pipeline_assets.policy.commands import module_of, to_resume
from pipeline_assets.policy.running import Running

logger = logging.getLogger(__name__)

ATTEMPT, CLASS, NEXT, WAIT = "stage/attempt", "stage/error_class", "stage/next", "stage/wait_seconds"
"""In the engine event of an attempt that failed: which it was, the class of its error, and what happens next."""
FAILED_BEFORE_TAG = "pipeline_assets/failed_before"
"""How many attempts at which step had failed, with the id of the run before, since a re-execution inherits tags."""


def report_crash(attempt: Running) -> None:
    """Say of the attempt before that its process is gone; what it would have said itself."""
    number, attempts = failures(attempt) + 1, attempt.policy.max_retries + 1
    report(
        attempt,
        number,
        "ProcessLost",
        f"attempt {number + 1} of {attempts}: transient, the process of the one before is gone",
    )


def failures(attempt: Running) -> int:
    """How many attempts at its step have failed in its run, before it."""
    return failures_of(attempt.instance, attempt.run, attempt.step_key)


def failures_of(instance: DagsterInstance, run: DagsterRun, step_key: str) -> int:
    """How many attempts at a step have failed in a run, and in those that it goes on from by itself."""
    try:
        entries = instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
    except (SQLAlchemyError, OSError):
        return 0
    of_step = (entry.get_dagster_event() for entry in entries if entry.step_key == step_key)
    here = sum(ATTEMPT in event.engine_event_data.metadata for event in of_step)
    parent, step, number = run.tags.get(FAILED_BEFORE_TAG, "  ").split(" ")
    return here + (int(number) if (parent, step) == (run.parent_run_id, step_key) else 0)


def failed_before(run: DagsterRun, step_key: str, failures: int) -> dict[str, str]:
    """The tag of the run that continues another by itself, so that attempts are counted on."""
    return {FAILED_BEFORE_TAG: f"{run.run_id} {step_key} {failures}"}


def report(
    attempt: Running, number: int, error_class: str, what_next: str, wait: float | None = None
) -> dict[str, MetadataValue[Any]]:
    """Send an event of an attempt that failed; see `report_attempt`."""
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
        "to continue": MetadataValue.text(to_resume(run.run_id, module_of(run))),
    }
    try:
        instance.report_engine_event(message, run, EngineEventData(metadata), step_key=step_key)
    except (SQLAlchemyError, OSError):
        # What follows of the failure must not depend on whether it can be told.
        logger.exception("%s, and Dagster's storage does not take it", message)
    return metadata


def _link(uri: str) -> MetadataValue[Any]:
    return MetadataValue.url(uri) if "://" in uri else MetadataValue.path(uri)
