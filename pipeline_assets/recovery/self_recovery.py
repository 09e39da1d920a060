"""A run that is looked after to its end, and recovered where its pipeline says so: what the command line does."""

from collections.abc import Callable
from dataclasses import dataclass, field

import dagster as dg
from dagster import DagsterInstance, DagsterRun, RepositoryDefinition

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.recovery.automation import recovery_config, recovery_job, recovery_tags
from pipeline_assets.recovery.claims import continued_by
from pipeline_assets.recovery.code_location import QUIET
from pipeline_assets.recovery.on_failure import RESUME, OnFailure
from pipeline_assets.recovery.plan import NotResumable
from pipeline_assets.recovery.recovering import (
    Jobs,
    NotRecovered,
    continuing,
    job_name_of,
    on_failure_of,
    recoveries,
    why_not,
)
from pipeline_assets.recovery.supervising import Child, Heard, Output, Stop, executed, follow, supervise


@dataclass
class Supervisor:
    """Looks after runs. runs: those that it has seen to their end, in order; recovered: what was done of failures."""

    instance: DagsterInstance
    repository: RepositoryDefinition
    jobs: Jobs
    stop: Stop
    heard: Heard
    output: Output
    say: Callable[[str], None]
    runs: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    _child: Child | None = None

    def to_the_end(self, run: DagsterRun, child: Child | None = None) -> DagsterRun:
        """Execute a run, and those that continue it by themselves; the last one, as it ended. child: as for `supervise`."""
        self.runs.append(run.run_id)
        self._child = child or Child(self.output)
        ended = supervise(self.instance, run, self.stop, self.heard, self.output, self._child)
        while (later := self._later(ended)) is not None:
            self.runs.append(later.run_id)
            ended = later
        return ended

    def _later(self, run: DagsterRun) -> DagsterRun | None:
        """The run that has continued a run that failed, as it ended; None where that is not continued now."""
        later = continued_by(self.instance, run)
        if later is not None:  # a stage's time-out does, and the daemon
            return self._followed(later)
        try:
            policy = on_failure_of(self.instance, self.repository, run)
        except ConfigurationError as error:
            self.say(f"Not recovered: {error}")
            return None
        if policy is None or run.is_success:
            return None
        if why_not(self.instance, run, policy, self.repository.get_job(job_name_of(run))) is not None:
            return None
        if policy.action == RESUME:
            return self._resumed(run, policy)
        self._undone(run, policy)
        return None

    def _resumed(self, run: DagsterRun, policy: OnFailure) -> DagsterRun | None:
        nth = recoveries(self.instance, run)
        seconds = policy.wait_before(nth, run.run_id)
        self.say(f"Run {run.run_id} failed, and is continued in {seconds:.0f} s ({nth + 1} of {policy.times}).")
        if self.stop.wait(seconds):
            return None
        try:
            continued = continuing(self.instance, run, self.jobs(job_name_of(run)), policy, QUIET)
        except (NotResumable, NotRecovered) as error:
            later = continued_by(self.instance, run)
            if later is not None:
                return self._followed(later)
            self.say(f"Not recovered: {error}")
            return None
        if continued.run is not None:
            self.recovered.append(f"resume by run {continued.run.run_id}")
            self.say(f"Run {continued.run.run_id} continues it.")
            self._child = Child(self.output) if continued.run.job_code_origin is not None else None
        return executed(self.instance, continued, self.stop, self.heard, self.output, self._child)

    def _followed(self, later: DagsterRun) -> DagsterRun:
        self.say(f"Run {later.run_id} continues it.")
        return follow(self.instance, later, self.stop, self.heard, self._child)

    def _undone(self, run: DagsterRun, policy: OnFailure) -> None:
        """By a run of recovery_job, as the daemon would."""
        self.say(f"Run {run.run_id} failed: {policy.action}.")
        result = recovery_job(self.jobs).execute_in_process(
            instance=self.instance,
            run_config={**recovery_config(run.run_id, policy.action), "loggers": QUIET},
            tags=recovery_tags(run.run_id),
            raise_on_error=False,
        )
        said = "; ".join(_said(result))
        self.recovered.append(f"{policy.action} by run {result.run_id}: {said}")
        self.say(said)


def _said(result: dg.ExecuteInProcessResult) -> list[str]:
    """What a run of recovery_job has done, or why it did not."""
    found = [
        str(event.step_output_data.metadata["what was done"].value)
        for event in result.all_events
        if event.is_successful_output and "what was done" in event.step_output_data.metadata
    ]
    return found or [
        str(event.step_failure_data.error_display_string.splitlines()[0]) for event in result.get_step_failure_events()
    ]
