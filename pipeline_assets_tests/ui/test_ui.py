"""As a person does it in the UI: launch, see it fail, re-execute from failure, see that upstream has not moved."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets_tests.recovery import gathering, story
from pipeline_assets_tests.recovery.evidence import all_lawful, rows, version
from pipeline_assets_tests.ui.browser import keep
from pipeline_assets_tests.ui.server import Dagster, served

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]


@pytest.fixture
def tables(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("PIPELINE_ASSETS_ROOT", str(root))
    return Location.of(str(root))


def ended(found: list[dict[str, Any]], status: str, count: int) -> bool:
    return len(found) == count and found[0]["status"] == status


def test_re_execute_from_failure_runs_what_is_left(instance: dg.DagsterInstance, tables: Location, page: Any) -> None:
    story.switch().touch()
    with served(story.__name__) as dagster:
        page.goto(f"{dagster.url}/locations/__repository__@{dagster.location}/jobs/story_job")
        page.get_by_role("button", name="Materialize all").click()
        failed = dagster.wait(lambda found: ended(found, "FAILURE", 1))[0]
        before = [version(tables.child("story", stage)) for stage in story.STAGES[:2]]
        story.switch().unlink()
        from_failure(page, dagster, failed["runId"])
        resumed = dagster.wait(lambda found: ended(found, "SUCCESS", 2))[0]
        page.goto(f"{dagster.url}/runs/{resumed['runId']}")
        page.get_by_text(re.compile("story__report")).first.wait_for()
        keep(page, "run-from-failure")
        page.goto(f"{dagster.url}/assets/story/by_customer?view=events")
        page.get_by_text("checkpoint/inputs").first.wait_for()
        keep(page, "checkpoint-of-a-stage")
    assert resumed["stepKeysToExecute"] == ["story__by_customer", "story__report"]
    assert [version(tables.child("story", stage)) for stage in story.STAGES[:2]] == before == [0, 0]
    assert rows(tables.child("story", "report")).height == 1
    all_lawful(instance, [tables.child("story", stage) for stage in story.STAGES])


def from_failure(page: Any, dagster: Dagster, run_id: str) -> None:
    """Re-execute → From failure."""
    page.goto(f"{dagster.url}/runs/{run_id}")
    button = page.get_by_role("button", name=re.compile("Re-execute")).first
    button.wait_for()
    keep(page, "run-that-failed")
    button.locator("xpath=following::button[1]").click()
    page.get_by_text(re.compile("From failure", re.IGNORECASE)).first.click()


BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


def test_the_daemon_makes_a_backfill_of_days_that_gather(instance: dg.DagsterInstance, tables: Location) -> None:
    keys = gathering.KEYS[:3]
    with served(gathering.__name__) as dagster:
        assets = [{"path": ["days", name]} for name in ("rows", "all_days")]
        params = {"assetSelection": assets, "partitionNames": keys}
        launched = dagster.ask(BACKFILL, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        dagster.wait(lambda _: backfill_is_over(dagster, launched["backfillId"]))
        assert {run["status"] for run in dagster.runs()} == {"SUCCESS"}
    assert sorted(rows(tables.child("days", "rows"))["day"]) == keys
    assert sorted(rows(tables.child("days", "all_days"))["day"]) == keys
    all_lawful(instance, [tables.child("days", name) for name in ("rows", "all_days")])


def backfill_is_over(dagster: Dagster, backfill: str) -> bool:
    query = "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
    status = dagster.ask(query, id=backfill)["partitionBackfillOrError"]["status"]
    assert status not in ("FAILED", "COMPLETED_FAILED", "CANCELED"), status
    return bool(status == "COMPLETED_SUCCESS")
