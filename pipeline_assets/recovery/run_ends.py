"""How far runs came with their stages: at work, failed and why, not reached; and whether their processes are there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.chains import chain_of, runs_of
from pipeline_assets.processes import AT_WORK, is_gone, is_silent, place_of
from pipeline_assets.recovery.claims import continued_by
from pipeline_assets.recovery.tables import steps_planned
from pipeline_assets.step_starts import STARTS

FAILED, KILLED, RUNNING, QUEUED, NOT_REACHED = "failed", "killed", "running", "queued", "not reached"
ENDED = "ended"
_WAITING = {DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED}
_UNFINISHED = [*_WAITING | AT_WORK]
_STEPS = {*STARTS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_SUCCESS}
MOST = 200
"""How many unfinished runs are looked at."""


@dataclass(frozen=True)
class RunSeen:
    """A run that is not at its end, or that has failed and nobody has continued.

    state: `queued`, `running`, `killed`, `failed`. host: where it is at work, if that is elsewhere. resume: the run to name
    to `pipeline-assets resume`, which is the newest of its chain; None where nothing is to be resumed.
    """

    run: str
    job: str
    partition: str | None
    state: str
    at: float
    host: str | None = None
    resume: str | None = None


@dataclass(frozen=True)
class StageEnd:
    """How far a run came with a stage. attempts: in its run chain. error: of the newest that failed, one line."""

    state: str
    attempts: int = 0
    error: str | None = None


@dataclass
class _Steps:
    """What a run's events say of its steps."""

    starts: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


class Runs:
    """Runs of an instance; each is looked at once."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self._runs: dict[str, DagsterRun | None] = {}
        self._seen: dict[str, RunSeen | None] = {}
        self._steps: dict[str, _Steps] = {}
        self._planned: dict[tuple[str | None, frozenset[str]], dict[AssetKey, str]] = {}
        self._chains: dict[str, tuple[str, ...]] = {}

    def load(self, run_ids: Iterable[str]) -> None:
        """Read some runs at once."""
        wanted = sorted({run_id for run_id in run_ids if run_id not in self._runs})
        found = {run.run_id: run for run in self.instance.get_runs(RunsFilter(run_ids=wanted))} if wanted else {}
        self._runs.update({run_id: found.get(run_id) for run_id in wanted})

    def unfinished(self) -> Iterator[RunSeen]:
        """Runs that are not at their end, newest first."""
        for run in self.instance.get_runs(RunsFilter(statuses=_UNFINISHED), limit=MOST):
            self._runs[run.run_id] = run
            seen = self.seen(run.run_id)
            if seen is not None:
                yield seen

    def chain(self, run_id: str) -> tuple[str, ...]:
        """The runs of a run's chain up to it; none where it was deleted."""
        if run_id not in self._chains:
            run = self._run(run_id)
            self._chains[run_id] = chain_of(self.instance, run).runs if run is not None else ()
        return self._chains[run_id]

    def of_chain(self, first: str) -> list[str]:
        """All runs of the chain that a run began, the first one first; none where it was deleted."""
        run = self._run(first)
        found = runs_of(self.instance, run) if run is not None else []
        self._runs.update({one.run_id: one for one in found})
        return [one.run_id for one in found]

    def seen(self, run_id: str) -> RunSeen | None:
        """What there is to say of a run; None of one that has succeeded, or was deleted."""
        if run_id not in self._seen:
            run = self._run(run_id)
            self._seen[run_id] = self._look(run) if run is not None and not run.is_success else None
        return self._seen[run_id]

    def silent(self, run_ids: Iterable[str]) -> set[str]:
        """Of some runs those that send no events any more, and may not have sent all."""
        return {run_id for run_id in run_ids if is_silent(self.instance, self._run(run_id))}

    def is_good(self, run_id: str) -> bool:
        """Whether a run has succeeded."""
        run = self._run(run_id)
        return run is not None and run.is_success

    def stages(self, run_id: str) -> set[str]:
        """What a run set out to make."""
        return {key.to_user_string() for key in self._steps_planned(run_id)}

    def state(self, run_id: str) -> str | None:
        """The same in a word, without a look at who has continued it."""
        run = self._run(run_id)
        if run is None or run.is_success:
            return None
        if run.is_finished:
            return FAILED
        seen = self.seen(run_id)
        return seen.state if seen is not None else None

    def end(self, run_id: str, stage: str) -> StageEnd:
        """How far a run came with a stage that it has planned."""
        run = self._run(run_id)
        if run is None:
            return StageEnd(ENDED)
        step = self._steps_planned(run_id).get(AssetKey(stage.split("/")), "")
        attempts = sum(self._events(one).starts.get(step, 0) for one in self.chain(run_id))
        seen, events = self.seen(run_id), self._events(run_id)
        if seen is None or step in events.done:
            return StageEnd(ENDED, attempts)
        error = events.errors.get(step)
        if seen.state in (RUNNING, QUEUED):
            return StageEnd(seen.state if step in events.starts else QUEUED, attempts, error)
        if step not in events.starts:
            return StageEnd(NOT_REACHED, attempts)
        if error is None:
            return StageEnd(KILLED, attempts, "its process is gone" if seen.state == KILLED else "its run was ended")
        return StageEnd(FAILED, attempts, error)

    def _run(self, run_id: str) -> DagsterRun | None:
        self.load([run_id])
        return self._runs[run_id]

    def _steps_planned(self, run_id: str) -> dict[AssetKey, str]:
        run = self._run(run_id)
        if run is None:
            return {}
        plan = run.execution_plan_snapshot_id, frozenset(run.step_keys_to_execute or ())
        if plan not in self._planned:  # many runs have the same one
            self._planned[plan] = steps_planned(self.instance, run)
        return self._planned[plan]

    def _look(self, run: DagsterRun) -> RunSeen:
        record = self.instance.get_run_record_by_id(run.run_id)
        at = (record.start_time or record.create_timestamp.timestamp()) if record is not None else 0.0
        state, host, resume = FAILED, None, None
        if run.status in _WAITING:
            state = QUEUED
        elif not run.is_finished:
            state = RUNNING
        gone = is_gone(self.instance, run)
        if gone is None:
            place = place_of(run)
            host = place.host if place is not None else "an unknown host"
        elif gone:
            state = KILLED
        if state in (FAILED, KILLED) and continued_by(self.instance, run) is None:
            resume = run.run_id
        return RunSeen(run.run_id, run.job_name, run.tags.get(PARTITION_NAME_TAG), state, at, host, resume)

    def _events(self, run_id: str) -> _Steps:
        if run_id not in self._steps:
            found = self._steps[run_id] = _Steps()
            for entry in self.instance.all_logs(run_id, of_type=_STEPS):
                event, step = entry.get_dagster_event(), entry.step_key or ""
                if event.event_type in STARTS:
                    found.starts[step] = found.starts.get(step, 0) + 1
                elif event.event_type is DagsterEventType.STEP_SUCCESS:
                    found.done.add(step)
                else:
                    found.errors[step] = _said(event.step_failure_data)
        return self._steps[run_id]


def _said(failure: object) -> str:
    """Why a step failed, in a line: what the stage raised itself."""
    said = getattr(getattr(failure, "user_failure_data", None), "description", None)
    error = getattr(failure, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    text = str(said or (error.message if error is not None else ""))
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if said or error is None or not error.cls_name:
        return first
    what = first.partition(f"{error.cls_name}: ")[2] if f"{error.cls_name}:" in first else ""
    return f"{error.cls_name}: {what}" if what else error.cls_name
