"""What the event log says of stages, with few queries: the newest event of each partition, and what was planned since."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, EventLogRecord

from pipeline_assets import checkpoints
from pipeline_assets.checkpoints import Checkpoint
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.io.outputs import Output

FLAGS = {"adopted": checkpoints.ADOPTED, "kept": checkpoints.KEPT}
FLAGS |= {"restored": checkpoints.RESTORED, "skipped": checkpoints.SKIPPED}
FEW = 20
"""Of more partitions the planned runs are asked for all at once, which reads more rows."""
_PAGE = 500


@dataclass(frozen=True)
class Event:
    """A materialization as somebody reads it.

    at: when (seconds since 1970). run: who sent it, None for nobody. rows: of the partition, else of the table; None where it
    does not say. flags: `adopted`, `kept`, `restored`, `skipped`. checkpoint: None where it is none of ours.
    """

    partition: str
    at: float
    run: str | None
    rows: int | None
    flags: tuple[str, ...]
    checkpoint: Checkpoint | None
    id: int

    @property
    def is_nothing(self) -> bool:
        """Whether a rollback left nothing there."""
        return self.checkpoint is not None and not self.checkpoint.part.chain


@dataclass(frozen=True)
class Told:
    """What the event log says of a stage.

    ids: for each partition its newest event. newest: the newest of all. unfinished: for each partition that a run set out to
    make and has not, that run.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    newest: Event | None = None
    unfinished: Mapping[str, str] = field(default_factory=dict)


def told_of(instance: DagsterInstance, outputs: Collection[Output]) -> dict[str, Told]:
    """What the event log says of stages, by their names: a query for all, and one or two for each."""
    keys = [output.asset_key for output in outputs if output.asset_key is not None]
    records = {one.asset_entry.asset_key: one.asset_entry for one in instance.get_asset_records(keys)} if keys else {}
    found = {}
    for output in outputs:
        entry = records.get(output.asset_key) if output.asset_key is not None else None
        record = entry.last_materialization_record if entry is not None else None
        assert output.asset_key is not None
        newest = event_of(record) if record is not None else None
        found[output.name] = _told(instance, output, output.asset_key, newest)
    return found


def _told(instance: DagsterInstance, output: Output, key: AssetKey, newest: Event | None) -> Told:
    log = instance.event_log_storage
    if output.partitions_def is None:
        planned = log.get_latest_planned_materialization_info(key)
        is_open = planned is not None and (newest is None or planned.storage_id > newest.id)
        left = {WHOLE: planned.run_id} if planned is not None and is_open else {}
        return Told({WHOLE: newest.id} if newest is not None else {}, newest, left)
    ids = dict(log.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION))
    plans = log.get_latest_storage_id_by_partition(key, DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    open_ = [partition for partition, number in plans.items() if number > ids.get(partition, -1)]
    return Told(ids, newest, _runs_of(instance, key, open_))


def _runs_of(instance: DagsterInstance, key: AssetKey, partitions: Sequence[str]) -> dict[str, str]:
    """The runs that planned partitions last."""
    log = instance.event_log_storage
    if len(partitions) > FEW:
        found = log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        return {one: found[one][0] for one in partitions if one in found}
    infos = {one: log.get_latest_planned_materialization_info(key, one) for one in partitions}
    return {one: info.run_id for one, info in infos.items() if info is not None}


def events_by_id(instance: DagsterInstance, key: AssetKey, ids: Iterable[int]) -> dict[str, Event]:
    """Some events of an asset, by partition."""
    found: dict[str, Event] = {}
    numbers = sorted(ids)
    for start in range(0, len(numbers), _PAGE):
        wanted = AssetRecordsFilter(asset_key=key, storage_ids=numbers[start : start + _PAGE])
        for record in instance.fetch_materializations(wanted, _PAGE).records:
            event = event_of(record)
            found[event.partition] = event
    return found


def event_of(record: EventLogRecord) -> Event:
    """A materialization's record."""
    said = record.asset_materialization
    assert said is not None
    rows = said.metadata.get("dagster/partition_row_count") or said.metadata.get("dagster/row_count")
    number = rows.value if rows is not None else None
    return Event(
        said.partition or WHOLE,
        record.timestamp,
        record.run_id or None,
        number if isinstance(number, int) else None,
        tuple(name for name, key in FLAGS.items() if key in said.metadata),
        checkpoints.checkpoint_of(said, record.storage_id),
        record.storage_id,
    )
