"""What a chain's event log tells of each step: when it was made and by which run, else why it is left."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import dagster as dg
from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.definitions.data_version import CODE_VERSION_TAG
from dagster._core.execution.plan.objects import StepFailureData

from pipeline_assets.chains import Chain
from pipeline_assets.checkpoints import ADOPTED, KEPT, RESTORED
from pipeline_assets.recovery.causes import first_error
from pipeline_assets.step_starts import STARTS

NOT_REACHED, KILLED, CANCELLED = "not reached", "killed", "cancelled"
_KINDS = {
    *STARTS,
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.ASSET_MATERIALIZATION,
    DagsterEventType.ASSET_CHECK_EVALUATION,
}
_INTERRUPTED = "DagsterExecutionInterruptedError"


@dataclass
class StepLog:
    """One step, by its newest word.

    made: when it succeeded (seconds since 1970). by: the run in which it did. why: it did not. code: for each asset and
    partition the code version by which this chain made it.
    """

    made: float | None = None
    by: str | None = None
    why: str = NOT_REACHED
    code: dict[tuple[AssetKey, str | None], str] = field(default_factory=dict)


def step_logs(instance: DagsterInstance, chain: Chain) -> Mapping[str, StepLog]:
    """All steps that the runs of a chain have begun."""
    found: dict[str, StepLog] = {}
    for run_id in chain.runs:
        run = instance.get_run_by_id(run_id)
        cancelled = run is not None and run.status in {DagsterRunStatus.CANCELED, DagsterRunStatus.CANCELING}
        for key, entry in _by_step(instance, run_id):
            log = found.setdefault(key, StepLog())
            event = entry.get_dagster_event()
            if event.event_type in STARTS:
                log.why = CANCELLED if cancelled else KILLED  # unless there is a later word
            elif event.event_type is DagsterEventType.STEP_SUCCESS:
                log.made, log.by = entry.timestamp, run_id
            elif event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
                verdict = event.asset_check_evaluation_data
                if verdict.blocking and not verdict.passed:
                    log.why = f"its check {verdict.check_name} failed"
            elif event.event_type is DagsterEventType.ASSET_MATERIALIZATION:
                _note_code(log, event.step_materialization_data.materialization)
            elif not log.why.startswith("its check"):
                log.why = _why(event.step_failure_data, cancelled=cancelled)
    return found


def _by_step(instance: DagsterInstance, run_id: str) -> Iterator[tuple[str, dg.EventLogEntry]]:
    for entry in instance.all_logs(run_id, of_type=_KINDS):
        if entry.step_key:
            yield entry.step_key, entry


def _note_code(log: StepLog, event: dg.AssetMaterialization) -> None:
    """Of what the run made itself, or found to be as it would make it; what it kept or adopted others made."""
    said = (event.tags or {}).get(CODE_VERSION_TAG)
    if said is not None and not {KEPT, ADOPTED, RESTORED} & event.metadata.keys():
        log.code[event.asset_key, event.partition] = said


def _why(failure: StepFailureData, *, cancelled: bool) -> str:
    name, line = error_of(failure)
    if name == _INTERRUPTED:
        return CANCELLED if cancelled else "interrupted"
    return f"failed: {name}: {line}".rstrip(": ")


def error_of(failure: StepFailureData) -> tuple[str, str]:
    """The class of the error that a step failed with in the first place, and the first line of what it says."""
    cause = first_error(failure.error)
    return (cause.error, cause.message) if cause is not None else ("", "no reason was noted")
