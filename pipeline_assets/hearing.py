"""Events for commits that no event speaks of: whoever opens a table to write it records them (invariant 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster import DagsterInstance

from pipeline_assets import checkpoints
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.scan import count_rows
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.outputs import Output
from pipeline_assets.slices import slices_among


@dataclass(frozen=True)
class Outcome:
    """What became of one partition: the version and checkpoint that count, and the flag of its event."""

    version: int
    part: Part
    flag: str | None = None


def hear(instance: DagsterInstance | None, output: Output, table: Table, live: Mapping[str, Live]) -> list[str]:
    """Send the events that are missing of these live checkpoints; the partitions that had none."""
    if instance is None or output.asset_key is None:
        return []
    versions = {key: one.version for key, one in live.items() if one.part is not None}
    missing = checkpoints.unheard(instance, output.asset_key, versions, table.id)
    describe = described_by(output, table)
    for key in sorted(missing):
        part = live[key].part
        assert part is not None
        said = said_of(output, table, describe, key, Outcome(versions[key], part, checkpoints.ADOPTED))
        checkpoints.record_event(instance, output.asset_key, key, said)
    return sorted(missing)


def said_of(
    output: Output, table: Table, describe: checkpoints.Described, key: str, outcome: Outcome
) -> dict[str, Any]:
    """The metadata of a partition's event."""
    rows = None
    if output.mode is not Mode.OVERWRITE or not outcome.part.chain:  # mode `ignore` keeps what nobody has counted
        one = slices_among(output.wanted([key]), table.schema, output.name)[0]
        rows = count_rows(table.location, outcome.version, one)
    return checkpoints.metadata_of(outcome.part, outcome.version, table, describe, outcome.flag, rows)


def described_by(output: Output, table: Table) -> checkpoints.Described:
    """What all events of an output say of its table."""
    declared = output.metadata.get("dagster/column_schema")
    return checkpoints.described(output.table_name, output.partitions_def is not None, table.schema, declared)
