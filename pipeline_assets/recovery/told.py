"""What the event log says of stages, with few queries: the newest event of each partition, and what was planned since."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy
from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, EventLogRecord
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.base import AssetEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

from pipeline_assets import checkpoints
from pipeline_assets.checkpoints import Checkpoint
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.io.outputs import Output

FEW = 20
"""Of more partitions the planned runs are asked for all at once, which reads more rows."""
_PAGE = 500


@dataclass(frozen=True)
class Event:
    """A materialization as somebody reads it.

    at: when (seconds since 1970). run: who sent it, None for nobody. rows: of the partition, else of the table; None where it
    does not say. flags: `adopted`, `kept`, `restored`, `skipped`. checkpoint: None where it is none of ours. uri: of the
    table.
    """

    partition: str
    at: float
    run: str | None
    rows: int | None
    flags: tuple[str, ...]
    checkpoint: Checkpoint | None
    id: int
    uri: str | None = None

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
    """What the event log says of stages, by their names."""
    by_key = {output.asset_key: output for output in outputs if output.asset_key is not None}
    records = {one.asset_entry.asset_key: one.asset_entry for one in instance.get_asset_records(list(by_key))}
    ids = newest_ids(instance, [one for key, one in records.items() if by_key[key].partitions_def is not None])
    found = {}
    for key, output in by_key.items():
        record = records[key].last_materialization_record if key in records else None
        newest = event_of(record) if record is not None else None
        if output.partitions_def is None:
            found[output.name] = _of_whole(instance, key, newest)
        else:
            made, planned = ids.get(key, ({}, {}))
            left = [partition for partition, number in planned.items() if number > made.get(partition, -1)]
            found[output.name] = Told(made, newest, _runs_of(instance, key, left))
    return found


def _of_whole(instance: DagsterInstance, key: AssetKey, newest: Event | None) -> Told:
    planned = instance.event_log_storage.get_latest_planned_materialization_info(key)
    is_open = planned is not None and (newest is None or planned.storage_id > newest.id)
    left = {WHOLE: planned.run_id} if planned is not None and is_open else {}
    return Told({WHOLE: newest.id} if newest is not None else {}, newest, left)


Ids = dict[str, int]
_KINDS = DagsterEventType.ASSET_MATERIALIZATION, DagsterEventType.ASSET_MATERIALIZATION_PLANNED


def newest_ids(instance: DagsterInstance, entries: Sequence[AssetEntry]) -> dict[AssetKey, tuple[Ids, Ids]]:
    """For each partition of some assets the newest materialization's number, and the newest plan's.

    As `get_latest_storage_id_by_partition` says, which is to be asked twice for each asset, and opens a connection each time;
    one query of an index for all of them takes half as long. It is asked where an asset was wiped.
    """
    log = instance.event_log_storage
    found: dict[AssetKey, tuple[Ids, Ids]] = {}
    together: dict[str, tuple[Ids, Ids]] = {}
    for entry in entries:
        key = entry.asset_key
        if isinstance(log, SqlEventLogStorage) and not _was_wiped(entry):
            together[key.to_string()] = found[key] = {}, {}
        else:
            made, planned = (dict(log.get_latest_storage_id_by_partition(key, kind)) for kind in _KINDS)
            found[key] = made, planned
    if isinstance(log, SqlEventLogStorage) and together:
        columns = SqlEventLogStorageTable.c
        group = columns.asset_key, columns.dagster_event_type, columns.partition
        query = (
            sqlalchemy.select(*group, sqlalchemy.func.max(columns.id))
            .where(columns.asset_key.in_(list(together)), columns.partition.is_not(None))
            .where(columns.dagster_event_type.in_([kind.value for kind in _KINDS]))
            .group_by(*group)
        )
        with log.index_connection() as connection:
            for asset, kind, partition, number in connection.execute(query):
                together[asset][kind != _KINDS[0].value][partition] = number
    return found


def _was_wiped(entry: AssetEntry) -> bool:
    details = entry.asset_details
    return details is not None and details.last_wipe_timestamp is not None


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
    return Event(
        said.partition or WHOLE,
        record.timestamp,
        record.run_id or None,
        checkpoints.rows_of(said.metadata),
        tuple(name for name, key in checkpoints.FLAGS.items() if key in said.metadata),
        checkpoints.checkpoint_of(said, record.storage_id),
        record.storage_id,
        str(said.metadata[checkpoints.URI].value) if checkpoints.URI in said.metadata else None,
    )
