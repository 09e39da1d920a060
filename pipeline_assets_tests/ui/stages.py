"""The slow location in a real `dagster dev`: what a person asks of it in the UI, by the same GraphQL."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets.processes import is_alive
from pipeline_assets.settings import ROOT
from pipeline_assets_tests.recovery.evidence import entries
from pipeline_assets_tests.stage import slow
from pipeline_assets_tests.stage.waiting import wait_for
from pipeline_assets_tests.ui.server import Dagster, served

IN_PROCESS, PROCESSES = "slow_job", "slow_processes_job"
INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  module: dagster
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
run_monitoring:
  enabled: true
  poll_interval_seconds: 1
run_retries:
  enabled: true
"""
"""`run_retries` try nothing again unless a run's tag says how often."""

LAUNCH = """mutation($asked: ExecutionParams!) { launchRun(executionParams: $asked) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation($run: String!) { terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""
FROM_FAILURE = """mutation($run: String!) {
  launchRunReexecution(reexecutionParams: { parentRunId: $run, strategy: FROM_FAILURE }) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


class Ui:
    """The server, its instance, and the tables that its runs write."""

    def __init__(self, dagster: Dagster, instance: dg.DagsterInstance, tables: Path) -> None:
        self.dagster, self.instance, self.tables = dagster, instance, tables

    def launch(self, how: str, job: str = IN_PROCESS, tags: Mapping[str, str] | None = None, **variables: str) -> str:
        """Materialize all; the second stage as the variables say. The run's id."""
        slow.marker().unlink(missing_ok=True)
        slow.variables().write_text(json.dumps({slow.HOW: how, slow.STOP: "3", **variables}))
        place = {"repositoryLocationName": self.dagster.location, "repositoryName": "__repository__", "jobName": job}
        named = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        asked = {"selector": place, "mode": "default", "runConfigData": {}, "executionMetadata": {"tags": named}}
        return self._launched(self.dagster.ask(LAUNCH, asked=asked)["launchRun"])

    def from_failure(self, run_id: str) -> str:
        """Re-execute → From failure; the new run's id."""
        return self._launched(self.dagster.ask(FROM_FAILURE, run=run_id)["launchRunReexecution"])

    @staticmethod
    def _launched(said: Mapping[str, Any]) -> str:
        assert said["__typename"] == "LaunchRunSuccess", said
        return str(said["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """Terminate."""
        said = self.dagster.ask(TERMINATE, run=run_id)["terminateRun"]
        assert said["__typename"] == "TerminateRunSuccess", said

    def began(self) -> dict[str, Any]:
        """What the second stage said when it began to be slow; whoever tries it after that has time."""
        wait_for(slow.marker().exists)
        said = json.loads(slow.variables().read_text())
        slow.variables().write_text(json.dumps({**said, slow.SECONDS: "200"}))
        found: dict[str, Any] = json.loads(slow.marker().read_text())
        return found

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def ended(self, run_id: str) -> dg.DagsterRun:
        """A run, when it has."""
        wait_for(lambda: self.run(run_id).is_finished)
        return self.run(run_id)

    def continuing(self, run_id: str) -> list[dg.DagsterRun]:
        """The runs that continue one."""
        return list(self.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id})))

    def commits(self) -> list[int]:
        """How many commits of data each of the three tables has."""
        tables = [Location.of(str(self.tables / name)) for name in ("first", "second", "third")]
        return [sum(entry.changes_data for entry in entries(table)) for table in tables]

    def heard_by_the_daemon(self, run: dg.DagsterRun) -> None:
        """Wait until the daemon has seen that a run failed, and done with it what `run_retries` say."""
        newest = self.instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=20).records
        failed = next(record.storage_id for record in newest if record.run_id == run.run_id)
        cursor = "EVENT_LOG_CONSUMER_CURSOR-PIPELINE_FAILURE"

        def seen() -> bool:
            found = self.instance.run_storage.get_cursor_values({cursor}).get(cursor)
            return found is not None and int(found) >= failed

        wait_for(seen)


def rows(ui: Ui) -> list[int]:
    """What the last table holds."""
    return sorted(pl.read_delta(str(ui.tables / "third"))["n"])


@contextmanager
def slow_location(home: Path) -> Iterator[Ui]:
    """A server of the slow location, and nothing left of it at the end."""
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv(ROOT, str(home / "data"))
        often = {"DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1", "PIPELINE_ASSETS_NO_BACKOFF": ""}
        with served(slow.__name__, often) as dagster, dg.DagsterInstance.from_config(str(home)) as instance:
            try:
                yield Ui(dagster, instance, home / "data" / "slow")
            finally:
                end_what_is_left()


def end_what_is_left() -> None:
    """The process of the second stage, where a test did not see it end."""
    if slow.marker().exists():
        began = json.loads(slow.marker().read_text())
        if is_alive(began["pid"], began["at"]):
            os.kill(began["pid"], signal.SIGKILL)
