"""The materialization events of what a writer did, handed to Dagster with the step's output."""

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import AssetKey, DataVersion, OutputContext
from dagster._core.execution.context.system import StepExecutionContext

from pipeline_assets import checkpoints, faults
from pipeline_assets.delta.states import made_at
from pipeline_assets.io.hearing import said_of
from pipeline_assets.io.merge_config import WriteMode
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.steps import Outcome, Step
from pipeline_assets.io.writing import Writer


def report(context: OutputContext, writer: Writer) -> None:
    """Give each partition the metadata of the checkpoint that counts for it (DESIGN 4.10)."""
    assert writer.table is not None
    said = said_of(writer.output, writer.table, writer.outcomes)
    if len(said) == 1:
        context.add_output_metadata(next(iter(said.values())))
    elif context._step_context is not None:  # noqa: SLF001  the public one raises where a value is written by hand
        add_metadata_of_partitions(context.step_context, context.asset_key, said)
    for key, outcome in writer.outcomes.items():
        # A skipped partition's event says all that there is to say; a line of log costs as much as half of that.
        if outcome.flag not in {None, checkpoints.SKIPPED}:
            context.log.info(told(writer.step, writer.output, key, outcome))
    _arm_after_event(context, writer.step, writer.output, list(said))


def keep_data_version(context: OutputContext, writer: Writer) -> None:
    """Make the data version of a stage's events that of its data: the Delta commit, so that equal data has an equal one.

    Dagster's default is a hash of code and inputs, the same whatever a source without inputs has brought. All partitions of a
    range have one, the newest's. What a rollback brought back has the one that it had.
    """
    asset_key, table = writer.output.asset_key, writer.table
    if asset_key is None or table is None or not writer.outcomes or context.step_context.has_data_version(asset_key):
        return
    made = [
        made_at(table, writer.output.name, key, one.version) if one.flag else one.version
        for key, one in writer.outcomes.items()
    ]
    context.step_context.set_data_version(asset_key, DataVersion(data_version(table.id, max(made))))


def data_version(table_id: str, version: int) -> str:
    """Dagster's data version of what a version of a table made."""
    return f"delta-{table_id}-{version}"


def told(step: Step, output: Output, key: str, outcome: Outcome) -> str:
    """What the log says of a partition that was not written."""
    name = f"{output.name} [{key}]" if key != "*" else output.name
    if outcome.flag == checkpoints.ADOPTED:
        return f"{name}: this run chain had committed version {outcome.version} already; it is adopted, nothing was written."
    whose = f"run chain {outcome.part.chain}" if outcome.part.chain else "somebody else"
    kept = f"{name}: version {outcome.version} by {whose} was kept, nothing was written"
    if output.write_mode is WriteMode.ignore:
        return f"{kept}: mode 'ignore' leaves a table as it is."
    return (
        f"{kept}: it was made from newer inputs than this run's ({_versions(outcome.part.pins)} against "
        f"{_versions(step.pins)}), or from the same later."
    )


def add_metadata_of_partitions(
    step_context: StepExecutionContext, asset_key: AssetKey, said: Mapping[str, Mapping[str, Any]]
) -> None:
    """Like `step_context.add_asset_metadata`, which lists all partitions of the range again for each of them."""
    accumulator = step_context._metadata_accumulator  # noqa: SLF001
    for key, metadata in said.items():
        accumulator = accumulator.with_additional_asset_metadata(asset_key, key, metadata)
    step_context._metadata_accumulator = accumulator  # noqa: SLF001


def _versions(pins: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} version {pin.version}" for name, pin in pins.items()) or "no inputs"


def _arm_after_event(context: OutputContext, step: Step, output: Output, keys: Sequence[str]) -> None:
    """The fault point after the event: Dagster stores it after the IO manager has returned."""
    if not faults.armed("after_event", output.name) or step.instance is None:
        return

    def crash(event: Any) -> None:
        dagster_event = getattr(event, "dagster_event", None)
        if dagster_event is None or not dagster_event.is_step_materialization:
            return
        if dagster_event.asset_key == output.asset_key:
            faults.crash("after_event", output.name, step.attempt.chain.first, ",".join(keys))

    step.instance.add_event_listener(context.run_id, crash)
