"""What a rollback leaves to be made again: derived from tables and events whenever somebody looks, never stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, JobDefinition
from dagster._core.definitions.partitions.context import partition_loading_context

from pipeline_assets import checkpoints
from pipeline_assets.chains import chain_of, ended_at, runs_of
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.table import Table
from pipeline_assets.io.outputs import Output
from pipeline_assets.policy.commands import to_resume
from pipeline_assets.recovery.freshness import BEHIND, STALE, Looking
from pipeline_assets.recovery.rollback_plan import TO, Plan
from pipeline_assets.recovery.rollback_store import not_lifted
from pipeline_assets.recovery.tables import roots_of, with_downstream

__all__ = ["BEHIND", "KEPT", "STALE", "Owed", "owed", "owed_after"]
KEPT = "kept"
_PAGE = 500


@dataclass(frozen=True)
class Owed:
    """A stage's partition that is to be made again, in the order of the list.

    why: `stale` (made from undone data), `behind` (older than its inputs, after it was restored or they were), `kept` (a
    chain ended green by keeping what is undone, and is not undone itself). inputs: which ones. run: what is to be resumed:
    of `kept` the chain's newest such run, of `stale` what made an input of which nothing is there any more. undo: the runs
    whose rollback takes out stale rows that were added (append, merge), or whose input nobody can make again.
    """

    stage: str
    partition: str
    why: str
    inputs: tuple[str, ...] = ()
    run: str | None = None
    undo: tuple[str, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether it is not mended by being made again now."""
        return self.why == STALE and bool(self.undo or self.run)

    @property
    def mends(self) -> tuple[str, ...]:
        """The commands that make it, or take it out, between backticks."""
        undo = tuple(f"`pipeline-assets rollback --undo {chain} --stage {self.stage}`" for chain in self.undo)
        return undo or (f"`{to_resume(self.run)}`" if self.run is not None else "`pipeline-assets rollback --refresh`",)


def owed(
    instance: DagsterInstance, job: JobDefinition, looking: Looking | None = None, stages: Iterable[str] | None = None
) -> list[Owed]:
    """What is owed in the tables of a job's assets, or of some stages, in the order in which it is to be made."""
    looking = looking or Looking(instance, job)
    wanted = looking.outputs.keys() if stages is None else set(stages)
    found: list[Owed] = []
    plans = _Plans(instance, roots_of(looking.outputs.values()))
    for key in job.asset_layer.asset_graph.toposorted_asset_keys:
        output = looking.outputs.get(key.to_user_string()) if key.to_user_string() in wanted else None
        table = looking.table(output.name) if output is not None else None
        if output is None or table is None:
            continue
        with partition_loading_context(dynamic_partitions_store=instance):
            for partition in looking.suspects(output):
                one = looking.judge(output, table, partition)
                if one is not None:
                    found.append(_judged(instance, looking, output, partition, *one))
        found += _kept(instance, output, table, looking.undone(output.name), plans)
    return found


def _judged(
    instance: DagsterInstance, looking: Looking, output: Output, partition: str, why: str, inputs: tuple[str, ...]
) -> Owed:
    if why != STALE:
        return Owed(output.name, partition, why, inputs)
    stale = looking.made_from_undone(output, partition)
    chains = tuple(dict.fromkeys(part.chain for part in stale))
    if output.mode is not Mode.OVERWRITE:
        return Owed(output.name, partition, why, inputs, undo=chains)
    makers = [maker for name in inputs for maker in looking.makers_of_what_is_gone(output, partition, name, stale)]
    there = [maker for maker in makers if instance.has_run(maker)]
    undo = chains if makers and not there else ()
    return Owed(output.name, partition, why, inputs, run=there[0] if there else None, undo=undo)


def owed_after(instance: DagsterInstance, job: JobDefinition, stages: Iterable[str]) -> list[Owed]:
    """The same, of some stages (their names) and all that is made from them."""
    found = with_downstream(job, [AssetKey(stage.split("/")) for stage in stages])
    return owed(instance, job, stages=[key.to_user_string() for key in found])


class _Plans:
    """The rollbacks below some roots, which are read when they are asked for."""

    def __init__(self, instance: DagsterInstance, roots: Sequence[Location]) -> None:
        self._instance, self._roots = instance, roots
        self._ended: dict[str, float] = {}

    @cached_property
    def all(self) -> list[tuple[int, Plan]]:
        """Those that were not lifted: id, which is when it was planned (ms), and plan."""
        return [(one.id, Plan.of_json(one.plan)) for one in not_lifted(self._roots)]

    def undo(self, chain: str, said_at: float, output: Output, partition: str) -> bool:
        """Whether one of them takes back what a chain had said of a partition by then, having written nothing there."""
        return any(
            number > said_at * 1000
            and plan.asked.takes(output.name)
            and plan.asked.partition in (None, partition)
            and (chain in plan.fences or (plan.asked.form == TO and self._is_behind(plan, said_at)))
            for number, plan in self.all
        )

    def _is_behind(self, plan: Plan, said_at: float) -> bool:
        """Whether what was said at a moment is later than the end of the run (its chain) that was gone back to."""
        target = plan.asked.run
        if target not in self._ended:
            run = self._instance.get_run_by_id(target)
            self._ended[target] = ended_at(self._instance, runs_of(self._instance, run)) if run is not None else 0.0
        return said_at > self._ended[target]


def _kept(
    instance: DagsterInstance, output: Output, table: Table, undone: frozenset[Name], plans: _Plans
) -> list[Owed]:
    """Chains that ended green, and whose newest word on a partition is that they kept, or skipped, what is undone now.

    Not those that were undone as well: by name, or since all later ones were than the run that was gone back to.
    """
    if not undone or output.asset_key is None:
        return []
    found: list[Owed] = []
    seen: set[tuple[str, str]] = set()
    for partition in sorted({name.partition for name in undone}):
        live = table.live(output.name, partition)
        newest = live.part.attempt if live is not None and live.part is not None else 0
        for said in _told(instance, output.asset_key, partition):
            run = instance.get_run_by_id(said.run_id)
            if run is None or (key := (chain_of(instance, run).first, partition)) in seen:
                continue
            seen.add(key)
            name = said.checkpoint.part.name(output.name, partition)
            if not said.flagged or name not in undone or newest > name.attempt:
                continue
            green = any(one.is_success for one in runs_of(instance, run))
            if green and not plans.undo(key[0], said.at, output, partition):
                found.append(Owed(output.name, partition, KEPT, run=said.run_id))
    return found


@dataclass(frozen=True)
class _Said:
    """What a run said of a partition (s since 1970), whether it kept or skipped, and which checkpoint."""

    run_id: str
    at: float
    flagged: bool
    checkpoint: checkpoints.Checkpoint


def _told(instance: DagsterInstance, asset_key: AssetKey, partition: str) -> Iterable[_Said]:
    """What runs said of a partition, newest first."""
    keys = None if partition == WHOLE else [partition]
    found = instance.fetch_materializations(AssetRecordsFilter(asset_key=asset_key, asset_partitions=keys), _PAGE)
    for record in found.records:
        event = record.asset_materialization
        checkpoint = checkpoints.checkpoint_of(event, record.storage_id) if event is not None else None
        if event is not None and checkpoint is not None and record.run_id:
            flagged = bool({checkpoints.KEPT, checkpoints.SKIPPED} & event.metadata.keys())
            yield _Said(record.run_id, record.timestamp, flagged, checkpoint)
