"""Whether what the tables show was made from what their inputs show now: stale, behind, or fresh."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from dagster import DagsterInstance, JobDefinition

from pipeline_assets import checkpoint_log
from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.table import Memory, Table, open_table
from pipeline_assets.errors import DamagedTable
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import reads_own_key
from pipeline_assets.recovery.tables import outputs_of

STALE, BEHIND = "stale", "behind"
OPENING = 4
"""How many tables are opened at once."""


class _Everything:
    """All partitions."""

    def __contains__(self, _: object) -> bool:
        return True


class Looking:
    """Tables that are open, and what was found of checkpoints; each table's log is looked at once.

    Of most partitions the logs' entries alone say that they are fresh; of the others the commits are read.
    """

    def __init__(self, instance: DagsterInstance, job: JobDefinition, *, through_damage: bool = False) -> None:
        """through_damage: a table that cannot be read counts as none, and is kept in `damaged`."""
        self.instance, self.job, self.through_damage = instance, job, through_damage
        self.outputs = outputs_of(instance, job)
        self.damaged: dict[str, DamagedTable] = {}
        self._tables: dict[str, Table | None] = {}
        self._stale: dict[Name, bool] = {}
        self._tainted: dict[str, set[str] | _Everything] = {}
        self._ahead: dict[str, Future[Table | None]] = {}
        # What is asked once for each partition of a table.
        self.versions = cache(lambda name: self._entries(names.data, name))
        self.chains = cache(lambda name: self._entries(names.chain, name))
        self._inputs = cache(self._inputs_of)
        self.undone = cache(self._undone_of)

    def open_ahead(self, stages: Iterable[str]) -> None:
        """Begin to open the tables of some stages, while something else is asked."""
        pool = ThreadPoolExecutor(OPENING)
        self._ahead = {name: pool.submit(self._opened, name) for name in stages}
        pool.shutdown(wait=False)

    def table(self, name: str) -> Table | None:
        """The table of an output, as it is at first sight. Raises DamagedTable, unless it looks through damage."""
        if name not in self._tables:
            ahead = self._ahead.pop(name, None)
            opened = ahead.result() if ahead is not None else self._opened(name) if name in self.outputs else None
            self._tables[name] = opened
        return self._tables[name]

    def _opened(self, name: str) -> Table | None:
        try:
            table = open_table(self.outputs[name].location)
            if table is not None and self.through_damage:
                table.last_foreign()  # what is damaged is found here
            return table
        except DamagedTable as error:
            if not self.through_damage:
                raise
            self.damaged[name] = error
            return None

    def _entries(self, kind: Callable[[str, str], str], name: str) -> dict[str, int]:
        table = self.table(name)
        return table.entries(kind, name) if table is not None else {}

    def _undone_of(self, name: str) -> frozenset[Name]:
        """What rollbacks of a table have taken back."""
        table = self.table(name)
        return frozenset(one for one in table.undone() if one.output == name) if table else frozenset()

    def judge(self, output: Output, table: Table, partition: str) -> tuple[str, tuple[str, ...]] | None:
        """Whether one of the suspects is stale or behind, and which inputs say so."""
        parts = self._parts(output, table, partition)
        if parts is None:
            return None
        if not parts:
            inputs = self._inputs_there(output, partition)
            return (BEHIND, inputs) if inputs else None
        stale = [name for part in parts for name in part.pins if self.read_undone(output, partition, part, name)]
        if stale:
            return STALE, tuple(dict.fromkeys(stale))
        if output.mode is not Mode.OVERWRITE:
            return None
        behind = [name for name in parts[0].pins if self._moved_on(output, partition, parts[0], name)]
        return (BEHIND, tuple(behind)) if behind else None

    def made_from_undone(self, output: Output, partition: str) -> list[Part]:
        """The checkpoints that a partition shows and that read something undone, or made from what was; newest first."""
        table = self.table(output.name)
        parts = (self._parts(output, table, partition) if table is not None else None) or []
        return [one for one in parts if any(self.read_undone(output, partition, one, name) for name in one.pins)]

    def makers_of_what_is_gone(self, output: Output, partition: str, name: str, stale: Iterable[Part]) -> list[str]:
        """The chains whose undone data a partition's stale checkpoints read, where that input has nothing any more."""
        table = self.table(name)
        if table is None or self._shows_something(table, output, partition, name):
            return []
        keys = self.keys_read(output, partition, name)
        read = [parts_at(table, self.outputs[name], keys, one.pins[name].version) for one in stale if name in one.pins]
        return list(dict.fromkeys(part.chain for parts in read for some in parts.values() for part in some))

    def suspects(self, output: Output) -> list[str]:
        """The partitions of which the entries alone do not say that they are fresh, in order.

        They do where one chain made the partition and the same partition of all its inputs, and nothing there was ever
        undone: a run reads its own.
        """
        name = output.name
        if output.mode is not Mode.OVERWRITE or not all(self._inputs(name).values()):
            return sorted(self.versions(name))
        taint, chains, inputs = self._taint(name), self.chains(name), [self.chains(one) for one in self._inputs(name)]
        return sorted(
            key
            for key in self.versions(name)
            if not (chain := chains.get(key)) or key in taint or any(one.get(key) != chain for one in inputs)
        )

    def _inputs_of(self, name: str) -> dict[str, bool]:
        """The inputs that have tables of ours, and whether a partition reads just the one of its own key."""
        output = self.outputs[name]
        if output.asset_key is None:
            return {}
        graph = self.job.asset_layer.asset_graph
        keys = [key for key in graph.get(output.asset_key).parent_keys if self.table(key.to_user_string()) is not None]
        return {key.to_user_string(): self._reads_same(output, self.outputs[key.to_user_string()]) for key in keys}

    def _reads_same(self, output: Output, upstream: Output) -> bool:
        if output.partitions_def != upstream.partitions_def or output.name == upstream.name:
            return False
        if output.partitions_def is None or output.asset_key is None or upstream.asset_key is None:
            return output.partitions_def is None
        mapping = self.job.asset_layer.asset_graph.get_partition_mapping(output.asset_key, upstream.asset_key)
        return reads_own_key(mapping, output.partitions_def, upstream.partitions_def)

    def _taint(self, name: str) -> set[str] | _Everything:
        """The partitions in which, or in whose inputs, something was ever undone; or more than those."""
        if name not in self._tainted:
            self._tainted[name] = {one.partition for one in self.undone(name)}  # of a stage that reads itself
            found: set[str] | _Everything = {one.partition for one in self.undone(name)}
            for parent, same in self._inputs(name).items():
                theirs = self._taint(parent)
                if isinstance(theirs, _Everything) or isinstance(found, _Everything) or (theirs and not same):
                    found = _Everything()
                else:
                    found |= theirs
            self._tainted[name] = found
        return self._tainted[name]

    def _parts(self, output: Output, table: Table, partition: str) -> list[Part] | None:
        """Whose data a partition shows, newest first; None where nobody remembers."""
        if output.mode is not Mode.OVERWRITE:
            return parts_at(table, output, [partition], table.version)[partition]
        live = table.live(output.name, partition, self._remembered(output, table))
        if live is None:
            return []
        if live.part is None:
            return None
        return [] if live.part.name(output.name, partition) in self.undone(output.name) else [live.part]

    def _remembered(self, output: Output, table: Table) -> Memory:
        """Log clean-up takes commits whose data is live."""

        def part(partition: str, version: int) -> Part | None:
            assert output.asset_key is not None
            found = checkpoint_log.of_version(self.instance, output.asset_key, partition, version, table.id)
            return found.part if found is not None and found.part.chain else None

        return part

    def read_undone(self, output: Output, partition: str, part: Part, name: str) -> bool:
        """Whether something that a checkpoint read of an input was undone, or made from what was."""
        table = self._input(part, name)
        if table is None:
            return False
        taint = self._taint(name)
        read = [key for key in self.keys_read(output, partition, name) if key in taint]
        undone = self.undone(name)
        for key, parts in parts_at(table, self.outputs[name], read, part.pins[name].version).items():
            for one in parts:
                made = one.name(name, key)
                if made in undone or self._is_stale(self.outputs[name], key, one):
                    return True
        return False

    def _is_stale(self, output: Output, partition: str, part: Part) -> bool:
        name = part.name(output.name, partition)
        if name not in self._stale:
            self._stale[name] = False
            self._stale[name] = any(self.read_undone(output, partition, part, one) for one in part.pins)
        return self._stale[name]

    def _moved_on(self, output: Output, partition: str, part: Part, name: str) -> bool:
        """Whether an input shows other checkpoints now than those that were read: equal data is no change."""
        table = self._input(part, name)
        if table is None:
            return False
        pin = part.pins[name].version
        read = [key for key in self.keys_read(output, partition, name) if self.versions(name).get(key, -1) > pin]
        then = parts_at(table, self.outputs[name], read, pin)
        return _named(name, then) != _named(name, parts_at(table, self.outputs[name], read, table.version))

    def _input(self, part: Part, name: str) -> Table | None:
        """The table of an input, where it is one of ours and the one that was read."""
        table = self.table(name)
        return table if table is not None and table.is_ours and table.id == part.pins[name].table_id else None

    def _inputs_there(self, output: Output, partition: str) -> tuple[str, ...]:
        """The inputs of a partition in which nothing is, where all of ours have something."""
        if output.asset_key is None:
            return ()
        ours = {name: table for name in self._inputs(output.name) if (table := self.table(name)) is not None}
        there = [self._shows_something(table, output, partition, name) for name, table in ours.items()]
        return tuple(sorted(ours)) if there and all(there) else ()

    def _shows_something(self, table: Table, output: Output, partition: str, name: str) -> bool:
        """Whether an input's table has data now in what a partition of an output reads of it."""
        keys = self.keys_read(output, partition, name)
        return any(parts_at(table, self.outputs[name], keys, table.version).values())

    def keys_read(self, output: Output, partition: str, name: str) -> list[str]:
        """The partitions of an input that a partition of an output reads."""
        upstream = self.outputs[name]
        if upstream.partitions_def is None:
            return [WHOLE]
        if self._inputs(output.name).get(name):
            return [partition]
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
