"""How long the steps of a job took of late."""

from collections.abc import Collection, Mapping
from statistics import median

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.execution.stats import StepEventStatus

RUNS, DURATIONS = 10, 5
"""How many runs are looked at, newest first, and how many durations of a step are enough."""


def usual_seconds(instance: DagsterInstance, job_name: str, steps: Collection[str]) -> Mapping[str, float]:
    """The median seconds of steps in a job's newest runs that succeeded; a step that did in none is not there."""
    if not steps:
        return {}
    found: dict[str, list[float]] = {}
    wanted = dg.RunsFilter(job_name=job_name, statuses=[DagsterRunStatus.SUCCESS])
    for run in instance.get_runs(wanted, limit=RUNS):
        for one in instance.get_run_step_stats(run.run_id, list(steps)):
            if one.start_time is not None and one.end_time is not None and one.status is StepEventStatus.SUCCESS:
                found.setdefault(one.step_key, []).append(one.end_time - one.start_time)
    return {key: median(seconds[:DURATIONS]) for key, seconds in found.items()}
