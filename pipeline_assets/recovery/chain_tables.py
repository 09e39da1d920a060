"""What a run chain has in the tables that its steps write: what is live, what was taken back, whether a table is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dagster import DagsterInstance

from pipeline_assets import checkpoint_log
from pipeline_assets.chains import Chain
from pipeline_assets.delta.decide import Name
from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.states import made_by
from pipeline_assets.delta.table import Live, Table, open_table
from pipeline_assets.io.step_outputs import Written


@dataclass(frozen=True)
class Committed:
    """What the chain has live in a table and was not undone, and what others have. table: None where there is none."""

    written: Written
    table: Table | None
    live: Mapping[str, Live]
    others: Mapping[str, Live] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether that is all that the step writes there."""
        return bool(self.written.keys) and set(self.written.keys) <= set(self.live)


def committed_by(chain: Chain, written: Written) -> Committed:
    """What the chain has live of an output."""
    table = open_table(written.output.location)
    live: dict[str, Live] = {}
    others: dict[str, Live] = {}
    if table is None:
        return Committed(written, None, live, others)
    undone = table.undone()
    for key in written.keys:
        found = table.live(written.output.name, key)
        if found is None or found.part is None or found.part.name(written.output.name, key) in undone:
            continue
        (live if chain_id(found.part.chain) == chain.number else others)[key] = found
    return Committed(written, table, live, others)


def is_overtaken(instance: DagsterInstance, chain: Chain, committed: Committed) -> bool:
    """Whether what other chains have live is not what the chain itself had found there, kept or skipped."""
    output, table = committed.written.output, committed.table
    if not committed.others or table is None:
        return False
    told = (
        checkpoint_log.told_by(instance, chain.runs, output.asset_key, table.id) if output.asset_key is not None else []
    )
    known = {(one.partition, one.version) for one in told}
    return any((key, one.version) not in known for key, one in committed.others.items())


def taken_back(instance: DagsterInstance, chain: Chain, committed: Committed) -> bool:
    """Whether, in some partition, all is undone that the chain wrote, kept or skipped there: it is to be made again."""
    output, keys, table = committed.written.output, committed.written.keys, committed.table
    undone = {name for name in table.undone() if name.output == output.name} if table is not None else set()
    if table is None or not undone:
        return False
    found = {key: set[Name]() for key in keys}
    for key, (_, part) in made_by(table, output.name, keys, chain.first).items():
        found[key].add(part.name(output.name, key))
    if output.asset_key is not None:
        told = checkpoint_log.told_by(instance, chain.runs, output.asset_key, table.id)
        for ones in checkpoint_log.of_chain(instance, chain, output.asset_key, keys, table.id).values():
            told += ones
        for one in told:
            if one.partition in found:
                found[one.partition].add(one.part.name(output.name, one.partition))
    return any(names and names <= undone for names in found.values())


def is_removed(instance: DagsterInstance, chain: Chain, committed: Committed) -> bool:
    """Whether there is no table of what the chain has written into one; a stage that returned nothing never had any."""
    return committed.table is None and checkpoint_log.had_table(
        instance, chain.runs, committed.written.output.asset_key
    )
