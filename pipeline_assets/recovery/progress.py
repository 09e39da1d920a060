"""How far a run is, stage by stage, by following its events."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun, EventLogEntry, MetadataValue

from pipeline_assets import checkpoints
from pipeline_assets.recovery.causes import first_error
from pipeline_assets.recovery.tables import assets_by_step

WAITING, RUNNING, RETRYING, DONE, FAILED = "waiting", "running", "retrying", "done", "failed"
NOT_REACHED = "not reached"
_FLAGS = ("skipped", "kept", "adopted")
_STATES = {
    DagsterEventType.STEP_START: RUNNING,
    DagsterEventType.STEP_RESTARTED: RUNNING,
    DagsterEventType.STEP_UP_FOR_RETRY: RETRYING,
    DagsterEventType.STEP_SUCCESS: DONE,
    DagsterEventType.STEP_FAILURE: FAILED,
    DagsterEventType.STEP_SKIPPED: NOT_REACHED,
}
_FOLLOWED = {*_STATES, DagsterEventType.ASSET_MATERIALIZATION}
_PAGE = 200


@dataclass
class StageProgress:
    """A step of a run.

    name: the assets that it makes, or its own key. began, ended: s since 1970. rows: that it committed, or found, in all its
    partitions. version: the newest of its tables. flag: `skipped`, `kept` or `adopted` where it wrote nothing. why: what
    its last attempt failed of.
    """

    key: str
    name: str
    state: str = WAITING
    began: float | None = None
    ended: float | None = None
    rows: int | None = None
    version: int | None = None
    flag: str = ""
    why: str = ""


class Progress:
    """The steps of a run in their order, as far as the event log was read."""

    def __init__(self, instance: DagsterInstance, run: DagsterRun) -> None:
        self.run = run
        self.stages = {key: StageProgress(key, name) for key, name in _names(instance, run).items()}
        self._instance = instance
        self._cursor: str | None = None

    def poll(self) -> list[StageProgress]:
        """Read on; the stages that have got into another state since."""
        changed: dict[str, StageProgress] = {}
        while True:
            page = self._instance.get_records_for_run(self.run.run_id, self._cursor, _FOLLOWED, _PAGE, ascending=True)
            self._cursor = page.cursor
            for record in page.records:
                entry = record.event_log_entry
                if entry.step_key and self._take(entry):
                    changed[entry.step_key] = self.stages[entry.step_key]
            if not page.has_more:
                return list(changed.values())

    def over(self) -> None:
        """Read to the end of a run that has ended: what was at work failed, what waited is not reached."""
        self.poll()
        for stage in self.stages.values():
            if stage.state in (RUNNING, RETRYING):
                stage.state, stage.ended = FAILED, time.time()
            elif stage.state == WAITING:
                stage.state = NOT_REACHED

    def _take(self, entry: EventLogEntry) -> bool:
        key = str(entry.step_key)
        stage = self.stages.setdefault(key, StageProgress(key, key))  # a mapped step is known when it runs
        event = entry.get_dagster_event()
        if event.event_type is DagsterEventType.ASSET_MATERIALIZATION:
            materialization = entry.asset_materialization
            if materialization is not None:
                _count(stage, materialization.metadata)
            return False
        stage.state = _STATES[event.event_type]
        if stage.state == RUNNING:
            stage.began, stage.ended, stage.rows, stage.version, stage.flag = entry.timestamp, None, None, None, ""
        else:
            stage.ended = entry.timestamp
        if event.event_type in {DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}:
            stage.why = str(first_error(getattr(event.event_specific_data, "error", None)) or "")
        return True


def _count(stage: StageProgress, metadata: Mapping[str, MetadataValue[Any]]) -> None:
    counted = checkpoints.rows_of(metadata)
    if counted is not None:
        stage.rows = (stage.rows or 0) + counted
    version = metadata.get(checkpoints.VERSION)
    if version is not None and isinstance(version.value, int):
        stage.version = max(stage.version or 0, version.value)
        # Of a range, in which some were written, it is not said that it was skipped.
        flag = next((name for name in _FLAGS if checkpoints.FLAGS[name] in metadata), "written")
        stage.flag = flag if stage.flag in ("", flag) else "written"


def _names(instance: DagsterInstance, run: DagsterRun) -> dict[str, str]:
    """What each step of a run is called, in the order in which they are executed."""
    steps = assets_by_step(instance, run)
    return {
        step: ", ".join(key.to_user_string() for key in keys) or step
        for step, keys in steps.items()
        if "[?]" not in step
    }
