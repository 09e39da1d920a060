"""The state of a pipeline: what the event log says of each stage, and where the tables disagree.

States, versions, rows and times are the event log's, the checkpoint log. Each table's log is looked at once, for what
disagrees with it, and for what is stale or behind.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
from dagster import DagsterInstance
from dagster._core.definitions.repository_definition import RepositoryDefinition

from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.table import Table
from pipeline_assets.io.outputs import Output
from pipeline_assets.recovery.disagreements import Comparing, Disagreement, Shown
from pipeline_assets.recovery.freshness import Looking
from pipeline_assets.recovery.owed import Owed, owed
from pipeline_assets.recovery.pipelines import group_of, stages_of
from pipeline_assets.recovery.rollback_store import Store, Stored
from pipeline_assets.recovery.run_ends import ENDED, FAILED, KILLED, NOT_REACHED, QUEUED, RUNNING, Runs, RunSeen
from pipeline_assets.recovery.tables import job_of_all, roots_of
from pipeline_assets.recovery.told import Event, Told, events_by_id, told_of

MATERIALIZED, MISSING, UNDONE, PARTIAL = "materialized", "missing", "undone", "partial"
WORST = (FAILED, KILLED, RUNNING, QUEUED, NOT_REACHED, UNDONE, MISSING)
"""What a stage's state is, if one of its partitions has it; in this order."""

SOME = 5
"""How many partitions are named where not all are asked for."""
LOOKED = 100
"""How many unfinished partitions are looked at closely."""


@dataclass(frozen=True)
class PartitionStatus:
    """A partition, or a stage that has none (`*`).

    state: `materialized`, `failed`, `killed`, `running`, `queued`, `not reached`, `undone`, `missing`. event: the newest,
    of what was there before where the state is another than `materialized`. attempts: of the newest run chain.
    """

    partition: str
    state: str
    event: Event | None = None
    run: str | None = None
    attempts: int | None = None
    error: str | None = None
    resume: str | None = None


@dataclass(frozen=True)
class StageStatus:
    """A stage. counts: for a partitioned one how many partitions are in which state. rows: of the table, by its statistics.

    whole: how it is, of a partitioned stage its worst partition. bad: the first partitions that are neither materialized nor
    missing. partitions: all, where they were asked for.
    """

    stage: str
    group: str
    whole: PartitionStatus
    partitioned: bool
    rows: int | None
    counts: Mapping[str, int] = field(default_factory=dict)
    bad: Sequence[PartitionStatus] = ()
    partitions: Sequence[PartitionStatus] = ()
    owed: Sequence[Owed] = ()
    disagreements: Sequence[Disagreement] = ()


@dataclass(frozen=True)
class Status:
    """What `status` finds. runs: those at work or killed, and those that failed and left a stage undone."""

    stages: Sequence[StageStatus]
    runs: Sequence[RunSeen]
    rollback: Stored | None


def status(
    instance: DagsterInstance,
    repository: RepositoryDefinition,
    pipeline: str | None = None,
    stage: str | None = None,
    *,
    partitions: bool = False,
    module: str | None = None,
) -> Status:
    """The state of all stages, of a pipeline's, or of one; nothing is changed.

    partitions: each partition by itself. module: how commands that mend something name the code location. Raises
    NoSuchPipeline, NoSuchStage.
    """
    job = job_of_all(repository)
    looking = Looking(instance, job, through_damage=True)
    wanted = stages_of(repository, looking.outputs, pipeline, stage)
    looking.open_ahead(wanted)
    told = told_of(instance, [looking.outputs[name] for name in wanted])
    runs = Runs(instance)
    unfinished = list(runs.unfinished())
    runs.load(run for one in told.values() for run in one.unfinished.values())
    asking = _Asking(instance, looking, runs, Comparing(instance, runs, module), partitions or stage is not None)
    left: dict[str, list[Owed]] = {}
    for one in owed(instance, job, looking, wanted):
        left.setdefault(one.stage, []).append(one)
    found = [asking.stage(name, group_of(repository, name), told[name], left.get(name, ())) for name in wanted]
    roots = roots_of(looking.outputs[name] for name in wanted)
    plans = (Store(root).read().open for root in roots)
    failed = islice((seen for run in _run_ids(told.values()) if (seen := runs.seen(run)) and seen.resume), LOOKED)
    newest = sorted({one.run: one for one in [*unfinished, *failed]}.values(), key=lambda one: -one.at)
    return Status(found, newest, next((one for one in plans if one is not None), None))


def _run_ids(told: Iterable[Told]) -> list[str]:
    return list(dict.fromkeys(run for one in told for run in one.unfinished.values()))


@dataclass
class _Asking:
    """What each stage is asked. exact: partition by partition."""

    instance: DagsterInstance
    looking: Looking
    runs: Runs
    comparing: Comparing
    exact: bool
    _looked: int = 0

    def stage(self, name: str, group: str, told: Told, left: Sequence[Owed]) -> StageStatus:
        """One stage."""
        output = self.looking.outputs[name]
        table = self.looking.table(name)
        shown = Shown(table, self.looking.versions(name), self.looking.chains(name))
        damage = self.looking.damaged.get(name)
        if damage is not None:
            wrong = [self.comparing.damaged(output, damage)]
        else:
            wrong = self.comparing.disagreements(output, shown, told, exact=self.exact)
        if output.partitions_def is None:
            whole = self._partition(output, WHOLE, told.newest, told)
            rows = whole.event.rows if whole.event is not None else None
            return StageStatus(name, group, whole, False, rows, owed=left, disagreements=wrong)
        states = self._states(output, told, shown)
        counts = dict.fromkeys((MATERIALIZED, *WORST), 0)
        for state in states.values():
            counts[state] += 1
        bad = [key for key, state in states.items() if state not in (MATERIALIZED, MISSING)]
        details = self._details(output, told, states) if self.exact else []
        return StageStatus(
            name,
            group,
            self._whole(output, told, counts, bad),
            True,
            rows_of(table),
            counts,
            [self._partition(output, key, None, told, states[key]) for key in bad[:SOME]],
            details,
            left,
            wrong,
        )

    def _states(self, output: Output, told: Told, shown: Shown) -> dict[str, str]:
        """The state of each partition that there is, or was."""
        assert output.partitions_def is not None
        keys = output.partitions_def.get_partition_keys(dynamic_partitions_store=self.instance)
        found = {}
        for key in dict.fromkeys([*keys, *told.ids]):
            found[key] = MATERIALIZED if key in told.ids else MISSING
            if key in told.ids and shown.chains.get(key) == 0:
                found[key] = UNDONE
            if key in told.unfinished:
                found[key] = self._state(output, key, told.unfinished[key], found[key])
        return found

    def _state(self, output: Output, key: str, run: str, otherwise: str) -> str:
        """What has become of a partition that a run has not made; of so many the run alone is asked, not its steps."""
        self._looked += 1
        if self._looked > LOOKED:
            return self.runs.state(run) or otherwise
        return self._unfinished(output, key, run, otherwise).state

    def _unfinished(self, output: Output, key: str, run: str, otherwise: str) -> PartitionStatus:
        end = self.runs.end(run, output.name)
        seen = self.runs.seen(run)
        state = end.state if end.state != ENDED else otherwise
        resume = seen.resume if seen is not None else None
        return PartitionStatus(key, state, None, run, end.attempts, end.error, resume)

    def _partition(
        self, output: Output, key: str, event: Event | None, told: Told, state: str | None = None
    ) -> PartitionStatus:
        """One partition. state: where it is known."""
        if state is None:
            state = MISSING if event is None else UNDONE if event.is_nothing else MATERIALIZED
        if key in told.unfinished:
            found = self._unfinished(output, key, told.unfinished[key], state)
            return PartitionStatus(key, found.state, event, found.run, found.attempts, found.error, found.resume)
        run = event.run if event is not None else None
        attempts = self.runs.end(run, output.name).attempts if run is not None and key == WHOLE else None
        return PartitionStatus(key, state, event, run, attempts)

    def _whole(self, output: Output, told: Told, counts: Mapping[str, int], bad: Sequence[str]) -> PartitionStatus:
        """How a partitioned stage is: its worst partition, or what is missing, and its newest event."""
        worst = next((state for state in WORST if counts[state]), MATERIALIZED)
        state = worst if worst != MISSING else PARTIAL if counts[MATERIALIZED] else MISSING
        for key in bad[:LOOKED]:
            if (
                key in told.unfinished
                and (found := self._unfinished(output, key, told.unfinished[key], state)).state == worst
            ):
                return PartitionStatus(key, state, told.newest, found.run, found.attempts, found.error, found.resume)
        run = told.newest.run if told.newest is not None else None
        attempts = self.runs.end(run, output.name).attempts if run is not None else None
        return PartitionStatus(WHOLE, state, told.newest, run, attempts)

    def _details(self, output: Output, told: Told, states: Mapping[str, str]) -> list[PartitionStatus]:
        assert output.asset_key is not None
        events = events_by_id(self.instance, output.asset_key, told.ids.values())
        return [self._partition(output, key, events.get(key), told, state) for key, state in states.items()]


def rows_of(table: Table | None) -> int | None:
    """How many rows a table has, by its files' statistics; None where one does not say."""
    if table is None:
        return None
    counts = pa.RecordBatchReader.from_stream(table.delta.get_add_actions()).read_all()["num_records"]
    if counts.null_count:
        return None
    return int(pc.sum(counts).as_py() or 0)
