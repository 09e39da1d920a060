"""What a rollback leaves to be made again: derived from tables and events whenever somebody looks, never stored."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, JobDefinition
from dagster._core.definitions.partitions.context import partition_loading_context

from pipeline_assets import checkpoints
from pipeline_assets.chains import chain_of
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.io.outputs import Output
from pipeline_assets.recovery.tables import outputs_of

STALE, BEHIND, KEPT = "stale", "behind", "kept"
_PAGE = 500


@dataclass(frozen=True)
class Owed:
    """A stage's partition that is to be made again, in the order of the list.

    why: `stale` (made from undone data), `behind` (older than its inputs, after it was restored or they were), `kept` (a
    chain ended green by keeping what is undone). inputs: which ones. run: of `kept` the chain's newest such run, to resume.
    """

    stage: str
    partition: str
    why: str
    inputs: tuple[str, ...] = ()
    run: str | None = None


def owed(instance: DagsterInstance, job: JobDefinition) -> list[Owed]:
    """What is owed in the tables of a job's assets, in the order in which it is to be made."""
    looking = Looking(instance, job)
    found: list[Owed] = []
    for key in job.asset_layer.asset_graph.toposorted_asset_keys:
        output = looking.outputs.get(key.to_user_string())
        table = looking.table(output.name) if output is not None else None
        if output is None or table is None:
            continue
        with partition_loading_context(dynamic_partitions_store=instance):
            for partition in sorted(table.written_partitions(output.name)):
                one = looking.judge(output, table, partition)
                if one is not None:
                    found.append(one)
        found += _kept(instance, output, table)
    return found


def owed_after(instance: DagsterInstance, job: JobDefinition, stages: Iterable[str]) -> list[Owed]:
    """The same, of some stages (their names) and all that is made from them."""
    children = job.asset_layer.asset_graph
    found, left = set[AssetKey](), [AssetKey(stage.split("/")) for stage in stages]
    while left:
        key = left.pop()
        if key not in found and children.has(key):
            found.add(key)
            left += children.get(key).child_keys
    return [one for one in owed(instance, job) if AssetKey(one.stage.split("/")) in found]


@dataclass
class Looking:
    """Tables that are open, and what was found of checkpoints."""

    instance: DagsterInstance
    job: JobDefinition
    tables: dict[str, Table | None] = field(default_factory=dict)
    stale: dict[Name, bool] = field(default_factory=dict)

    @cached_property
    def outputs(self) -> dict[str, Output]:
        """What the job's assets write through IO managers of ours."""
        return outputs_of(self.instance, self.job)

    def table(self, name: str) -> Table | None:
        """The table of an output, as it is at first sight."""
        if name not in self.tables:
            self.tables[name] = open_table(self.outputs[name].location) if name in self.outputs else None
        return self.tables[name]

    def judge(self, output: Output, table: Table, partition: str) -> Owed | None:
        """Whether a partition is stale or behind."""
        parts = parts_at(table, output, [partition], table.version)[partition]
        if not parts:
            inputs = self._inputs_there(output, partition)
            return Owed(output.name, partition, BEHIND, inputs) if inputs else None
        stale = [name for part in parts for name in part.pins if self.read_undone(output, partition, part, name)]
        if stale:
            return Owed(output.name, partition, STALE, tuple(dict.fromkeys(stale)))
        if output.mode is not Mode.OVERWRITE:
            return None
        behind = [name for name in parts[0].pins if self._moved_on(output, partition, parts[0], name)]
        return Owed(output.name, partition, BEHIND, tuple(behind)) if behind else None

    def read_undone(self, output: Output, partition: str, part: Part, name: str) -> bool:
        """Whether something that a checkpoint read of an input was undone, or made from what was."""
        table = self._input(part, name)
        if table is None:
            return False
        read = self.keys_read(output, partition, name)
        undone = table.undone()
        for key, parts in parts_at(table, self.outputs[name], read, part.pins[name].version).items():
            for one in parts:
                made = one.name(name, key)
                if made in undone or self._is_stale(self.outputs[name], key, one):
                    return True
        return False

    def _is_stale(self, output: Output, partition: str, part: Part) -> bool:
        name = part.name(output.name, partition)
        if name not in self.stale:
            self.stale[name] = False
            self.stale[name] = any(self.read_undone(output, partition, part, one) for one in part.pins)
        return self.stale[name]

    def _moved_on(self, output: Output, partition: str, part: Part, name: str) -> bool:
        """Whether an input shows other checkpoints now than those that were read: equal data is no change."""
        table = self._input(part, name)
        if table is None:
            return False
        read = self.keys_read(output, partition, name)
        then = parts_at(table, self.outputs[name], read, part.pins[name].version)
        return _named(name, then) != _named(name, parts_at(table, self.outputs[name], read, table.version))

    def _input(self, part: Part, name: str) -> Table | None:
        """The table of an input, where it is one of ours and the one that was read."""
        table = self.table(name)
        return table if table is not None and table.is_ours and table.id == part.pins[name].table_id else None

    def _inputs_there(self, output: Output, partition: str) -> tuple[str, ...]:
        """The inputs of a partition in which nothing is, where all of ours have something."""
        if output.asset_key is None:
            return ()
        names = [key.to_user_string() for key in self.job.asset_layer.get(output.asset_key).parent_keys]
        ours = {name: table for name in names if name in self.outputs and (table := self.table(name)) is not None}
        there = [
            any(parts_at(table, self.outputs[name], self.keys_read(output, partition, name), table.version).values())
            for name, table in ours.items()
        ]
        return tuple(sorted(ours)) if there and all(there) else ()

    def keys_read(self, output: Output, partition: str, name: str) -> list[str]:
        """The partitions of an input that a partition of an output reads."""
        upstream = self.outputs[name]
        if upstream.partitions_def is None:
            return [WHOLE]
        graph = self.job.asset_layer.asset_graph
        child, parent = output.asset_key, upstream.asset_key
        if child is None or parent is None or parent not in graph.get(child).parent_keys:
            return [partition] if upstream.partitions_def == output.partitions_def else []
        key = None if partition == WHOLE else partition
        return list(
            graph.get_parent_partition_keys_for_child(key, parent, child).partitions_subset.get_partition_keys()
        )


def parts_at(table: Table, output: Output, keys: Iterable[str], version: int) -> dict[str, list[Part]]:
    """Whose data each of some partitions shows at a version, newest first, as far as the log goes."""
    found: dict[str, list[Part]] = {key: [] for key in keys}
    left, undone = set(found), set[Name]()
    for _, record in table.records(output.name, version):
        undone |= set(record.undone)
        for key in left & record.parts.keys():
            part = record.parts[key]
            shows = record.kind != "restore" or record.mode is Mode.OVERWRITE
            if part is not None and shows and part.name(output.name, key) not in undone:
                found[key].append(part)
            if record.mode is Mode.OVERWRITE:
                left.discard(key)
        if not left:
            break
    return found


def _named(output: str, parts: dict[str, list[Part]]) -> set[Name]:
    return {part.name(output, key) for key, ones in parts.items() for part in ones}


def _kept(instance: DagsterInstance, output: Output, table: Table) -> list[Owed]:
    """Chains whose newest word on a partition is that they kept, or skipped, what is undone now."""
    undone = {name for name in table.undone() if name.output == output.name}
    if not undone or output.asset_key is None:
        return []
    found: list[Owed] = []
    seen: set[tuple[str, str]] = set()
    for partition in sorted({name.partition for name in undone}):
        live = table.live(output.name, partition)
        newest = live.part.attempt if live is not None and live.part is not None else 0
        for run_id, flagged, checkpoint in _told(instance, output.asset_key, partition):
            run = instance.get_run_by_id(run_id)
            if run is None or (key := (chain_of(instance, run).first, partition)) in seen:
                continue
            seen.add(key)
            name = checkpoint.part.name(output.name, partition)
            if flagged and name in undone and newest <= name.attempt:
                found.append(Owed(output.name, partition, KEPT, run=run_id))
    return found


def _told(
    instance: DagsterInstance, asset_key: AssetKey, partition: str
) -> Iterable[tuple[str, bool, checkpoints.Checkpoint]]:
    """What runs said of a partition, newest first: the run, whether it kept or skipped, and which checkpoint."""
    keys = None if partition == WHOLE else [partition]
    found = instance.fetch_materializations(AssetRecordsFilter(asset_key=asset_key, asset_partitions=keys), _PAGE)
    for record in found.records:
        event = record.asset_materialization
        checkpoint = checkpoints.checkpoint_of(event, record.storage_id) if event is not None else None
        if event is not None and checkpoint is not None and record.run_id:
            yield record.run_id, bool({checkpoints.KEPT, checkpoints.SKIPPED} & event.metadata.keys()), checkpoint
