"""A run that a command looks after to its end, with its progress, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from dagster import DagsterInstance, DagsterRun

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.cli.progress import Shown, seconds
from pipeline_assets.policy.commands import located
from pipeline_assets.recovery.failure_report import FailureReport, report_of
from pipeline_assets.recovery.progress import Progress, StageProgress
from pipeline_assets.recovery.self_recovery import Supervisor
from pipeline_assets.recovery.supervising import Child, Stop


@dataclass(frozen=True)
class Ended:
    """What became of a run, or of the last of those that continued it by themselves.

    runs: the ids of all of them. recovered: what was done of failures. report: where the last one failed.
    """

    run: DagsterRun
    runs: Sequence[str]
    recovered: Sequence[str]
    stages: Sequence[StageProgress]
    report: FailureReport | None

    def as_json(self) -> dict[str, Any]:
        """The same for a machine; durations in seconds."""
        return {
            "run": self.run.run_id,
            "runs": list(self.runs),
            "status": self.run.status.value,
            "success": self.run.is_success,
            "stages": [_stage(one) for one in self.stages],
            "recovery": list(self.recovered),
            "failure": self.report.as_json() if self.report else None,
        }


def look_after(
    opened: DagsterInstance,
    location: CodeLocation,
    asked: str | None,
    run: DagsterRun,
    screen: Shown,
    stop: Stop,
    child: Child | None = None,
) -> Ended:
    """Execute a run in a child process, and say how it goes and ends; a failure in four lines, on stderr.

    asked: the module that the code location was asked for by. child: one that was begun ahead.
    """
    last: list[Progress] = []

    def heard(progress: Progress) -> None:
        last[:] = [progress]
        screen.heard(progress)

    def say(line: str) -> None:
        screen.say(located(line, asked))

    supervisor = Supervisor(opened, location.repository, location.job, stop, heard, screen.printed, say)
    ended = supervisor.to_the_end(run, child)
    screen.settle()
    report = None
    if ended.is_success:
        screen.say(f"Done, by run {ended.run_id}.")
    else:
        report = report_of(opened, ended, location.job(ended.job_name), asked)
        for line in report.lines():
            click.echo(line, err=True)
    stages = list(last[0].stages.values()) if last else []
    recovered = [located(one, asked) for one in supervisor.recovered]
    return Ended(ended, supervisor.runs, recovered, stages, report)


def _stage(one: StageProgress) -> dict[str, Any]:
    took = seconds(one)
    return {
        "stage": one.name,
        "state": one.state,
        "seconds": None if took is None else round(took, 3),
        "rows": one.rows,
        "version": one.version,
        "what": one.flag if one.flag in ("skipped", "kept", "adopted") else None,
    }
