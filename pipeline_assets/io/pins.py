"""What a run chain recorded of the versions at which it reads its inputs, in the events of its runs."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster import AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, MetadataValue
from dagster._core.events import AssetObservationData, EngineEventData

from pipeline_assets.chains import Attempt, Chain
from pipeline_assets.checkpoints import CHAIN, READ_BY, TABLE_ID, TOLD, VERSION
from pipeline_assets.delta.decide import Pin


def observe(instance: DagsterInstance, attempt: Attempt, source: AssetKey, pin: Pin) -> None:
    """Record, before anything is computed, at which version an attempt's chain reads a source."""
    said: dict[str, Any] = {VERSION: pin.version, TABLE_ID: pin.table_id, CHAIN: attempt.chain.first}
    observation = dg.AssetObservation(
        asset_key=source,
        description=f"{attempt.step_key} reads version {pin.version}",
        metadata={**said, READ_BY: attempt.step_key},
    )
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_OBSERVATION.value,
        job_name=_job_name(instance, attempt),
        step_key=attempt.step_key,
        event_specific_data=AssetObservationData(observation),
        message=f"{attempt.step_key} reads {source.to_user_string()} at version {pin.version}.",
    )
    instance.report_dagster_event(event, attempt.run_id)


def observed(instance: DagsterInstance, chain: Chain, source: AssetKey, table_id: str) -> Pin | None:
    """The version of a source's Delta table that a chain saw first, if it has seen one."""
    for run_id in chain.runs:
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ASSET_OBSERVATION):
            observation = entry.get_dagster_event().asset_observation_data.asset_observation
            said = {name: value.value for name, value in observation.metadata.items()}
            ours = observation.asset_key == source and said.get(CHAIN) == chain.first and READ_BY in said
            if ours and said[TABLE_ID] == table_id:
                return Pin(table_id, int(str(said[VERSION])))
    return None


def tell(instance: DagsterInstance, attempt: Attempt, pins: Mapping[str, Pin]) -> None:
    """Record from which versions of its inputs, at least, the attempts after this one are to compute."""
    instance.report_engine_event(
        f"{attempt.step_key} is computed again, from "
        f"{', '.join(f'{name} version {pin.version}' for name, pin in pins.items())}.",
        run_id=attempt.run_id,
        job_name=_job_name(instance, attempt),
        step_key=attempt.step_key,
        engine_event_data=EngineEventData(
            {TOLD: MetadataValue.json({name: [pin.table_id, pin.version] for name, pin in pins.items()})}
        ),
    )


def told(instance: DagsterInstance, attempt: Attempt) -> dict[str, set[Pin]]:
    """For each input from which versions the earlier attempts of the chain at this step were told to compute."""
    found: dict[str, set[Pin]] = {}
    for run_id in attempt.chain.runs:
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
            said = entry.get_dagster_event().engine_event_data.metadata.get(TOLD)
            if said is None or entry.step_key != attempt.step_key:
                continue
            pins: Mapping[str, tuple[str, int]] = said.value  # type: ignore[assignment]
            for name, (table_id, version) in pins.items():
                found.setdefault(name, set()).add(Pin(table_id, version))
    return found


def _job_name(instance: DagsterInstance, attempt: Attempt) -> str:
    run = instance.get_run_by_id(attempt.run_id)
    return run.job_name if run is not None else "a run that was deleted"
