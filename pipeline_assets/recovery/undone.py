"""What rollbacks of a table have taken back, by the plans of the rollback table where it has them."""

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Name
from pipeline_assets.delta.table import Table
from pipeline_assets.recovery.rollback_plan import Plan
from pipeline_assets.recovery.rollback_store import Fold

RESTORED = 2


def undone_of(table: Table, stage: str, rollbacks: Fold) -> frozenset[Name]:
    """Names of the checkpoints of a stage that were taken back.

    The table's own log says the same, but all of it has to be read for that.
    """
    done = [int(found[1]) for app_id, step in table.txns.items() if step == RESTORED and (found := _plan(app_id))]
    if not all(one in rollbacks.plans for one in done):
        return frozenset(name for name in table.undone() if name.output == stage)
    plans = [Plan.of_json(rollbacks.plans[one].plan) for one in done]
    entries = [entry for plan in plans for one in plan.tables if one.stage == stage for entry in one.entries]
    return frozenset(name for entry in entries for name in entry.undone)


def _plan(app_id: str) -> tuple[str, ...] | None:
    found = names.parse(app_id) if app_id.startswith(f"{names.PREFIX}/plan/") else None
    return found if found is not None and len(found) == 2 else None
