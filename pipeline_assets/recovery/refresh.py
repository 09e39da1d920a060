"""Making again what is owed, in order, as new runs through the job; chains that kept what is undone go on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dagster import AssetKey, DagsterInstance, DagsterRun, JobDefinition
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.delta.names import WHOLE
from pipeline_assets.recovery.code_location import definition_of
from pipeline_assets.recovery.launch import Part, created_run
from pipeline_assets.recovery.owed import KEPT, Owed, owed_after
from pipeline_assets.recovery.resume import created
from pipeline_assets.recovery.supervising import Stop, executed, supervise

REFRESHES_TAG = "pipeline_assets/refreshes"
"""Of a run that makes again what a rollback has left to be made: the rollback's id."""


@dataclass(frozen=True)
class Refreshed:
    """The runs that made it, in order, whether the last succeeded, and what is owed still."""

    runs: Sequence[str]
    success: bool
    left: Sequence[Owed]


def refresh(
    instance: DagsterInstance, job: JobDefinition | ReconstructableJob, rollback: int, stages: Iterable[str]
) -> Refreshed:
    """Make again what is owed after a rollback of some stages, until nothing is or a run fails.

    A run makes the stages of one partition, in a process of its own where that could load the job (a reconstructable one).
    Raises NotResumable.
    """
    definition = definition_of(job)
    runs: list[str] = []
    stages = list(stages)
    left = owed_after(instance, definition, stages)
    seen: list[Sequence[Owed]] = []
    stop = Stop()
    while left and left not in seen:
        seen.append(left)
        with stop.listening():
            run_id, success = _make(instance, job, left, rollback, stop)
        runs += [run_id] if run_id is not None else []
        left = owed_after(instance, definition, stages)
        if not success:
            return Refreshed(runs, False, left)
    return Refreshed(runs, True, left)


def owing(
    instance: DagsterInstance,
    job: JobDefinition | ReconstructableJob,
    rollback: int,
    stages: Iterable[str],
    *,
    make: bool,
) -> Refreshed:
    """What is owed after a rollback of some stages; make: it is made again. Raises as `refresh`."""
    if make:
        return refresh(instance, job, rollback, stages)
    return Refreshed([], True, owed_after(instance, definition_of(job), stages))


def _make(
    instance: DagsterInstance, job: JobDefinition | ReconstructableJob, left: Sequence[Owed], rollback: int, stop: Stop
) -> tuple[str | None, bool]:
    """The first that is owed, and what else is of its partition; the run that made it and whether it succeeded."""
    first = left[0]
    if first.why == KEPT:
        assert first.run is not None
        continued = created(instance, first.run, job)
        return _ended(executed(instance, continued, stop)) if continued.run is not None else (None, True)
    stages = dict.fromkeys(one.stage for one in left if one.partition == first.partition and one.why != KEPT)
    selection = [AssetKey(stage.split("/")) for stage in stages]
    partition = {} if first.partition == WHOLE else {PARTITION_NAME_TAG: first.partition}
    tags = {REFRESHES_TAG: str(rollback), **partition}
    if isinstance(job, ReconstructableJob):
        run = created_run(instance, job, frozenset(selection), Part(None, tags), {})
        return _ended(supervise(instance, run, stop))
    ran = job.execute_in_process(instance=instance, tags=tags, asset_selection=selection, raise_on_error=False)
    return ran.run_id, ran.success


def _ended(run: DagsterRun | None) -> tuple[str | None, bool]:
    return (run.run_id, run.is_success) if run is not None else (None, True)
