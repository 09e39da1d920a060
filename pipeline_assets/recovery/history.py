"""The checkpoints of a pipeline, newest first: what was made when, from what, and whether it can be gone back to."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from dagster import AssetKey, AssetRecordsFilter, DagsterInstance
from dagster._core.definitions.repository_definition import RepositoryDefinition

from pipeline_assets import checkpoint_log
from pipeline_assets.errors import PermanentError, describe
from pipeline_assets.recovery.freshness import Looking
from pipeline_assets.recovery.pipelines import stages_of
from pipeline_assets.recovery.reach import Reach
from pipeline_assets.recovery.run_ends import Runs
from pipeline_assets.recovery.tables import job_of_all
from pipeline_assets.recovery.told import Event, event_of

LIVE, UNDONE, REPLACED, GONE, NOTHING = "live", "undone", "replaced", "gone", "nothing"
LIMIT = 50
_PAGE = 500


class NoSuchPartition(PermanentError):
    """A partition of which no checkpoint is; nothing was changed."""


@dataclass(frozen=True)
class Line:
    """A checkpoint's event.

    state: `live`, `undone`, `replaced`, `gone` (its Delta table is not there any more), `nothing` (a rollback left none).
    restorable: whether its files and the log of its version are there still. why: why they are not.
    """

    stage: str
    event: Event
    state: str
    restorable: bool
    why: str | None = None


@dataclass(frozen=True)
class Point:
    """A rollback point: the versions that a good run ended with. run: the one to name to `rollback --to`."""

    run: str
    at: float
    versions: dict[str, int]
    restorable: bool


@dataclass(frozen=True)
class History:
    """Checkpoints, newest first, and the rollback points among them. more: whether there are older ones."""

    lines: Sequence[Line]
    points: Sequence[Point]
    more: bool


def history(
    instance: DagsterInstance,
    repository: RepositoryDefinition,
    pipeline: str,
    stage: str | None = None,
    partition: str | None = None,
    limit: int = LIMIT,
) -> History:
    """The newest checkpoints of a pipeline, of a stage or a partition of it; nothing is changed.

    stage: as `flights/legs`, or `legs`. Raises NoSuchPipeline, NoSuchStage, NoSuchPartition.
    """
    looking = Looking(instance, job_of_all(repository), through_damage=True)
    names = stages_of(repository, looking.outputs, pipeline, stage)
    page = min(_PAGE, limit + 1 if len(names) == 1 else 2 * limit // len(names) + 2)
    told = [_events(instance, name, partition, page) for name in names]
    found = list(islice(heapq.merge(*told, key=lambda one: -one[1].id), limit + 1))
    if partition is not None and not found:
        raise NoSuchPartition(
            f"No checkpoint of {stage or pipeline} has partition {partition}. Nothing was changed; `pipeline-assets status "
            f"{pipeline} --partitions` lists those there are."
        )
    lines = _judged(looking, found[:limit])
    return History(lines, _points(Runs(instance), lines, set(names)), len(found) > limit)


def _events(instance: DagsterInstance, stage: str, partition: str | None, page: int) -> Iterator[tuple[str, Event]]:
    """Events of a stage that speak of checkpoints, newest first."""
    keys = None if partition is None else [partition]
    wanted = AssetRecordsFilter(asset_key=AssetKey(stage.split("/")), asset_partitions=keys)
    for event in map(event_of, checkpoint_log.records(instance, wanted, page, _PAGE)):
        if event.checkpoint is not None:
            yield stage, event


def _judged(looking: Looking, found: Sequence[tuple[str, Event]]) -> list[Line]:
    """What has become of each."""
    states = [_state(looking, stage, event) for stage, event in found]
    reaches: dict[str, Reach] = {}
    for (stage, event), state in zip(found, states, strict=True):
        table = looking.table(stage)
        if state == REPLACED and table is not None and event.checkpoint is not None:
            reach = reaches.setdefault(stage, Reach(table, looking.outputs[stage]))
            reach.want(event.checkpoint.version, event.partition)
    lines = []
    for (stage, event), state in zip(found, states, strict=True):
        why = None
        if state == REPLACED and event.checkpoint is not None:
            why = reaches[stage].why_not(event.checkpoint.version, event.partition)
        elif state == GONE:
            why = "its Delta table is not there any more"
        elif state == UNDONE:
            why = "it was undone"
        lines.append(Line(stage, event, state, why is None and state != NOTHING, why))
    return lines


def _state(looking: Looking, stage: str, event: Event) -> str:
    point, table = event.checkpoint, looking.table(stage)
    assert point is not None
    if event.is_nothing:
        return NOTHING
    if table is None or table.id != point.table_id:
        return GONE
    if point.part.name(stage, event.partition) in looking.undone(stage):
        return UNDONE
    shows = looking.versions(stage).get(event.partition) == point.version
    return LIVE if shows and looking.chains(stage).get(event.partition) else REPLACED


def _points(runs: Runs, lines: Sequence[Line], asked: set[str]) -> list[Point]:
    """The chains that ended well, of which all that they made of the stages asked for is here, and nothing was undone."""
    by_chain: dict[str, list[Line]] = {}
    runs.load(line.event.run for line in lines if line.event.run is not None)
    for line in lines:
        point, run = line.event.checkpoint, line.event.run
        if point is not None and "restored" not in line.event.flags:
            chain = runs.chain(run)[0] if run is not None and runs.chain(run) else point.part.chain
            by_chain.setdefault(chain, []).append(line)
    found = []
    for chain, ones in by_chain.items():
        members = list(dict.fromkeys([*(one.event.run for one in ones if one.event.run), chain]))
        good = next((run for run in members if runs.is_good(run)), None)
        if good is None:  # which may have made nothing of these stages any more
            members += runs.of_chain(chain)
            good = next((run for run in members if runs.is_good(run)), None)
        if good is None or any(one.state in (UNDONE, NOTHING) for one in ones):
            continue
        if {one.stage for one in ones} >= set[str]().union(*map(runs.stages, members)) & asked:
            versions = {
                describe(one.stage, one.event.partition): one.event.checkpoint.version
                for one in ones
                if one.event.checkpoint is not None
            }
            found.append(Point(good, ones[0].event.at, versions, all(one.restorable for one in ones)))
    return found
