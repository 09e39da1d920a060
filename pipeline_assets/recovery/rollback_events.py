"""Telling Dagster what a rollback brought back: an event for each stage and partition, with the provenance of then."""

from collections.abc import Mapping

from dagster import AssetMaterialization, DagsterInstance
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    INPUT_DATA_VERSION_TAG_PREFIX,
    INPUT_EVENT_POINTER_TAG_PREFIX,
)

from pipeline_assets import checkpoint_log, checkpoints
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.states import made_at
from pipeline_assets.delta.table import Table
from pipeline_assets.io.events import data_version
from pipeline_assets.io.hearing import said_of
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.steps import Outcome
from pipeline_assets.recovery.rollback_plan import OfTable

NOTHING = Part(chain="", attempt=0, engine="")
"""What an event says of a partition in which a rollback left nothing of ours."""


def tell(
    instance: DagsterInstance, output: Output, one: OfTable, table: Table, rollback: int, *, at_once: bool = False
) -> list[str]:
    """Send the events that are missing of what a rollback restored in a table; the partitions that had none.

    at_once: this process restored all of it, so that nobody has told of it before.
    """
    asset_key = output.asset_key
    version, parts = _restored(table, rollback)
    if version is None or asset_key is None:
        return []
    restored = {entry.partition: version for entry in one.entries if entry.partition in parts}
    heard = {} if at_once else checkpoint_log.events_of(instance, asset_key, restored, table.id, since=rollback / 1000)
    outcomes = {
        key: Outcome(version, parts[key] or NOTHING, checkpoints.RESTORED) for key in restored if key not in heard
    }
    made = {key: made_at(table, output.name, key, version) for key in outcomes}
    events = checkpoint_log.events_of(instance, asset_key, made, table.id)
    for key, said in said_of(output, table, outcomes).items():
        tags = {DATA_VERSION_TAG: data_version(table.id, made[key]), **_provenance(events.get(key))}
        partition = None if key == WHOLE else key
        event = AssetMaterialization(asset_key, metadata=said, partition=partition, tags=tags)
        instance.report_runless_asset_event(event)
    return sorted(outcomes)


def _provenance(event: AssetMaterialization | None) -> dict[str, str]:
    """The tags by which Dagster knows what data are and were made of, of the event of the commit that made them.

    So whoever read the same data before is fresh, and whoever read what was taken back is stale.
    """
    tags = event.tags if event is not None else None
    return {name: value for name, value in (tags or {}).items() if _says_provenance(name)}


def _says_provenance(tag: str) -> bool:
    alone = {CODE_VERSION_TAG, DATA_VERSION_TAG, DATA_VERSION_IS_USER_PROVIDED_TAG}
    return tag in alone or tag.startswith((INPUT_DATA_VERSION_TAG_PREFIX, INPUT_EVENT_POINTER_TAG_PREFIX))


def _restored(table: Table, rollback: int) -> tuple[int | None, Mapping[str, Part | None]]:
    """The version that a rollback made of a table, and whose data each partition has since."""
    for commit in table.log.back_from(table.version):
        record = commit.record
        if record is not None and record.kind == "restore" and record.rollback == rollback:
            return commit.version, record.parts
    return None, {}
