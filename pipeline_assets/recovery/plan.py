"""What is left of a run chain: the steps that it planned, what became of each, and what a resume would run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster import AssetKey, DagsterInstance, DagsterRun, JobDefinition
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.errors import DagsterInvalidConfigError, DagsterRunNotFoundError
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.state import KnownExecutionState, _derive_state_from_logs
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from pipeline_assets.chains import Chain, chain_of, steps_of, succeeded
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.errors import PermanentError
from pipeline_assets.io.hearing import hear
from pipeline_assets.io.merge_config import WriteMode
from pipeline_assets.io.outputs import Settings, of_asset
from pipeline_assets.io.step_outputs import Written
from pipeline_assets.io_manager import CheckpointIOManager, DeltaCheckpointIOManager
from pipeline_assets.recovery.chain_tables import Committed, committed_by, is_removed, taken_back
from pipeline_assets.recovery.places import elsewhere

FINISHED, COMMITTED, LEFT, AGAIN = "finished", "committed", "left", "again"


class NotResumable(PermanentError):
    """A run that cannot, or need not, be continued; nothing was changed."""


@dataclass(frozen=True)
class Kept:
    """What a step that is run will leave as it is in a partition, since it was made from newer inputs, or the same later.

    version: of the table. chain: the run whose chain made it.
    """

    output: str
    partition: str
    version: int
    chain: str


@dataclass(frozen=True)
class StepState:
    """A step of the chain.

    name: the assets that it makes, or its own key. state: `finished`, `committed` (its event was lost), `left`, or `again`
    (finished, and to be made again). versions: of its tables, where what the chain wrote is live. undone: a rollback took
    back what it had finished. removed: a table of it is there no more. made: when it succeeded, seconds since 1970. why: it
    is run, or stays where it would be. seconds: how long it took of late, None where nobody knows. changed: what is another
    now than when it was made, `code` or `configuration`. keeps: what a newer chain has put there. written: the outputs that
    it writes into tables of ours. committed: what the chain, and others, have live in them.
    """

    key: str
    name: str
    state: str
    versions: Mapping[str, int] = field(default_factory=dict)
    undone: bool = False
    removed: bool = False
    made: float | None = None
    why: str = ""
    seconds: float | None = None
    changed: tuple[str, ...] = ()
    keeps: tuple[Kept, ...] = ()
    written: Sequence[Written] = field(default=(), repr=False, compare=False)
    committed: Sequence[Committed] = field(default=(), repr=False, compare=False)

    @property
    def is_run(self) -> bool:
        """Whether a resume runs it."""
        return self.state in {LEFT, AGAIN}

    @property
    def stays_by(self) -> str:
        """The write mode by which it would not replace what is there, but add to it, fail or do nothing; else nothing."""
        modes = (one.output.write_mode for one in self.written)
        return next((mode.value for mode in modes if mode is not WriteMode.overwrite), "")

    @property
    def needs_its_chain(self) -> bool:
        """Whether, run in another chain, it would add once more, or might replace what in this one is kept or adopted."""
        beside = any(one.others and len(one.written.keys) > 1 for one in self.committed)
        return bool(self.stays_by or self.keeps or beside)


@dataclass(frozen=True)
class Plan:
    """What a resume of a run would do.

    execution, config: the job's plan of all steps, and the run's configuration. made_from: a digest of all that it follows
    from (16 hex digits): the chain's runs, its steps' states and versions, the code location's steps, the configuration.
    """

    run: DagsterRun
    chain: Chain
    steps: Sequence[StepState]
    known: KnownExecutionState
    execution: ExecutionPlan = field(repr=False, compare=False)
    config: Mapping[str, Any] = field(repr=False, compare=False)
    made_from: str = ""

    @property
    def to_run(self) -> list[str]:
        """Keys of the steps that are run."""
        return [step.key for step in self.steps if step.is_run]

    @property
    def begins(self) -> bool:
        """Whether it is a chain of its own that runs them, since it makes again what was finished."""
        return any(step.state == AGAIN for step in self.steps)

    @property
    def seconds(self) -> float | None:
        """How long that takes by earlier durations, one step after the other; None where nobody knows."""
        known = [step.seconds for step in self.steps if step.is_run]
        return sum(one for one in known if one is not None) if None not in known else None


def plan_of(
    instance: DagsterInstance, run: DagsterRun, job: JobDefinition, config: Mapping[str, Any] | None = None
) -> Plan:
    """What is left of the chain that a run is the newest of, for its job with the run's selection. Raises NotResumable.

    config: the run configuration, where it is not the run's own.
    """
    config = run.run_config if config is None else config
    chain = chain_of(instance, run)
    done = succeeded(instance, chain)
    execution = create_execution_plan(job, config, tags=run.tags)
    retry, known = _by_the_log(instance, run)
    states = []
    settings = settings_by_resource(instance, job, config)
    for key in _planned(instance, chain, execution):
        written = written_by(instance, execution, key, run, job, settings)
        found = [committed_by(chain, one) for one in written]
        _refuse_elsewhere(instance, chain, found)
        undone = any(taken_back(instance, chain, one) for one in found)
        adopted = [one for one in found if one.live]
        versions = {one.written.output.name: max(live.version for live in one.live.values()) for one in adopted}
        for one in _resolved(key, retry):
            removed = one in done and any(is_removed(instance, chain, other) for other in found)
            state = FINISHED if one in done and not (undone or removed) else LEFT
            if state == LEFT and _only_tables(execution, key, len(found)) and all(o.complete for o in found):
                state = COMMITTED
            name = _name_of(execution, key) or one
            taken = one in done and undone
            states.append(StepState(one, name, state, versions, taken, removed, written=written, committed=found))
    return Plan(run, chain, states, known, execution, config)


def record(instance: DagsterInstance, plan: Plan) -> None:
    """Give what the chain committed without an event its event."""
    for step in plan.steps:
        if step.state != FINISHED:
            for one in step.committed:
                if one.table is not None:
                    hear(instance, one.written.output, one.table, one.live)


def _refuse_elsewhere(instance: DagsterInstance, chain: Chain, found: Sequence[Committed]) -> None:
    """Raise NotResumable where the chain wrote a table at another place than the code location has it now."""
    for one in found:
        if not one.live and (why := elsewhere(instance, chain.runs, one.written.output, one.table)) is not None:
            raise NotResumable(why)


def _by_the_log(instance: DagsterInstance, run: DagsterRun) -> tuple[Sequence[str], KnownExecutionState]:
    """What Dagster's log says is to be retried, mapped steps one by one, and what it knows of the others' outputs."""
    try:
        return _derive_state_from_logs(instance, run)
    except DagsterRunNotFoundError as error:
        raise NotResumable(
            f"A run that run {run.run_id} continues was deleted, and with it what is known of its steps ({error}). Nothing "
            "was changed; start a new run."
        ) from error


def _planned(instance: DagsterInstance, chain: Chain, execution: ExecutionPlan) -> list[str]:
    """All steps that the chain set out to execute, in their order. Raises NotResumable where one is there no more."""
    planned: set[str] = set()
    for run_id in chain.runs:
        run = instance.get_run_by_id(run_id)
        if run is not None:
            planned |= {unresolved(key) for key in steps_of(instance, run)}
    steps = [step.key for step in execution.get_all_steps_in_topo_order()]
    gone = sorted(planned - set(steps))
    if gone:
        raise NotResumable(
            f"Run {chain.runs[-1]} planned {', '.join(gone)}, which the code location has no more (renamed, removed?). "
            "Nothing was changed; bring it back, or start a new run."
        )
    return [key for key in steps if key in planned]


def unresolved(key: str) -> str:
    """`proc[?]` for the step `proc[k0]` of a dynamic graph."""
    name, bracket, _ = key.partition("[")
    return f"{name}[?]" if bracket else key


def _resolved(key: str, retry: Sequence[str]) -> list[str]:
    """A step, or of a mapped one those that the log says are to be retried."""
    if not key.endswith("[?]"):
        return [key]
    return [one for one in retry if unresolved(one) == key]


def written_by(
    instance: DagsterInstance,
    execution: ExecutionPlan,
    step_key: str,
    run: DagsterRun,
    job: JobDefinition,
    settings: Mapping[str, Settings],
) -> list[Written]:
    """The assets that a step writes through an IO manager of ours."""
    found = []
    for asset_key in assets_of(execution, step_key):
        node = job.asset_layer.get(asset_key)
        if (io := settings.get(node.io_manager_key or "io_manager")) is not None:
            output = of_asset(asset_key, node.metadata, node.partitions_def, io)
            found.append(Written(output, keys_of(instance, run, node.partitions_def)))
    return found


def keys_of(instance: DagsterInstance, run: DagsterRun, definition: dg.PartitionsDefinition[Any] | None) -> list[str]:
    """The partition keys of an asset that a run writes."""
    if definition is None:
        return [WHOLE]
    start, end = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if start is not None and end is not None:
        with partition_loading_context(dynamic_partitions_store=instance):
            return list(definition.get_partition_keys_in_range(dg.PartitionKeyRange(start, end)))
    return [run.tags[PARTITION_NAME_TAG]] if PARTITION_NAME_TAG in run.tags else []


def settings_by_resource(
    instance: DagsterInstance, job: JobDefinition, run_config: Mapping[str, Any]
) -> dict[str, Settings]:
    """The configuration of each of our IO managers that can be made, by its resource key. No other resource is."""
    wanted = {
        key: resource
        for key, resource in job.resource_defs.items()
        if issubclass(getattr(resource, "configurable_resource_cls", object), DeltaCheckpointIOManager)
    }
    config = run_config.get("resources") or {}
    found: dict[str, Settings] = {}
    for key, resource in wanted.items():
        own = {key: config[key]} if key in config else {}
        try:
            with dg.build_resources({key: resource}, instance, own) as built:
                manager = getattr(built, key)
        except DagsterInvalidConfigError:  # configured at launch, and here is no run that says how
            continue
        if isinstance(manager, CheckpointIOManager):
            found[key] = manager.settings
    return found


def assets_of(execution: ExecutionPlan, step_key: str) -> list[AssetKey]:
    """The assets that a step makes."""
    outputs = execution.get_step_by_key(step_key).step_outputs
    return [output.properties.asset_key for output in outputs if output.properties.asset_key is not None]


def _name_of(execution: ExecutionPlan, step_key: str) -> str:
    return ", ".join(key.to_user_string() for key in assets_of(execution, step_key))


def _only_tables(execution: ExecutionPlan, step_key: str, tables: int) -> bool:
    """Whether the step writes tables of ours, and nothing else, as the results of checks, for which it has to run."""
    return 0 < tables == len(execution.get_step_by_key(step_key).step_outputs)
