"""How a rollback's plan, and what is owed after it, are said to a person: on the command line and in the UI."""

from pipeline_assets.delta.names import WHOLE
from pipeline_assets.errors import describe
from pipeline_assets.markdown import table
from pipeline_assets.policy.commands import located
from pipeline_assets.recovery.owed import BEHIND, KEPT, STALE, Owed
from pipeline_assets.recovery.rollback_plan import Plan
from pipeline_assets.recovery.rollback_targets import LIVE, NEVER, Entry

_WHY = {STALE: "was made from what is undone of", BEHIND: "is older than"}


def becomes(entry: Entry) -> str:
    """What becomes of a partition."""
    whose = f"undoes {', '.join(entry.chains)}"
    if entry.state != LIVE:
        return (
            f"version {entry.version} stays, another run's" if entry.version is not None else f"nothing stays; {whose}"
        )
    if entry.take_out:
        return f"version {entry.version}: {len(entry.take_out)} files are taken out; {whose}"
    if entry.back_to is None:
        return f"version {entry.version} → nothing; {whose}"
    of = f", of {entry.part.chain}" if entry.part is not None and entry.part.chain else ""
    return f"version {entry.version} → as at version {entry.back_to}{of}; {whose}"


def is_owed(one: Owed, module: str | None = None) -> str:
    """What is to be made again, and why. module: the code location, where it is to be named."""
    name = describe(one.stage, one.partition)
    if one.why == KEPT:
        return located(f"{name} was kept by run {one.run}; {one.mends[0]}", module)
    first = f"; first {', '.join(one.mends)}" if one.waits else ""
    return located(f"{name} {_WHY[one.why]} {', '.join(one.inputs)}{first}", module)


def plan_table(plan: Plan) -> str:
    """A plan as a Markdown table, a row for each stage and partition."""
    rows = [
        (one.stage, "" if entry.partition == WHOLE else entry.partition, becomes(entry))
        for one in plan.tables
        for entry in one.entries
        if entry.state != NEVER
    ]
    return table(("stage", "partition", "what becomes of it"), rows)
