"""Events for commits that no event speaks of: whoever opens a table to write it records them (invariant 2)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from pipeline_assets import checkpoint_log, checkpoints
from pipeline_assets.delta.decide import Mode, Pin
from pipeline_assets.delta.names import data
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.scan import count_rows
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.errors import DamagedTable
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.io.steps import Outcome, Step
from pipeline_assets.processes import is_silent
from pipeline_assets.step_starts import known_successes, remember_success

RECENT = 10
"""How many commits whoever opens a table looks back."""


def pins_of_others(step: Step, outcomes: Iterable[Outcome]) -> dict[str, Pin]:
    """What an earlier attempt's commit was made from that this one did not know of when it began, and has adopted.

    Only inputs that this one read at another version: from those of the earlier one the step's other outputs are made, too.
    """
    adopted = [one.part.pins for one in outcomes if one.flag == checkpoints.ADOPTED]
    return {
        name: pin
        for pins in adopted
        for name, pin in pins.items()
        if step.pins.get(name, pin) != pin and pin not in step.told.get(name, ())
    }


def hear(instance: DagsterInstance | None, output: Output, table: Table, live: Mapping[str, Live]) -> list[str]:
    """Send the events that are missing of these live checkpoints; the partitions that had none."""
    if instance is None or output.asset_key is None:
        return []
    versions = {key: one.version for key, one in live.items() if one.part is not None}
    missing = checkpoint_log.unheard(instance, output.asset_key, versions, table.id)
    if not missing:
        return []
    lost = {
        key: Outcome(one.version, one.part, _flag(table, one.version))
        for key, one in live.items()
        if key in missing and one.part is not None
    }
    for key, said in said_of(output, table, lost).items():
        checkpoint_log.record_event(instance, output.asset_key, key, said)
    return sorted(missing)


def hear_recent(instance: DagsterInstance | None, output: Output, table: Table, own_run: str) -> list[str]:
    """The same for the newest commits of other runs that are over without success, or that this instance does not know.

    A run that succeeded has sent its events, one that is at work is about to; whatever else died did so at one of the
    newest commits when it was the newest, and whoever opens the table next looks at those.
    """
    if instance is None or output.asset_key is None:
        return []
    suspects: dict[str, Live] = {}
    for version, record in table.records(output.name, most=RECENT):
        for key, part in record.parts.items():
            if part is not None and part.run != own_run and table.txns.get(data(output.name, key)) == version:
                suspects[key] = Live(version, part)
    quiet = _silent(instance, {one.part.run for one in suspects.values() if one.part is not None})
    return hear(
        instance, output, table, {key: one for key, one in suspects.items() if one.part and one.part.run in quiet}
    )


def _flag(table: Table, version: int) -> str:
    """What the sender of a lost event, who did not make the version, says of it."""
    record = table.record_at(version)
    return checkpoints.RESTORED if record is not None and record.kind == "restore" else checkpoints.ADOPTED


def _silent(instance: DagsterInstance, runs: set[str]) -> set[str]:
    """Of some runs those that send no events any more, and may not have sent all."""
    unsure = runs - known_successes(instance)
    if not unsure:
        return set()
    done = set(instance.get_run_ids(RunsFilter(run_ids=sorted(unsure), statuses=[DagsterRunStatus.SUCCESS])))
    remember_success(instance, done)
    known = {run: instance.get_run_by_id(run) for run in unsure - done}
    return {name for name, run in known.items() if is_silent(instance, run)}


def said_of(output: Output, table: Table, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, Any]]:
    """The metadata of the partitions' events."""
    describe = described_by(output, table)
    # What was appended or merged is not what is there; and mode `ignore` keeps what nobody has counted.
    uncounted: dict[int, list[str]] = {}
    for key, outcome in outcomes.items():
        if output.mode is not Mode.OVERWRITE or not outcome.part.chain:
            uncounted.setdefault(outcome.version, []).append(key)
    rows: dict[str, int] = {}
    for version, keys in uncounted.items():
        partitions = partitions_among(output.wanted(keys), table.schema, output.name)
        rows.update(_counted(table, version, partitions))
    return {
        key: checkpoints.metadata_of(outcome.part, outcome.version, table, describe, outcome.flag, rows.get(key))
        for key, outcome in outcomes.items()
    }


def _counted(table: Table, version: int, partitions: Sequence[Partition]) -> dict[str, int]:
    """The rows of partitions at a version; where that cannot be opened any more (log clean-up), those that are there now."""
    try:
        return count_rows(table.location, version, partitions)
    except DamagedTable:
        if version >= table.version:
            raise
        return count_rows(table.location, table.version, partitions)


def described_by(output: Output, table: Table) -> checkpoints.Described:
    """What all events of an output say of its table."""
    declared = output.metadata.get("dagster/column_schema")
    return checkpoints.described(output.table_name, output.partitions_def is not None, table.schema, declared)
