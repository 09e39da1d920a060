"""The checkpoint log: what the event log remembers of checkpoints, by partition, by version, by chain and by run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster import (
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    EventLogRecord,
)

from pipeline_assets.chains import Chain
from pipeline_assets.checkpoints import FLAGS, Checkpoint, checkpoint_of
from pipeline_assets.delta.names import WHOLE

_SLACK_SECONDS = 3600.0
"""How far the clocks of hosts may differ when the event log is searched from a chain's beginning on."""
_FIRST_PAGE, _PAGE = 4, 200


def remembered(
    instance: DagsterInstance, asset_key: AssetKey, partitions: Sequence[str], since: float | None = None
) -> Iterator[Checkpoint]:
    """Checkpoints of an asset's partitions in the event log, newest event first."""
    for checkpoint, _ in _told(instance, asset_key, partitions, since):
        yield checkpoint


def _told(
    instance: DagsterInstance, asset_key: AssetKey, partitions: Sequence[str], since: float | None
) -> Iterator[tuple[Checkpoint, AssetMaterialization]]:
    """The same with the events, of which a page is fetched when it is wanted: of one partition few will do, mostly."""
    keys = None if WHOLE in partitions else list(partitions)
    wanted = AssetRecordsFilter(asset_key=asset_key, asset_partitions=keys, after_timestamp=since)
    for record in records(instance, wanted, _FIRST_PAGE if len(partitions) == 1 else _PAGE):
        event = record.asset_materialization
        checkpoint = checkpoint_of(event, record.storage_id) if event is not None else None
        if event is not None and checkpoint is not None:
            yield checkpoint, event


def records(
    instance: DagsterInstance, wanted: AssetRecordsFilter, first: int, page: int = _PAGE
) -> Iterator[EventLogRecord]:
    """Materializations, newest first, by pages. first, page: how many the first one has, and the others."""
    cursor: str | None = None
    limit = first
    while True:
        found = instance.fetch_materializations(wanted, limit, cursor)
        yield from found.records
        if not found.has_more:
            return
        cursor, limit = found.cursor, page


def of_version(
    instance: DagsterInstance, asset_key: AssetKey, partition: str, version: int, table_id: str
) -> Checkpoint | None:
    """The checkpoint that made a version of a table, if the event log knows it.

    All of the partition's events are looked at where it does not: they do not come in the order of their versions, since a
    chain that is resumed tells of its own after a newer one has told of another.
    """
    for checkpoint in remembered(instance, asset_key, [partition]):
        if checkpoint.version == version and checkpoint.table_id == table_id:
            return checkpoint
    return None


def events_of(
    instance: DagsterInstance,
    asset_key: AssetKey,
    versions: Mapping[str, int],
    table_id: str,
    since: float | None = None,
) -> dict[str, AssetMaterialization]:
    """For a version of each of some partitions the event by the run that made it; else the newest of whoever told it.

    since: before this (seconds since 1970) there is none, by whatever clock.
    """
    after = since - _SLACK_SECONDS if since is not None else None
    found: dict[str, AssetMaterialization] = {}
    missing = set(versions)
    if not missing:
        return found
    for one, event in _told(instance, asset_key, list(versions), after):
        if one.table_id != table_id or versions.get(one.partition) != one.version:
            continue
        if not set(FLAGS.values()) & event.metadata.keys():
            found[one.partition] = event
            missing.discard(one.partition)
            if not missing:
                break
        found.setdefault(one.partition, event)
    return found


def unheard(instance: DagsterInstance, asset_key: AssetKey, versions: Mapping[str, int], table_id: str) -> set[str]:
    """Of the versions that are live in some partitions: those partitions whose version no event speaks of."""
    missing = dict(versions)
    if not missing:
        return set()
    for checkpoint in remembered(instance, asset_key, list(versions)):
        if checkpoint.table_id == table_id and missing.get(checkpoint.partition) == checkpoint.version:
            del missing[checkpoint.partition]
            if not missing:
                break
    return set(missing)


def searched_since(instance: DagsterInstance, chain: Chain) -> float | None:
    """Before this (seconds since 1970) a chain wrote nothing, by whatever clock; None where its first run was deleted."""
    if chain.first not in _began:
        run = instance.get_run_record_by_id(chain.first)
        if run is None:
            return None
        _began[chain.first] = run.create_timestamp.timestamp()
    return _began[chain.first] - _SLACK_SECONDS


_began: dict[str, float] = {}
"""When the runs began that this process was asked about: that does not change."""


def of_chain(
    instance: DagsterInstance, chain: Chain, asset_key: AssetKey, partitions: Sequence[str], table_id: str
) -> dict[str, list[Checkpoint]]:
    """What a chain committed of some partitions, by the event log: newest first for each."""
    since = searched_since(instance, chain)
    found: dict[str, list[Checkpoint]] = {}
    for checkpoint in remembered(instance, asset_key, partitions, since):
        if checkpoint.part.chain == chain.first and checkpoint.table_id == table_id:
            found.setdefault(checkpoint.partition, []).append(checkpoint)
    return found


def told_before(instance: DagsterInstance, asset_key: AssetKey, partition: str, moment: float, table_id: str) -> int:
    """The version that the newest event before a moment (seconds since 1970) speaks of: it is older; -1 for none."""
    keys = None if partition == WHOLE else [partition]
    wanted = AssetRecordsFilter(asset_key=asset_key, asset_partitions=keys, before_timestamp=moment)
    for record in records(instance, wanted, _FIRST_PAGE):
        event = record.asset_materialization
        checkpoint = checkpoint_of(event, record.storage_id) if event is not None else None
        if checkpoint is not None and checkpoint.table_id == table_id:
            return checkpoint.version
    return -1


def told_by(
    instance: DagsterInstance, runs: Sequence[str], asset_key: AssetKey, table_id: str | None = None
) -> list[Checkpoint]:
    """The checkpoints of an asset that the events of some runs speak of, also those that they kept or skipped.

    table_id: only those in this table.
    """
    found = []
    for run_id in runs:
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION):
            event = entry.asset_materialization
            checkpoint = checkpoint_of(event, 0) if event is not None and event.asset_key == asset_key else None
            if checkpoint is not None and table_id in (None, checkpoint.table_id):
                found.append(checkpoint)
    return found


def had_table(instance: DagsterInstance, runs: Sequence[str], asset_key: AssetKey | None) -> bool:
    """Whether the events of some runs speak of a checkpoint of an asset, so that there was a table of it then."""
    return asset_key is not None and bool(told_by(instance, runs, asset_key))


def record_event(instance: DagsterInstance, asset_key: AssetKey, partition: str, said: Mapping[str, Any]) -> None:
    """Send a materialization event that no run sends."""
    instance.report_runless_asset_event(
        AssetMaterialization(
            asset_key=asset_key, partition=None if partition == WHOLE else partition, metadata=dict(said)
        )
    )


def failed_check(instance: DagsterInstance, chain: Chain, asset_key: AssetKey) -> int | None:
    """When (ms) a blocking check on the asset failed in this chain, if that is its newest word; None where all is well.

    A checkpoint of an attempt that began before counts as undone for its own chain: a resume makes it again. (What was
    appended or merged would then be there twice: that is refused.)
    """
    failed: dict[str, int | None] = {}
    for run_id in chain.runs:
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
            verdict = entry.get_dagster_event().asset_check_evaluation_data
            if verdict.asset_key == asset_key:
                bad = verdict.blocking and not verdict.passed and verdict.severity is AssetCheckSeverity.ERROR
                failed[verdict.check_name] = int(entry.timestamp * 1000) if bad else None
    return max((moment for moment in failed.values() if moment is not None), default=None)
