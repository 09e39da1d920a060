"""The checkpoint log's entries: what a materialization's metadata says. The only place where its keys are spelled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster import (
    MetadataValue,
)
from deltalake import Schema

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
URI = "dagster/uri"


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
        URI: table.location.uri,
        "dagster/table_name": output.table_name,
        "checkpoint/format": FORMAT,
        CHAIN: part.chain,
    }
    if part.is_known:
        said |= {
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


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = json.loads(value)
    return dict(value) if isinstance(value, Mapping) else {}


def _number(value: Any) -> int:
    return int(value) if isinstance(value, (int, float, str)) else 0
