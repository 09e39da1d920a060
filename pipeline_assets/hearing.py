"""Events for commits that no event speaks of: whoever opens a table to write it records them (invariant 2)."""

from collections.abc import Mapping

from dagster import DagsterInstance

from pipeline_assets import checkpoints
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.outputs import Output


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
        said = checkpoints.metadata_of(part, versions[key], table, describe, checkpoints.ADOPTED)
        checkpoints.record_event(instance, output.asset_key, key, said)
    return sorted(missing)


def described_by(output: Output, table: Table) -> checkpoints.Described:
    """What all events of an output say of its table."""
    declared = output.metadata.get("dagster/column_schema")
    return checkpoints.described(output.table_name, output.partitions_def is not None, table.schema, declared)
