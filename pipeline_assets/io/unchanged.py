"""Whether what an attempt would compute is there already, so that nothing is computed."""

from collections.abc import Collection, Iterable, Mapping

import dagster as dg
from dagster import DagsterEventType

from pipeline_assets import checkpoints
from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Pin
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.io.facts import committed_by_chain, outcome_of
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.io.proposals import MADE_BY, WHICH, which
from pipeline_assets.io.reading import memory_of, read_what_is_undone
from pipeline_assets.io.step_outputs import Written
from pipeline_assets.io.steps import Outcome, Read, Step

ERROR = dg.AssetCheckSeverity.ERROR
_LOOKED_AT = 10
"""Records of a check, of which the newest that is a verdict counts."""
_FILES_LOOKED_AT = 1000
"""A look takes a few microseconds; who deletes files by hand seldom leaves the first thousand."""
FORCE_TAG = "pipeline_assets/force"
"""A run with this tag computes what is unchanged as well."""


def committed(step: Step, written: Written, table: Table) -> dict[str, Outcome] | None:
    """What this chain has committed of an output already, where that is all of it (PROTOCOL.md, Start)."""
    if not step.attempt.again:
        return None
    found = committed_by_chain(step, written.output, written.keys, table)
    if len(found) < len(written.keys):
        return None
    return {
        key: outcome_of(step, written.output, table, key, rival, checkpoints.ADOPTED) for key, rival in found.items()
    }


def unchanged(
    step: Step, written: Written, table: Table, checks: Collection[dg.AssetCheckKey]
) -> dict[str, Outcome] | None:
    """The live checkpoints of an output, where each was made from what this attempt reads, and in the same way.

    checks: the asset's, which have a word in what is good.
    """
    output = written.output
    if table.base is not None or step.made_by is None:
        return None
    undone = table.undone()
    partitions = partitions_among(output.wanted(written.keys), table.schema, output.name)
    outcomes = {}
    for one in partitions:
        live = table.live(output.name, one.key, memory_of(step, output, table))
        if live is None or live.part is None or live.part.notes.get(MADE_BY) != dict(step.made_by(one.key)):
            return None
        if live.part.name(output.name, one.key) in undone or _is_restored(table, live):
            return None
        if table.foreign_between(one, live.version, table.version) or not _from_the_same(step.reads, live.part.pins):
            return None
        if live.part.notes.get(WHICH) != which(step.reads, one.key):
            return None
        outcomes[one.key] = Outcome(live.version, live.part, checkpoints.SKIPPED)
    if table.location.first_missing(lambda: table.paths(partitions)[:_FILES_LOOKED_AT]) is not None:
        return None  # deleted by hand
    return None if checks and _check_failed(step, output, outcomes.values(), checks) else outcomes


def _is_restored(table: Table, live: Live) -> bool:
    record = table.record_at(live.version)
    return record is not None and record.kind != "write"


def _from_the_same(reads: Mapping[str, Read], pins: Mapping[str, Pin]) -> bool:
    """Whether a checkpoint's inputs are those that are read, and what is read of them has not changed in between."""
    return reads.keys() == pins.keys() and all(_same(read, pins[name]) for name, read in reads.items())


def _same(read: Read, then: Pin) -> bool:
    if read.pin == then:
        return True
    if read.pin.table_id != then.table_id or read.pin.version < then.version:
        return False
    table = read.table
    if not table.is_ours:
        return table.same_data_as(then.version) >= read.pin.version
    if read.ignored or read_what_is_undone(read, read.keys, then.version):
        return False
    # Not only what is there: what a rollback took away altogether is spoken of at the version that did so.
    return all(table.txns.get(names.data(read.output.name, key), 0) <= then.version for key in read.keys)


def _check_failed(step: Step, output: Output, outcomes: Iterable[Outcome], checks: Iterable[dg.AssetCheckKey]) -> bool:
    """Whether the newest word of a blocking check, since one of the checkpoints was made, is that it is no good."""
    if step.instance is None or output.asset_key is None:
        return False
    made = min(one.part.attempt for one in outcomes) / 1000
    for key in checks:
        records = step.instance.event_log_storage.get_asset_check_execution_history(key, limit=_LOOKED_AT)
        events = [one.event for one in records if one.event is not None and one.event.timestamp >= made]
        # The newest may only have been planned, as by the run that asks.
        verdict = next(
            (
                event.get_dagster_event().asset_check_evaluation_data
                for event in events
                if event.get_dagster_event().event_type is DagsterEventType.ASSET_CHECK_EVALUATION
            ),
            None,
        )
        if verdict is not None and verdict.blocking and not verdict.passed and verdict.severity is ERROR:
            return True
    return False
