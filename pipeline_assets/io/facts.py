"""What the decision needs to know of one output, from the table's log, the event log and the run's status."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from pipeline_assets import checkpoint_log
from pipeline_assets.chains import why_followed, why_stopped
from pipeline_assets.delta import decide as rules
from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Facts, Mode, Pins, Rival
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.states import made_by
from pipeline_assets.delta.table import Live, Table
from pipeline_assets.errors import CheckFailed, FactsUnreachable, ForeignData, describe
from pipeline_assets.io.merges import Merges, merges_of_others
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.reading import memory_of, part_at, read_what_is_undone
from pipeline_assets.io.steps import Outcome, Step

logger = logging.getLogger(__name__)

STOPPED_SECONDS = 0.05
"""A commit follows its decision faster than this, unless something stood still, or the machine is busy."""


@dataclass
class Looked:
    """The facts of each partition at one version, and the live checkpoints that they were found in.

    forgotten: for each partition the newest merge that may be newer than what this attempt would merge, and nobody knows.
    """

    facts: Mapping[str, Facts]
    live: Mapping[str, Live] = field(default_factory=dict)
    forgotten: Mapping[str, int] = field(default_factory=dict)
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_old(self) -> bool:
        """Whether a commit comes so late after them that this process stood still in between (a suspended host)."""
        return time.monotonic() - self.asked_at > STOPPED_SECONDS


def look(step: Step, output: Output, keys: Sequence[str], table: Table | None, *, asking_run: bool = True) -> Looked:
    """What is known of some partitions. Raises FactsUnreachable where the event log cannot be asked.

    asking_run: whether the attempt is still wanted, too, without which nothing may be committed.
    """
    with answered(output, keys):
        return _look(step, output, keys, table, _why_stopped(step, table) if asking_run else None)


@contextmanager
def answered(output: Output, keys: Sequence[str]) -> Iterator[None]:
    """Dagster's storage is asked: raises FactsUnreachable where it does not answer."""
    try:
        yield
    except (SQLAlchemyError, ConnectionError) as error:
        unreachable = FactsUnreachable(output=output.name, partition=keys[0], why=str(error).splitlines()[0])
        logger.error(unreachable)  # noqa: TRY400  Dagster cannot store it now, so nobody would read it there
        raise unreachable from error


def _why_stopped(step: Step, table: Table | None) -> str | None:
    if step.instance is None:
        return None
    stopped = why_stopped(step.instance, step.attempt)
    if stopped is None and table is None:
        # There is no table yet whose fence would say so.
        stopped = why_followed(step.instance, step.attempt)
    return stopped


def _look(step: Step, output: Output, keys: Sequence[str], table: Table | None, stopped: str | None) -> Looked:
    attempt = step.attempt
    if table is None:
        return Looked({key: Facts(stopped=stopped) for key in keys})
    undone_inputs = [
        name
        for name, read in step.reads.items()
        if read.table.is_ours and read_what_is_undone(read, read.keys, read.pin.version)
    ]
    fence = table.txns.get(names.fence(attempt.chain.number), 0)
    mine = committed_by_chain(step, output, keys, table)
    kept = keys if output.mode is Mode.APPEND or output.asset_key is None else mine
    live = {key: found for key in keys if (found := live_of(step, output, key, table, stays=key in kept)) is not None}
    others = [key for key in keys if key not in mine and key in live] if output.mode is Mode.MERGE else []
    merges = merges_of_others(step, output, others, table) if others and output.asset_key is not None else {}
    facts = {
        key: Facts(
            fence=fence,
            hold=table.txns.get(names.hold(output.name, key), 0),
            stopped=stopped,
            mine=mine.get(key),
            rivals=_rivals(step, output, key, live.get(key), merges.get(key, Merges())),
            undone_inputs=undone_inputs,
        )
        for key in keys
    }
    forgotten = {key: max(one.forgotten) for key, one in merges.items() if one.forgotten}
    return Looked(facts, live, forgotten)


def live_of(step: Step, output: Output, key: str, table: Table, *, stays: bool = False) -> Live | None:
    """The live checkpoint of a partition. Raises ForeignData where nobody knows any more what it was made from.

    stays: whether that does not matter: the chain has committed here, or appends, or it is an op's, whose run is alone.
    """
    live = table.live(output.name, key, memory_of(step, output, table))
    if live is not None and live.part is None and step.instance is not None and not stays:
        raise ForeignData(
            table=output.location.uri,
            why=f"version {live.version} was written as {output.name}, but neither the table's log nor Dagster's event "
            "log knows any more from what, so it is not replaced",
        )
    return live


def committed_by_chain(step: Step, output: Output, keys: Sequence[str], table: Table) -> dict[str, Rival]:
    """This chain's checkpoints that are not undone: live in the table, or in the event log.

    Of what it has appended or merged the table's entry alone is enough. Raises CheckFailed where that was found bad.
    """
    undone = table.undone()
    bad_before = _failed_check(step, output)
    found: dict[str, Rival] = {}

    def note(key: str, version: int, part: Part) -> None:
        rival = Rival(part.name(output.name, key), version, part.pins)
        if rival.name not in undone and part.attempt > bad_before:
            found.setdefault(key, rival)

    chain = step.attempt.chain
    versions = {key: at for key in keys if (at := own_version(output, key, table, chain.number)) is not None}
    records = {key: table.record_at(version) for key, version in versions.items()}
    for key, record in records.items():
        own = record.parts.get(key) if record is not None and table.made(record) else None
        if own is not None:
            note(key, versions[key], own)
    unsure = [key for key in keys if key not in found]
    if unsure and step.attempt.again and output.asset_key is None:
        for key, (version, part) in made_by(table, output.name, unsure, chain.first).items():
            note(key, version, part)
    elif unsure and step.attempt.again and step.instance is not None and output.asset_key is not None:
        told = checkpoint_log.of_chain(step.instance, chain, output.asset_key, unsure, table.id)
        for key, committed in told.items():
            for one in committed:
                note(key, one.version, one.part)
    for key, version in versions.items() if output.mode is not Mode.OVERWRITE else ():
        record = records[key]
        if key in found or (record is not None and not table.made(record)):
            continue
        if bad_before >= 0:
            raise _check_failed(step, output, key, table, version)
        found[key] = Rival(Part(chain.first, 0).name(output.name, key), version)  # when, and from what, nobody knows
    return found


def outcome_of(step: Step, output: Output, table: Table, key: str, checkpoint: Rival, flag: str) -> Outcome:
    """What became of a partition in which a checkpoint stands."""
    part = part_at(step, output, table, key, checkpoint.version)
    if part is None:
        part = Part(chain=step.attempt.chain.first, attempt=checkpoint.name.attempt, pins=checkpoint.pins)
    return Outcome(checkpoint.version, part, flag)


def own_version(output: Output, key: str, table: Table, chain: int) -> int | None:
    """The version at which a chain (its number) wrote what is live of it in a partition, by the table's entries."""
    if output.mode is not Mode.OVERWRITE:
        return table.has_member(output.name, key, chain) or None
    if table.txns.get(names.chain(output.name, key)) == chain:
        return table.txns.get(names.data(output.name, key))
    return None


def _check_failed(step: Step, output: Output, key: str, table: Table, version: int) -> CheckFailed:
    return CheckFailed(
        output=output.name,
        partition=key,
        added="appended" if output.mode is Mode.APPEND else "merged",
        table=output.location.uri,
        version=version,
        run=step.attempt.run_id,
        beneath=output.mode is Mode.MERGE and table.txns.get(names.data(output.name, key)) != version,
    )


def _failed_check(step: Step, output: Output) -> int:
    if not step.attempt.again or step.instance is None or output.asset_key is None:
        return -1
    failed = checkpoint_log.failed_check(step.instance, step.attempt.chain, output.asset_key)
    return -1 if failed is None else failed


def _rivals(step: Step, output: Output, key: str, live: Live | None, merges: Merges) -> list[Rival]:
    """Whose data would be replaced. An op's output is a value of its run, which those of other runs do not outdo."""
    if output.asset_key is None or output.mode is Mode.APPEND or live is None or live.part is None:
        return []
    if output.mode is Mode.MERGE:
        return [_rival(step, output, key, *merge) for merge in sorted(merges.known.items(), reverse=True)]
    if live.part.chain == step.attempt.chain.first:
        return []  # its own, which does not count (a check failed), or is adopted before anybody is asked
    return [_rival(step, output, key, live.version, live.part)]


def _rival(step: Step, output: Output, key: str, version: int, part: Part) -> Rival:
    return Rival(part.name(output.name, key), version, part.pins, _made_from_undone(step, part.pins))


def _made_from_undone(step: Step, pins: Pins) -> bool:
    """Whether a checkpoint was made from something undone, on the inputs that this attempt reads as well."""
    for name, pin in pins.items():
        read = step.reads.get(name)
        if read is None or read.table.id != pin.table_id or not read.table.is_ours:
            continue
        if read_what_is_undone(read, read.keys, pin.version):
            return True
    return False


def decide(step: Step, output: Output, looked: Looked) -> rules.RangeDecision:
    """What the attempt may do with each partition. Raises ForeignData where nobody knows whether it may be merged."""
    own = step.attempt
    attempt = rules.Attempt(own.chain.number, own.number, step.pins, output.mode, own.since)
    decision = rules.decide_range(looked.facts, dict.fromkeys(looked.facts, attempt))
    unsure = [key for key in decision.writes if key in looked.forgotten] if decision.all_of is None else []
    if unsure:
        version = looked.forgotten[unsure[0]]
        raise ForeignData(
            table=output.location.uri,
            why=f"version {version} was merged as {describe(output.name, unsure[0])}, but neither the table's log nor "
            "Dagster's event log knows any more from what, so nothing that may be older is merged on top of it",
        )
    return decision
