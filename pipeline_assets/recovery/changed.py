"""Which finished steps were made by other code, or by another configuration, than a run would make them by now."""

from collections.abc import Mapping
from typing import Any

from dagster import AssetKey, DagsterInstance, JobDefinition
from dagster._core.execution.plan.plan import ExecutionPlan

from pipeline_assets.io.proposals import MADE_BY
from pipeline_assets.recovery.plan import COMMITTED, FINISHED, Plan, StepState, assets_of, unresolved
from pipeline_assets.recovery.step_log import StepLog

CODE, CONFIGURATION = "code", "configuration"


def changed_since(
    instance: DagsterInstance, plan: Plan, job: JobDefinition, step: StepState, log: StepLog
) -> tuple[str, ...]:
    """What is another now, `code` or `configuration`. Of what nobody noted nothing is said.

    Code counts by the code version of each asset (`stage` has one by itself), configuration by what the runs of the chain
    were launched with: that of the step's op, and of the resources that it needs.
    """
    if step.state not in {FINISHED, COMMITTED}:
        return ()
    code = any(_is_older(job, key, log, step) for key in assets_of(plan.execution, unresolved(step.key)))
    return ((CODE,) if code else ()) + (
        (CONFIGURATION,) if _configured_otherwise(instance, plan, job, step, log) else ()
    )


def code_versions(job: JobDefinition, execution: ExecutionPlan) -> dict[str, str | None]:
    """The code version of each asset that is made, None where it has none."""
    keys = [key for step in execution.get_all_steps_in_topo_order() for key in assets_of(execution, step.key)]
    return {key.to_user_string(): job.asset_layer.get(key).code_version for key in keys}


def _is_older(job: JobDefinition, key: AssetKey, log: StepLog, step: StepState) -> bool:
    now = job.asset_layer.get(key).code_version
    made = {said for (asset, _), said in log.code.items() if asset == key} or _noted(key, step)
    return now is not None and bool(made - {now})


def _noted(key: AssetKey, step: StepState) -> set[str]:
    """By the checkpoints themselves, where no event of the chain's runs tells."""
    parts = [live.part for one in step.committed if one.written.output.asset_key == key for live in one.live.values()]
    noted = [part.notes.get(MADE_BY, {}).get("code") for part in parts if part is not None]
    return {str(one) for one in noted if one is not None}


def _configured_otherwise(
    instance: DagsterInstance, plan: Plan, job: JobDefinition, step: StepState, log: StepLog
) -> bool:
    run = instance.get_run_by_id(log.by) if log.by is not None else None
    return run is not None and _config_of(plan, job, step, run.run_config) != _config_of(plan, job, step, plan.config)


def _config_of(plan: Plan, job: JobDefinition, step: StepState, config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run configuration reaches a step."""
    found = plan.execution.get_step_by_key(unresolved(step.key))
    resources = config.get("resources") or {}
    needed = job.get_node(found.node_handle).definition.required_resource_keys or set()  # type: ignore[attr-defined]
    ops = config.get("ops") or config.get("solids") or {}
    return {
        "op": ops.get(found.node_handle.path[0]),
        "resources": {key: resources[key] for key in sorted(needed) if key in resources},
    }
