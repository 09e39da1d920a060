"""The merges that other run chains made into partitions, as far as the table's log and the event log know of them.

The table's entries say which chains merged, and at which versions, also after log clean-up; from what, the event log does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dagster import DagsterInstance

from pipeline_assets import checkpoint_log
from pipeline_assets.delta.record import ADOPTED_BY_HAND, Part
from pipeline_assets.delta.states import members
from pipeline_assets.delta.table import Table
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.proposals import READS
from pipeline_assets.io.reading import has_moved_on
from pipeline_assets.io.steps import Step


@dataclass
class Merges:
    """Merges into a partition by version. forgotten: those of which nobody knows any more what they were made from."""

    known: dict[int, Part] = field(default_factory=dict)
    forgotten: set[int] = field(default_factory=set)


def merges_into(
    instance: DagsterInstance | None,
    output: Output,
    keys: Iterable[str],
    table: Table,
    own: int = 0,
    since: float | None = None,
) -> dict[str, Merges]:
    """The merges that are in each of some partitions, and what a person has adopted there.

    own: a chain of which none is forgotten. since: what was committed before (seconds since 1970) need not be known.
    """
    found = {key: Merges() for key in keys}
    for version, record in table.records(output.name):
        for key in found.keys() & record.parts.keys() if record.kind != "restore" else ():
            part = record.parts[key]
            if part is not None:
                found[key].known[version] = part
    chains = members(table, output.name)
    lost = {
        key: gone
        for key, one in found.items()
        if (gone := {at for chain, at in chains.get(key, {}).items() if chain != own and at not in one.known})
    }
    if lost and instance is not None and not (since is not None and _goes_back(table, since)):
        for key, versions in lost.items():
            _recall(instance, output, key, table, found[key], versions, since)
    return found


def _goes_back(table: Table, since: float) -> bool:
    """Whether the log has a commit of ours of before a moment, so that what it has lost is older than that."""
    commits = (commit for commit in table.log.back_from(table.version) if commit.record is not None)
    return any(commit.info.get("timestamp", since * 1000) < since * 1000 for commit in commits)


def _recall(
    instance: DagsterInstance,
    output: Output,
    key: str,
    table: Table,
    found: Merges,
    lost: set[int],
    since: float | None,
) -> None:
    """Ask the event log of merges that the table's log has lost."""
    if output.asset_key is None:
        return
    told = {
        one.version: one.part
        for one in checkpoint_log.remembered(instance, output.asset_key, [key], since)
        if one.table_id == table.id and one.partition == key
    }
    # What somebody adopted is taken as it is, with all that was merged before.
    by_hand = [at for at, part in {**told, **found.known}.items() if part.engine == ADOPTED_BY_HAND]
    older = checkpoint_log.told_before(instance, output.asset_key, key, since, table.id) if since is not None else -1
    floor = max([older, *by_hand])
    found.forgotten = {at for at in lost if at > floor and (at not in told or READS not in told[at].notes)}
    found.known |= {at: told[at] for at in lost & told.keys()}


def merges_of_others(step: Step, output: Output, keys: Sequence[str], table: Table) -> dict[str, Merges]:
    """For each partition the merges by other chains that read an input partition that this attempt reads, too.

    Not those that were undone. forgotten: those that may have been made from newer inputs than this attempt reads.
    """
    chain, mine = step.attempt.chain, {name: set(read.keys) for name, read in step.reads.items()}
    since = checkpoint_log.searched_since(step.instance, chain) if step.instance is not None else None
    undone = table.undone()
    found = merges_into(step.instance, output, keys, table, chain.number, since)
    for key, one in found.items():
        # What a run reads is older than the newest where it continues another, or was overtaken: else nothing is newer.
        if one.forgotten and not (mine and (len(chain.runs) > 1 or any(map(has_moved_on, step.reads.values())))):
            one.forgotten = set()
        one.known = {
            version: part
            for version, part in one.known.items()
            if part.chain != chain.first
            and part.name(output.name, key) not in undone
            and (not mine or _overlap(part, mine))
        }
    return found


def _overlap(part: Part, mine: Mapping[str, set[str]]) -> bool:
    theirs = part.notes.get(READS, {})
    return any(set(theirs.get(name, ())) & keys for name, keys in mine.items())
