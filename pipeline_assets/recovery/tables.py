"""The tables of a pipeline, outside of any run: which assets our IO managers write, and where."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey, DagsterInstance, DagsterRun, JobDefinition
from dagster._core.definitions.repository_definition import RepositoryDefinition

from pipeline_assets.chains import steps_of
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.errors import ConfigurationError, PermanentError
from pipeline_assets.io.outputs import Output, of_asset
from pipeline_assets.recovery.plan import keys_of, settings_by_resource

Outputs = Mapping[str, Output]
"""Outputs by their name, which is the asset's key."""


class NoSuchStage(PermanentError):
    """A stage that the code location does not have; nothing was changed."""

    def __init__(self, names: Iterable[str], known: Iterable[str]) -> None:
        self.names = sorted(names)
        super().__init__(
            f"The code location has no stage {', '.join(self.names)} that an IO manager of ours writes; it has "
            f"{', '.join(sorted(known))}. Nothing was changed; name it as it is, bring it back, or name its code location "
            "with -m MODULE."
        )


@dataclass(frozen=True)
class Handles:
    """Tables that one operation has open, by stage: a refresh costs a fraction of opening a table again."""

    opened: dict[str, Table] = field(default_factory=dict)

    def newest(self, output: Output) -> Table | None:
        """A stage's table at its newest version; None where there is none. Raises DamagedTable, also where it was dropped."""
        table = self.opened.get(output.name)
        if table is not None:
            table.refresh()
            return table
        table = open_table(output.location)
        if table is not None:
            self.opened[output.name] = table
        return table


def job_of_all(repository: RepositoryDefinition) -> JobDefinition:
    """The job that has every asset of a code location. Raises ConfigurationError where it has none."""
    if not repository.has_implicit_global_asset_job_def():
        raise ConfigurationError(
            "The code location has no assets, only jobs of ops, whose outputs have no history. Nothing was changed; "
            "`dagster run list` shows their runs, and `pipeline-assets resume RUN` continues one."
        )
    return repository.get_implicit_global_asset_job_def()


def outputs_of(
    instance: DagsterInstance, job: JobDefinition, run_config: Mapping[str, Any] | None = None
) -> dict[str, Output]:
    """What the assets of a job write through IO managers of ours."""
    known: dict[str, Output] = {}
    settings = settings_by_resource(instance, job, run_config or {})
    for key in job.asset_layer.executable_asset_keys:
        node = job.asset_layer.get(key)
        io = settings.get(node.io_manager_key or "io_manager")
        if io is not None:
            known[key.to_user_string()] = of_asset(key, node.metadata, node.partitions_def, io)
    return known


def planned_by(
    instance: DagsterInstance, runs: Sequence[DagsterRun], job: JobDefinition, outputs: Outputs
) -> dict[str, set[str]]:
    """For each output the partitions that some runs set out to write. Raises NoSuchStage for one that is there no more."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for key in assets_planned(instance, run):
            name = key.to_user_string()
            if name in outputs:
                found.setdefault(name, set()).update(keys_of(instance, run, outputs[name].partitions_def))
            elif key not in job.asset_layer.executable_asset_keys:
                raise NoSuchStage([name], outputs)
    return found


def roots_of(outputs: Iterable[Output]) -> list[Location]:
    """The roots that they lie below."""
    return list({output.settings.root.uri: output.settings.root for output in outputs}.values())


def root_of(outputs: Iterable[Output]) -> Location:
    """The root that all of them lie below. Raises ConfigurationError where there are several, or none."""
    roots = roots_of(outputs)
    if len(roots) != 1:
        names = ", ".join(sorted(one.uri for one in roots)) or "no IO manager of ours is there"
        raise ConfigurationError(
            f"The stages lie below {len(roots)} roots ({names}), and a rollback is of one. Nothing was changed; name a stage "
            "with --stage."
        )
    return roots[0]


def with_downstream(job: JobDefinition, keys: Iterable[AssetKey]) -> set[AssetKey]:
    """Assets, and all that is made from them, of those that the job knows."""
    graph = job.asset_layer.asset_graph
    found: set[AssetKey] = set()
    left = list(keys)
    while left:
        key = left.pop()
        if key not in found and graph.has(key):
            found.add(key)
            left += graph.get(key).child_keys
    return found


def assets_planned(instance: DagsterInstance, run: DagsterRun) -> set[AssetKey]:
    """The assets that a run set out to make."""
    return {key for keys in assets_by_step(instance, run).values() for key in keys}


def assets_by_step(instance: DagsterInstance, run: DagsterRun) -> dict[str, list[AssetKey]]:
    """For each step of a run, in their order, the assets that it makes."""
    if run.execution_plan_snapshot_id is None:
        return {}
    snapshot = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    steps = {step.key: step for step in snapshot.steps}
    chosen = steps_of(instance, run)
    found: dict[str, list[AssetKey]] = {}
    for key in snapshot.step_keys_to_execute:
        if key in chosen and key in steps:
            made = (out.properties.asset_key for out in steps[key].outputs if out.properties is not None)
            found[key] = list(dict.fromkeys(one for one in made if one is not None))
    return found


def steps_planned(instance: DagsterInstance, run: DagsterRun) -> dict[AssetKey, str]:
    """For each asset that a run set out to make the step that makes it."""
    return {key: step for step, keys in assets_by_step(instance, run).items() for key in keys}
