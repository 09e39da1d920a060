"""What a person is told of a failed run: which stage, why, what is on disk, and the command that continues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from pipeline_assets.delta.names import first_to_last
from pipeline_assets.errors import PipelineAssetsError, describe
from pipeline_assets.policy.commands import located, to_resume
from pipeline_assets.recovery.causes import Cause, first_error
from pipeline_assets.recovery.executable import executable_for
from pipeline_assets.recovery.plan import plan_of
from pipeline_assets.step_starts import STARTS

_ENDS = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_SKIPPED}
_RUN_ENDS = {DagsterEventType.PIPELINE_FAILURE, DagsterEventType.PIPELINE_CANCELED}
_INTERRUPTED = "Interrupt"
"""In the names of the errors of what was stopped: why it was is what the run says."""


@dataclass(frozen=True)
class FailureReport:
    """What there is to say of a run that did not end well.

    stages: those that failed, or were at work when it ended. on_disk: for each stage the newest version that the run's chain
    has live in its table; None where that cannot be told, for which there is `unknown`.
    """

    run: str
    status: str
    stages: Sequence[str]
    partition: str | None
    cause: Cause
    on_disk: Mapping[str, int] | None
    unknown: str
    command: str

    def lines(self) -> list[str]:
        """The four lines."""
        return [
            f"stage     {describe(', '.join(self.stages) or 'no stage had begun', self.partition)}",
            f"why       {self.cause}",
            f"on disk   {self._on_disk()}",
            f"continue  {self.command}",
        ]

    def _on_disk(self) -> str:
        if self.on_disk is None:
            return f"not known: {self.unknown}"
        if not self.on_disk:
            return "nothing of this run"
        versions = ", ".join(f"{name} version {version}" for name, version in self.on_disk.items())
        return f"{versions}; nothing else was written"

    def as_json(self) -> dict[str, Any]:
        """The same as fields."""
        return {
            "run": self.run,
            "status": self.status,
            "stages": list(self.stages),
            "partition": self.partition,
            "error": self.cause.error,
            "why": self.cause.message,
            "on_disk": None if self.on_disk is None else dict(self.on_disk),
            "continue": self.command,
        }


def four_lines(
    instance: DagsterInstance, run: DagsterRun, job: JobDefinition | ReconstructableJob, module: str | None = None
) -> list[str]:
    """The four lines with which every failure ends; see `report_of`."""
    return report_of(instance, run, job, module).lines()


def report_of(
    instance: DagsterInstance, run: DagsterRun, job: JobDefinition | ReconstructableJob, module: str | None = None
) -> FailureReport:
    """What there is to say of a run that failed or was cancelled; nothing is changed.

    job: the run's. module: the code location that the command has to name. What is on disk is what the tables show, also
    what was committed without an event.
    """
    run = instance.get_run_by_id(run.run_id) or run
    failed = failed_steps(instance, run)
    told = (one for one in failed.values() if one is not None and _INTERRUPTED not in one.error)
    cause = next(told, None) or _why_ended(instance, run)
    names: Mapping[str, str] = {}
    on_disk: dict[str, int] | None = None
    unknown = ""
    try:
        steps = plan_of(instance, run, executable_for(instance, run, job).get_definition()).steps
        names = {step.key: step.name for step in steps}
        on_disk = {name: version for step in steps for name, version in step.versions.items()}
    except PipelineAssetsError as error:
        unknown = located(str(error).splitlines()[0], module)
    return FailureReport(
        run=run.run_id,
        status=run.status.value,
        stages=list(dict.fromkeys(names.get(key, key) for key in failed)),
        partition=partition_of(run),
        cause=Cause(cause.error, located(cause.message, module)),
        on_disk=on_disk,
        unknown=unknown,
        command=to_resume(run.run_id, module),
    )


def partition_of(run: DagsterRun) -> str | None:
    """The partition that a run makes, or the first and the last of its range."""
    start, end = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if start is not None and end is not None:
        return first_to_last([start, end])
    return run.tags.get(PARTITION_NAME_TAG)


def failed_steps(instance: DagsterInstance, run: DagsterRun) -> dict[str, Cause | None]:
    """The steps of a run that failed, and why; where none could say so, those that were at work when it ended."""
    failed: dict[str, Cause | None] = {}
    at_work: dict[str, None] = {}
    for entry in instance.all_logs(run.run_id, of_type=STARTS | _ENDS | {DagsterEventType.STEP_FAILURE}):
        event, key = entry.get_dagster_event(), entry.step_key or ""
        at_work.pop(key, None)
        if event.event_type in STARTS:
            at_work[key] = None
        elif event.event_type is DagsterEventType.STEP_FAILURE:
            failed[key] = first_error(event.step_failure_data.error)
        else:
            failed.pop(key, None)
    return failed or dict(at_work)


def _why_ended(instance: DagsterInstance, run: DagsterRun) -> Cause:
    """What the event says with which a run ended."""
    for entry in reversed(instance.all_logs(run.run_id, of_type=_RUN_ENDS)):
        event = entry.get_dagster_event()
        error = first_error(getattr(event.event_specific_data, "error", None))
        if error is not None and _INTERRUPTED not in error.error:
            return error
        if event.message:
            return Cause("", event.message.splitlines()[0])
    return Cause("", "it was stopped" if run.status is DagsterRunStatus.CANCELED else f"it is {run.status.value}")
