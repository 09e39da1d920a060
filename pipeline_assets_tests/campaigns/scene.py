"""One pipeline, its tables and its Dagster home: materialize it in a child, kill that, resume, compare."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from pyarrow import fs

from pipeline_assets.delta.location import Location
from pipeline_assets.processes import is_gone
from pipeline_assets_tests.recovery import children, evidence
from pipeline_assets_tests.recovery.flights_in_processes import STAGES

DAY = "2013-01-05"
GONE_SECONDS = 120


class Wrong(Exception):
    """Something that must not be."""


@dataclass
class Scene:
    """home: DAGSTER_HOME. root: of the tables. module: the code location. variables: more of the environment."""

    home: Path
    root: Location
    module: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, Location]:
        """The tables by stage."""
        return {stage: self.root.child("flights", stage) for stage in STAGES}

    def ready(self, program: str, crash: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """A child that is about to materialize the day (`dagster`), or to resume it (`pipeline-assets`)."""
        arguments: Sequence[str] = ["resume", "--last", "-m", self.module]
        if program == "dagster":
            chosen = ["--select", 'key:"flights/*"', "--partition", DAY]
            arguments = ["asset", "materialize", "-m", self.module, *chosen]
        child = subprocess.Popen(
            [sys.executable, "-m", "pipeline_assets_tests.campaigns.ready", self.module, program, *arguments],
            cwd=self.home,
            env=children.environment({**self.variables, **(crash or {})}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self.home / "log").open("a"),
            text=True,
            start_new_session=True,
        )
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            raise Wrong(f"the child did not start: {self.log()[-2000:]}")
        return child

    def go(self, child: "subprocess.Popen[str]", seconds: float | None = None, group: bool = True) -> int | None:
        """Let it go on, to its end (the exit status) or until it is killed after `seconds` (None)."""
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        try:
            child.communicate(timeout=children.SECONDS if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            (os.killpg if group else os.kill)(child.pid, signal.SIGKILL)
            child.communicate()
            return None
        return child.returncode

    def await_the_end_of_workers(self, instance: dg.DagsterInstance) -> None:
        """Steps in processes of their own may outlive the run's process: wait, as a person would who is refused."""
        deadline = time.monotonic() + GONE_SECONDS
        for run in instance.get_runs(limit=1):
            while run.status is dg.DagsterRunStatus.STARTED and not is_gone(instance, run):
                if time.monotonic() > deadline:
                    raise Wrong(f"a process of run {run.run_id} does not end")
                time.sleep(0.05)

    def versions(self) -> dict[str, int]:
        """The newest version of each table that is there."""
        found = {stage: evidence.entries(table) for stage, table in self.tables.items()}
        return {stage: entries[-1].version for stage, entries in found.items() if entries}

    def finished(self, instance: dg.DagsterInstance) -> dict[str, int]:
        """The versions of the stages that are done: their step has succeeded in some run."""
        done = {
            str(entry.step_key).split("__")[1]
            for run in instance.get_runs()
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
        }
        return {stage: version for stage, version in self.versions().items() if stage in done}

    def log(self) -> str:
        """What the children said on stderr."""
        return (self.home / "log").read_text()

    def check(self, instance: dg.DagsterInstance, never_failed: Location) -> None:
        """Tables equal those of a run that never failed; nothing doubled, no commit without its event."""
        evidence.all_lawful(instance, self.tables.values())
        for stage, table in self.tables.items():
            evidence.same_rows(table, never_failed.child("flights", stage))
            foreign = [entry.version for entry in evidence.entries(table) if entry.changes_data and not entry.record]
            if foreign:
                raise Wrong(f"{stage} has data of nobody's in versions {foreign}")

    def phase(self, instance: dg.DagsterInstance) -> str:
        """Where the newest run was when it died."""
        runs = instance.get_runs(limit=1)
        if not runs:
            return "before there was a run"
        run = runs[0]
        if run.status is dg.DagsterRunStatus.NOT_STARTED:
            return "run created, not started"
        if run.status is dg.DagsterRunStatus.SUCCESS:
            return "after the run"
        done = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
        begun = evidence.steps_of(instance, run.run_id)
        at_work = [step for step in begun if step not in {entry.step_key for entry in done}]
        if not at_work:
            return "between steps" if begun else "before the first step"
        return self._phase_of_step(instance, run.run_id, at_work[-1].split("__")[1])

    def _phase_of_step(self, instance: dg.DagsterInstance, run_id: str, stage: str) -> str:
        table = self.tables[stage]
        parts = [part for entry in evidence.entries(table) for part in entry.parts]
        if run_id in {part["run"] for part in parts}:
            key = "*" if stage == "carrier_scorecard" else DAY
            told = [one["run"] for one in evidence.events(instance, f"flights/{stage}", key)]
            return "in a step: committed, event sent" if run_id in told else "in a step: committed, no event"
        attempts = {str(part["attempt"]) for part in parts}
        files = [info.base_name for info in table.files.get_file_info(fs.FileSelector("", True, True))]
        dead = [name for name in files if name.startswith("part-") and name.split("-")[2] not in attempts]
        return "in a step: files, no commit" if dead else "in a step: nothing written yet"
