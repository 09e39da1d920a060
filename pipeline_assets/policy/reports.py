"""What the event log says of attempts that failed: which it was, the class of its error, and what happens next."""

from collections.abc import Mapping
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, MetadataValue
from dagster._core.events import EngineEventData

from pipeline_assets.policy.running import Running

ATTEMPT, CLASS, NEXT, WAIT = "stage/attempt", "stage/error_class", "stage/next", "stage/wait_seconds"
"""In the engine event of an attempt that failed: which it was, the class of its error, and what happens next."""


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
    return failures_of(attempt.instance, attempt.run.run_id, attempt.step_key)


def failures_of(instance: DagsterInstance, run_id: str, step_key: str) -> int:
    """How many attempts at a step have failed in a run, whatever process they were in."""
    entries = instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
    of_step = (entry.get_dagster_event() for entry in entries if entry.step_key == step_key)
    return sum(ATTEMPT in event.engine_event_data.metadata for event in of_step)


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
        "to continue": MetadataValue.text(f"pipeline-assets resume {run.run_id}"),
    }
    instance.report_engine_event(message, run, EngineEventData(metadata), step_key=step_key)
    return metadata


def _link(uri: str) -> MetadataValue[Any]:
    return MetadataValue.url(uri) if "://" in uri else MetadataValue.path(uri)
