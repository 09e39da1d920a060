"""Making again what is owed, in order, as new runs through the job; chains that kept what is undone go on."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster import AssetKey, DagsterInstance, DagsterRun, JobDefinition
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import Part as Made
from pipeline_assets.delta.table import open_table
from pipeline_assets.errors import describe
from pipeline_assets.policy.commands import to_resume
from pipeline_assets.recovery.code_location import QUIET, definition_of
from pipeline_assets.recovery.launch import NotStarted, Part, created_run
from pipeline_assets.recovery.owed import KEPT, STALE, Owed, owed_after
from pipeline_assets.recovery.plan import NotResumable
from pipeline_assets.recovery.resume import created
from pipeline_assets.recovery.supervising import Output, Stop, executed, supervise
from pipeline_assets.recovery.tables import outputs_of

REFRESHES_TAG = "pipeline_assets/refreshes"
"""Of a run that makes again what a rollback has left to be made: the rollback's id."""


@dataclass(frozen=True)
class Refreshed:
    """The runs that made it, in order, whether the last succeeded, what is owed still; and why a run could not be started."""

    runs: Sequence[str]
    success: bool
    left: Sequence[Owed]
    refused: str = ""

    @property
    def failure(self) -> str:
        """Of what it failed, and what continues it."""
        last = "".join(self.runs[-1:])
        return self.refused or f"Run {last} failed; `{to_resume(last)}`."


def refresh(
    instance: DagsterInstance,
    job: JobDefinition | ReconstructableJob,
    rollback: int,
    stages: Iterable[str],
    output: Output | None = None,
) -> Refreshed:
    """Make again what is owed after a rollback of some stages, until nothing is or a run fails.

    A run makes the stages of one partition, in a process of its own where that could load the job (a reconstructable one).
    It is configured as those were that made what is live there; it is not started where one of those was deleted. output: is
    told what such a process prints; else that goes to stderr.
    """
    definition = definition_of(job)
    runs: list[str] = []
    stages = list(stages)
    left = owed_after(instance, definition, stages)
    seen: list[Sequence[Owed]] = []
    stop = Stop()
    while (makeable := _makeable(left)) and left not in seen:
        seen.append(left)
        try:
            with stop.listening():
                run_id, success = _make(instance, job, makeable, rollback, stop, output)
        except (NotStarted, NotResumable, DagsterInvalidConfigError) as error:
            return Refreshed(runs, False, left, str(error))
        runs += [run_id] if run_id is not None else []
        left = owed_after(instance, definition, stages)
        if not success:
            return Refreshed(runs, False, left)
    if any(one.waits for one in left):
        return Refreshed(runs, False, left, " ".join(_why_it_waits(left)))
    return Refreshed(runs, True, left)


def _makeable(left: Sequence[Owed]) -> list[Owed]:
    """Of what is owed what is mended by making it again: not what waits, nor what was made from that alone."""
    stays: set[str] = set()
    found = []
    for one in left:
        if one.waits or (one.why == STALE and set(one.inputs) <= stays):
            stays.add(one.stage)
        else:
            found.append(one)
    return found


def _why_it_waits(left: Sequence[Owed]) -> Iterator[str]:
    added = [one for one in left if one.undo]
    if added:
        yield (
            f"{_named(added)} was added to what was there, and would stay, or be there twice; or of what it was made from "
            f"nothing is there. Nothing was started for it; {_mends(added)} takes out what was made from what is undone."
        )
    lacking = [one for one in left if one.waits and not one.undo]
    if lacking:
        yield (
            f"Of what {_named(lacking)} was made from nothing is there any more. Nothing was started for it; "
            f"{_mends(lacking)} makes that again first."
        )


def _named(some: Sequence[Owed]) -> str:
    return ", ".join(describe(one.stage, one.partition) for one in some)


def _mends(some: Sequence[Owed]) -> str:
    return ", ".join(dict.fromkeys(command for one in some for command in one.mends))


def owing(
    instance: DagsterInstance,
    job: JobDefinition | ReconstructableJob,
    rollback: int,
    stages: Iterable[str],
    *,
    make: bool,
    output: Output | None = None,
) -> Refreshed:
    """What is owed after a rollback of some stages; make: it is made again, as by `refresh`."""
    if make:
        return refresh(instance, job, rollback, stages, output)
    return Refreshed([], True, owed_after(instance, definition_of(job), stages))


def _make(
    instance: DagsterInstance,
    job: JobDefinition | ReconstructableJob,
    left: Sequence[Owed],
    rollback: int,
    stop: Stop,
    output: Output | None,
) -> tuple[str | None, bool]:
    """The first that is owed, and what else is of its partition; the run that made it and whether it succeeded."""
    first = left[0]
    if first.why == KEPT:
        assert first.run is not None
        continued = created(instance, first.run, job, QUIET)
        return _ended(executed(instance, continued, stop, output=output)) if continued.run is not None else (None, True)
    stages = dict.fromkeys(one.stage for one in left if one.partition == first.partition and one.why != KEPT)
    selection = [AssetKey(stage.split("/")) for stage in stages]
    partition = {} if first.partition == WHOLE else {PARTITION_NAME_TAG: first.partition}
    tags = {REFRESHES_TAG: str(rollback), **partition}
    config = _config(instance, definition_of(job), selection, first.partition)
    if isinstance(job, ReconstructableJob):
        run = created_run(instance, job, frozenset(selection), Part(None, tags), config, QUIET)
        return _ended(supervise(instance, run, stop, output=output))
    ran = job.execute_in_process(config, instance=instance, tags=tags, asset_selection=selection, raise_on_error=False)
    return ran.run_id, ran.success


def _config(
    instance: DagsterInstance, definition: JobDefinition, selection: Sequence[AssetKey], partition: str
) -> dict[str, Any]:
    """What the runs said of a selection's ops and resources that made what is live there; the newest one's word counts.

    Raises NotStarted where one of them was deleted.
    """
    subset = definition.get_subset(asset_selection=set(selection))
    wanted = {"ops": {node.name for node in subset.nodes}, "resources": set(subset.resource_defs)}
    found: dict[str, dict[str, Any]] = {}
    for key, part in _live(instance, definition, selection, partition):
        run = instance.get_run_by_id(part.run)
        if run is None:
            raise NotStarted(_unknown(definition, key, part.run, selection, partition))
        for section, names in wanted.items():
            config: Mapping[str, Any] = run.run_config
            said: Mapping[str, Any] = config.get(section) or {}
            found.setdefault(section, {}).update({name: value for name, value in said.items() if name in names})
    return {section: said for section, said in found.items() if said}


def _live(
    instance: DagsterInstance, definition: JobDefinition, selection: Sequence[AssetKey], partition: str
) -> list[tuple[AssetKey, Made]]:
    """What runs have made that is live in a partition of some stages, the newest last."""
    outputs = outputs_of(instance, definition)
    found = []
    for key in selection:
        table = open_table(outputs[key.to_user_string()].location)
        live = table.live(key.to_user_string(), partition) if table is not None else None
        if live is not None and live.part is not None and live.part.run:
            found.append((key, live.part))
    return sorted(found, key=lambda one: one[1].attempt)


def _unknown(definition: JobDefinition, key: AssetKey, run: str, selection: Sequence[AssetKey], partition: str) -> str:
    graph = definition.asset_layer.asset_graph
    groups = {graph.get(one).group_name for one in selection}
    pipeline = groups.pop() if len(groups) == 1 else definition.name
    keys = " or ".join(f'key:"{one.to_user_string()}"' for one in selection)
    chosen = "" if partition == WHOLE else f" --partition {shlex.quote(partition)}"
    name = describe(key.to_user_string(), partition)
    return (
        f"Run {run}, which made what is there of {name}, was deleted, so it is not known how it was configured. Nothing was "
        f"started; `pipeline-assets run {pipeline} --select '{keys}'{chosen}` makes it, with --config FILE where it is to be "
        "configured."
    )


def _ended(run: DagsterRun | None) -> tuple[str | None, bool]:
    return (run.run_id, run.is_success) if run is not None else (None, True)
