"""What is left of a run chain: the steps that it planned, what became of each, and what a resume would run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster import DagsterInstance, DagsterRun, JobDefinition
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from pipeline_assets.chains import Chain, chain_of, steps_of, succeeded
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.table import Live, Table, open_table
from pipeline_assets.hearing import hear
from pipeline_assets.io_manager import CheckpointIOManager
from pipeline_assets.outputs import Output, Settings, of_asset


@dataclass(frozen=True)
class Written:
    """An output of a step that goes into a table of ours, with the partition keys that the run writes."""

    output: Output
    keys: Sequence[str]


@dataclass(frozen=True)
class Committed:
    """What the chain has live in a table."""

    written: Written
    table: Table
    live: Mapping[str, Live]

    @property
    def complete(self) -> bool:
        """Whether that is all that the step writes there."""
        return set(self.written.keys) <= set(self.live)


@dataclass(frozen=True)
class StepState:
    """A step of the chain. state: `succeeded`, `committed` (its event was lost), or `left`."""

    key: str
    state: str
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a resume of a run would do."""

    run: DagsterRun
    chain: Chain
    steps: Sequence[StepState]

    @property
    def to_run(self) -> list[str]:
        """Keys of the steps that are run."""
        return [step.key for step in self.steps if step.state == "left"]


def plan_of(instance: DagsterInstance, run: DagsterRun, job: JobDefinition) -> Plan:
    """What is left of the chain that a run is the newest of. What it committed without an event gets its event."""
    chain = chain_of(instance, run)
    planned = planned_steps(instance, chain)
    done = succeeded(instance, chain)
    job = _subset(job, run)
    execution = create_execution_plan(job, run.run_config, tags=run.tags)
    states = []
    with settings_by_resource(instance, job, run.run_config) as settings:
        for key in [step.key for step in execution.get_all_steps_in_topo_order() if step.key in planned]:
            if key in done:
                states.append(StepState(key, "succeeded"))
                continue
            found = [committed_by(chain, one) for one in written_by(execution, key, run, job, settings)]
            adopted = [one for one in found if one is not None]
            for one in adopted:
                hear(instance, one.written.output, one.table, one.live)
            versions = {
                one.written.output.name: max(live.version for live in one.live.values()) for one in adopted if one.live
            }
            whole = (
                bool(found) and _only_tables(execution, key, len(found)) and all(one and one.complete for one in found)
            )
            states.append(StepState(key, "committed" if whole else "left", versions))
    return Plan(run, chain, states)


def planned_steps(instance: DagsterInstance, chain: Chain) -> set[str]:
    """All steps that the chain set out to execute."""
    planned: set[str] = set()
    for run_id in chain.runs:
        run = instance.get_run_by_id(run_id)
        if run is not None:
            planned |= steps_of(instance, run)
    return planned


def committed_by(chain: Chain, written: Written) -> Committed | None:
    """What of an output the chain has live in its table, and was not undone; None where there is no table."""
    table = open_table(written.output.location)
    if table is None:
        return None
    live: dict[str, Live] = {}
    undone = table.undone()
    for key in written.keys:
        found = table.live(written.output.name, key)
        if found is None or found.part is None or chain_id(found.part.chain) != chain.number:
            continue
        if found.part.name(written.output.name, key) not in undone:
            live[key] = found
    return Committed(written, table, live)


def written_by(
    execution: ExecutionPlan,
    step_key: str,
    run: DagsterRun,
    job: JobDefinition,
    settings: Mapping[str, Settings],
) -> list[Written]:
    """The assets that a step writes through an IO manager of ours."""
    found = []
    for output in execution.get_step_by_key(step_key).step_outputs:
        asset_key = output.properties.asset_key
        if asset_key is None:
            continue
        node = job.asset_layer.get(asset_key)
        if (io := settings.get(node.io_manager_key or "io_manager")) is not None:
            definition = node.partitions_def
            found.append(Written(of_asset(asset_key, node.metadata, definition, io), keys_of(run, definition)))
    return found


def keys_of(run: DagsterRun, definition: dg.PartitionsDefinition[Any] | None) -> list[str]:
    """The partition keys of an asset that a run writes."""
    if definition is None:
        return [WHOLE]
    start, end = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if start is not None and end is not None:
        return list(definition.get_partition_keys_in_range(dg.PartitionKeyRange(start, end)))
    return [run.tags[PARTITION_NAME_TAG]] if PARTITION_NAME_TAG in run.tags else []


@contextmanager
def settings_by_resource(
    instance: DagsterInstance, job: JobDefinition, run_config: Mapping[str, Any]
) -> Iterator[dict[str, Settings]]:
    """The configuration of each of our IO managers, by its resource key."""
    keys = {job.asset_layer.get(key).io_manager_key or "io_manager" for key in job.asset_layer.executable_asset_keys}
    wanted = {key: job.resource_defs[key] for key in keys if key in job.resource_defs}
    config = {key: one for key, one in (run_config.get("resources") or {}).items() if key in wanted}
    with dg.build_resources(wanted, instance=instance, resource_config=config) as built:
        found = {key: getattr(built, key) for key in wanted}
        yield {key: one.settings for key, one in found.items() if isinstance(one, CheckpointIOManager)}


def _subset(job: JobDefinition, run: DagsterRun) -> JobDefinition:
    if run.asset_selection:
        return job.get_subset(asset_selection=run.asset_selection)
    return job.get_subset(op_selection=run.op_selection) if run.op_selection else job


def _only_tables(execution: ExecutionPlan, step_key: str, tables: int) -> bool:
    """Whether the step has no other outputs, as the results of checks, for which it has to run once more."""
    return len(execution.get_step_by_key(step_key).step_outputs) == tables
