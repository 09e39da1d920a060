"""Whether a step that a chain has finished is to be made again, because a rollback took away what it ended green with."""

from dagster import DagsterInstance

from pipeline_assets import checkpoints
from pipeline_assets.chains import Chain
from pipeline_assets.delta.decide import Name
from pipeline_assets.delta.states import made_by
from pipeline_assets.delta.table import open_table
from pipeline_assets.io.step_outputs import Written


def taken_back(instance: DagsterInstance, chain: Chain, written: Written) -> bool:
    """Whether, in some partition, all is undone that the chain wrote, kept or skipped there."""
    output = written.output
    table = open_table(output.location)
    undone = {name for name in table.undone() if name.output == output.name} if table is not None else set()
    if table is None or not undone:
        return False
    found = {key: set[Name]() for key in written.keys}
    for key, (_, part) in made_by(table, output.name, written.keys, chain.first).items():
        found[key].add(part.name(output.name, key))
    if output.asset_key is not None:
        told = checkpoints.told_by(instance, chain.runs, output.asset_key, table.id)
        for committed in checkpoints.of_chain(instance, chain, output.asset_key, written.keys, table.id).values():
            told += committed
        for one in told:
            if one.partition in found:
                found[one.partition].add(one.part.name(output.name, one.partition))
    return any(names and names <= undone for names in found.values())
