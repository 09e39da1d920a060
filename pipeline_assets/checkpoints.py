"""The checkpoint log: what a materialization's metadata says, and what the event log remembers by it.

The only place where the metadata keys are spelled.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    EventLogRecord,
    MetadataValue,
)
from deltalake import Schema

from pipeline_assets.chains import Chain
from pipeline_assets.delta.decide import Pin
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.schema import type_name
from pipeline_assets.delta.table import Table

FORMAT = 1
VERSION = "delta/version"
TABLE_ID = "delta/table_id"
CHAIN = "checkpoint/chain"
ATTEMPT = "checkpoint/attempt"
INPUTS = "checkpoint/inputs"
INPUT_TABLES = "checkpoint/input_tables"
ADOPTED, KEPT = "checkpoint/adopted", "checkpoint/kept"
RESTORED, SKIPPED = "checkpoint/restored", "checkpoint/skipped"
FLAGS = {"adopted": ADOPTED, "kept": KEPT, "restored": RESTORED, "skipped": SKIPPED}
"""By their names for people: what the sender of an event did not make itself, and why it speaks of it."""
ROWS, PARTITION_ROWS = "dagster/row_count", "dagster/partition_row_count"
READ_BY = "checkpoint/read_by"
"""In an observation: the step whose input the observed version is."""
TOLD = "checkpoint/told"
"""In an engine event: for each input the table and version from which the step is computed again, at least."""
NOTES = "checkpoint/notes"
_SLACK_SECONDS = 3600.0
"""How far the clocks of hosts may differ when the event log is searched from a chain's beginning on."""
_FIRST_PAGE, _PAGE = 4, 200


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as an event tells it."""

    partition: str
    version: int
    table_id: str
    part: Part
    event_id: int


def metadata_of(
    part: Part, version: int, table: Table, output: "Described", flag: str | None = None, rows: int | None = None
) -> dict[str, Any]:
    """What the materialization event of a checkpoint says; `flag` where its sender did not make it.

    rows: how many the partition has then, where that is not what the checkpoint committed (append, merge).
    """
    counted = PARTITION_ROWS if output.partitioned else ROWS
    said: dict[str, Any] = {
        VERSION: version,
        TABLE_ID: table.id,
        counted: part.rows if rows is None else rows,
        "dagster/column_schema": output.columns,
        "dagster/uri": table.location.uri,
        "dagster/table_name": output.table_name,
        "checkpoint/format": FORMAT,
        CHAIN: part.chain,
        # Above 2**53 nothing is lost: Dagster's int metadata goes up to 64 bits, and ms since 1970 need 41.
        ATTEMPT: part.attempt,
        INPUTS: MetadataValue.json({name: pin.version for name, pin in part.pins.items()}),
        INPUT_TABLES: MetadataValue.json({name: pin.table_id for name, pin in part.pins.items()}),
        "checkpoint/rows_in": part.rows_in,
        "checkpoint/rows_quarantined": part.quarantined,
        "checkpoint/rows_dropped": part.dropped,
        "checkpoint/engine": part.engine,
    }
    if part.notes:
        said[NOTES] = MetadataValue.json(dict(part.notes))
    if flag is not None:
        said[flag] = True
    return said


@dataclass(frozen=True)
class Described:
    """What the events of an output say of its table, the same for every version."""

    table_name: str
    partitioned: bool
    columns: dg.TableSchema


def described(table_name: str, partitioned: bool, schema: Schema, declared: Any = None) -> Described:
    """With the descriptions and tags of a `dagster/column_schema` that the asset declares."""
    known = {column.name: column for column in getattr(getattr(declared, "schema", declared), "columns", ())}
    columns = []
    for field in schema.fields:
        extra = known.get(field.name)
        columns.append(
            dg.TableColumn(
                field.name,
                type_name(field),
                description=extra.description if extra else None,
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
                tags=dict(extra.tags) if extra and extra.tags else None,
            )
        )
    return Described(table_name, partitioned, dg.TableSchema(columns=columns))


def rows_of(metadata: Mapping[str, MetadataValue[Any]]) -> int | None:
    """How many rows an event says that its partition, or else its table, has; None where it does not say."""
    said = metadata.get(PARTITION_ROWS) or metadata.get(ROWS)
    return said.value if said is not None and isinstance(said.value, int) else None


def checkpoint_of(event: dg.AssetMaterialization, event_id: int) -> Checkpoint | None:
    """The checkpoint that an event speaks of; None where it speaks of none of ours."""
    said = {name: value.value for name, value in event.metadata.items()}
    if VERSION not in said or CHAIN not in said or said.get("checkpoint/format") != FORMAT:
        return None
    tables = _object(said.get(INPUT_TABLES))
    pins = {name: Pin(str(tables.get(name, "")), int(version)) for name, version in _object(said.get(INPUTS)).items()}
    rows_in, quarantined, dropped = (
        _number(said.get(f"checkpoint/{name}")) for name in ("rows_in", "rows_quarantined", "rows_dropped")
    )
    part = Part(
        chain=str(said[CHAIN]),
        attempt=_number(said.get(ATTEMPT)),
        pins=pins,
        rows=rows_in - quarantined - dropped,
        rows_in=rows_in,
        quarantined=quarantined,
        dropped=dropped,
        engine=str(said.get("checkpoint/engine", "")),
        notes=_object(said.get(NOTES)),
    )
    return Checkpoint(
        event.partition or WHOLE, int(_number(said[VERSION])), str(said.get(TABLE_ID, "")), part, event_id
    )


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
    """The checkpoint that made a version of a table, if the event log knows it."""
    for checkpoint in remembered(instance, asset_key, [partition]):
        if checkpoint.version == version and checkpoint.table_id == table_id:
            return checkpoint
        if checkpoint.table_id == table_id and checkpoint.version < version:
            return None
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
    oldest = min(missing.values())
    for checkpoint in remembered(instance, asset_key, list(versions)):
        if checkpoint.table_id == table_id and missing.get(checkpoint.partition) == checkpoint.version:
            del missing[checkpoint.partition]
        if not missing or (checkpoint.table_id == table_id and checkpoint.version < oldest and len(versions) == 1):
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

    A checkpoint of an attempt that began before counts as undone for its own chain: a resume makes it again.
    """
    failed: dict[str, int | None] = {}
    for run_id in chain.runs:
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
            verdict = entry.get_dagster_event().asset_check_evaluation_data
            if verdict.asset_key == asset_key:
                bad = verdict.blocking and not verdict.passed
                failed[verdict.check_name] = int(entry.timestamp * 1000) if bad else None
    return max((moment for moment in failed.values() if moment is not None), default=None)


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = json.loads(value)
    return dict(value) if isinstance(value, Mapping) else {}


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float, str)) else 0
