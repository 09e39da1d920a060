"""Stages whose runs the UI launches: they time out, are terminated, go on; by the queue, the daemon and a code server."""

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import dagster as dg
import pytest

from pipeline_assets_tests.recovery import story
from pipeline_assets_tests.recovery.children import pipeline_assets
from pipeline_assets_tests.stage import slow
from pipeline_assets_tests.stage.waiting import busy, failures, log_of, seconds_until_dead, wait_for
from pipeline_assets_tests.ui.browser import keep
from pipeline_assets_tests.ui.stages import IN_PROCESS, PROCESSES, Ui, end_what_is_left, rows, slow_location

FAILURE, SUCCESS, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED
WITHIN, ROOM = 2.0, 1.5
"""Seconds after its time-out in which a stage ends, and what a busy machine may add to what is seen of that."""
STOPPING = 3 + 15
"""Seconds until what does not stop by itself is ended: the stages' grace here, and the word about why."""
ONCE = {"dagster/max_retries": "1"}
minutes_together = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    with slow_location(tmp_path_factory.mktemp("ui") / "dagster_home") as served:
        yield served


@pytest.fixture
def ui(server: Ui) -> Iterator[Ui]:
    yield server
    end_what_is_left()


@pytest.mark.parametrize(
    ("how", "job"),
    [
        ("polars", IN_PROCESS),
        ("gil", PROCESSES),
        pytest.param("gil", IN_PROCESS, marks=minutes_together),
        pytest.param("polars", PROCESSES, marks=minutes_together),
    ],
)
def test_a_run_from_the_ui_whose_stage_timed_out_fails_says_why_and_is_continued_from_the_ui(
    how: str, job: str, ui: Ui
) -> None:
    before = ui.commits()
    run_id = ui.launch(how, job)
    began = ui.began()
    assert seconds_until_dead(began["pid"], began["at"]) < 2 + WITHIN + ROOM
    run = ui.ended(run_id)
    assert run.status is FAILURE
    wait_for(
        lambda: "slow/second timed out after 2 s; its process was ended: it is not tried" in log_of(ui.instance, run)
    )
    wait_for(lambda: failures(ui.instance, run))
    # The code server saw it too; an executor is told, and takes it for no crash.
    assert ("terminated by signal 9" in log_of(ui.instance, run)) == (job == IN_PROCESS)
    assert ui.commits() == [before[0] + 1, *before[1:]]
    assert ui.continuing(run_id) == []

    continued = ui.ended(ui.from_failure(run_id))
    assert continued.status is SUCCESS
    assert ui.commits() == [number + 1 for number in before]
    assert rows(ui) == [1, 2, 3]


@pytest.mark.parametrize(
    ("how", "job", "tags"),
    [("gil", IN_PROCESS, {}), ("polars", IN_PROCESS, ONCE)],
    ids=["by_the_package", "by_run_retries"],
)
def test_exactly_one_run_goes_on_where_a_time_out_may_be_tried_again(
    how: str, job: str, tags: dict[str, str], ui: Ui
) -> None:
    before = ui.commits()
    run_id = ui.launch(how, job, tags, **{slow.AGAIN: "1", slow.RETRIES: "1"})
    ui.began()
    failed = ui.ended(run_id)
    assert failed.status is FAILURE
    wait_for(lambda: ui.continuing(run_id))
    ui.ended(ui.continuing(run_id)[0].run_id)
    ui.heard_by_the_daemon(failed)
    wait_for(lambda: "attempt 2 of 2 follows" in log_of(ui.instance, failed))
    (continued,) = ui.continuing(run_id)
    assert continued.status is SUCCESS
    assert continued.parent_run_id == run_id
    assert "dagster/retry_number" in continued.tags if tags else "pipeline_assets/failed_before" in continued.tags
    assert ui.instance.all_logs(continued.run_id, of_type=dg.DagsterEventType.PIPELINE_ENQUEUED)
    assert ui.commits() == [number + 1 for number in before]


@minutes_together
def test_with_a_process_a_step_the_same_run_tries_it_again(ui: Ui) -> None:
    before = ui.commits()
    run_id = ui.launch("polars", PROCESSES, **{slow.AGAIN: "1", slow.RETRIES: "1"})
    ui.began()
    run = ui.ended(run_id)
    assert run.status is SUCCESS
    assert ui.continuing(run.run_id) == []
    assert ui.commits() == [number + 1 for number in before]


@pytest.mark.parametrize(
    ("how", "job"),
    [
        ("python", IN_PROCESS),
        ("gil", IN_PROCESS),
        pytest.param("polars", IN_PROCESS, marks=minutes_together),
        pytest.param("python", PROCESSES, marks=minutes_together),
        pytest.param("polars", PROCESSES, marks=minutes_together),
        pytest.param("gil", PROCESSES, marks=minutes_together),
    ],
)
def test_a_run_that_is_terminated_in_the_ui_is_cancelled_whatever_its_stage_does(how: str, job: str, ui: Ui) -> None:
    before = ui.commits()
    run_id = ui.launch(how, job, ONCE, **{slow.SECONDS: "200", slow.RETRIES: "3"})
    began = ui.began()
    if how != "python":
        busy(began["pid"])
    ui.terminate(run_id)
    assert seconds_until_dead(began["pid"], began["at"]) < STOPPING + ROOM
    run = ui.ended(run_id)
    assert run.status is CANCELED
    said = "it is not tried again, and commits" if how == "python" else "did not stop when it was asked to"
    wait_for(lambda: said in log_of(ui.instance, run))
    assert ui.commits() == [before[0] + 1, *before[1:]]
    assert ui.continuing(run_id) == []

    if how == "python":
        assert ui.ended(ui.from_failure(run_id)).status is SUCCESS
    else:
        resumed = pipeline_assets("resume", run_id, "-m", slow.__name__)
        assert resumed.returncode == 0, resumed.stderr
    assert ui.commits() == [number + 1 for number in before]


def test_a_run_that_is_terminated_in_the_ui_while_it_waits_for_the_next_attempt_is_cancelled_at_once(ui: Ui) -> None:
    before = ui.commits()
    variables = {slow.RETRIES: "3", slow.INTERVAL: "100", slow.SECONDS: "200"}
    run_id = ui.launch("unreachable", tags=ONCE, **variables)
    began = ui.began()
    wait_for(lambda: ui.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY))
    asked = time.time()
    ui.terminate(run_id)
    assert seconds_until_dead(began["pid"], began["at"]) - (asked - began["at"]) < WITHIN + ROOM
    run = ui.ended(run_id)
    assert run.status is CANCELED
    assert "slow/second: the run is to stop, so there is no other attempt" in log_of(ui.instance, run)
    assert ui.commits() == [before[0] + 1, *before[1:]]
    assert ui.continuing(run_id) == []


def test_a_run_that_outlasts_max_runtime_stops_and_is_continued_from_the_ui(ui: Ui) -> None:
    before = ui.commits()
    run_id = ui.launch("python", tags={"dagster/max_runtime": "8"}, **{slow.SECONDS: "200", slow.RETRIES: "3"})
    began = ui.began()
    seconds_until_dead(began["pid"], began["at"])
    run = ui.ended(run_id)
    wait_for(lambda: "Exceeded maximum runtime of 8 seconds." in log_of(ui.instance, run))
    assert ui.run(run_id).status in {FAILURE, CANCELED}  # as the run's process or the daemon comes last
    assert not ui.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    ui.heard_by_the_daemon(run)
    assert ui.continuing(run_id) == []
    assert ui.commits() == [before[0] + 1, *before[1:]]

    assert ui.ended(ui.from_failure(run_id)).status is SUCCESS
    assert ui.commits() == [number + 1 for number in before]


def test_a_run_of_no_code_server_is_continued_neither_by_run_retries_nor_from_the_ui(ui: Ui) -> None:
    """Not by the daemon, nor by a person's click, as docs/recovery.md says: they ask for its origin."""
    story.switch().touch()
    ran = story.job().execute_in_process(instance=ui.instance, raise_on_error=False, tags=ONCE)
    run = ui.run(ran.run_id)
    assert run.status is FAILURE
    ui.heard_by_the_daemon(run)
    with pytest.raises(HTTPError):
        ui.from_failure(run.run_id)
    assert ui.continuing(run.run_id) == []


@pytest.mark.chromium
def test_the_page_of_a_run_shows_each_attempt_with_its_table_and_the_command_that_continues(ui: Ui, page: Any) -> None:
    variables = {slow.ALWAYS: "1", slow.RETRIES: "2", slow.INTERVAL: "1", slow.SECONDS: "200"}
    run = ui.ended(ui.launch("unreachable", **variables))
    assert run.status is FAILURE
    page.set_viewport_size({"width": 1400, "height": 1080})
    page.goto(f"{ui.dagster.url}/runs/{run.run_id}?logs=attempt")
    for said in (
        r"attempt 2 of 3 in [12] s: transient, ",
        r"attempt 3 of 3 in [1-4] s: ",
        "attempt 3 of 3 was the last: ",
    ):
        page.get_by_text(re.compile(said)).first.wait_for()
    page.get_by_text(f"pipeline-assets resume {run.run_id}").first.wait_for()
    page.get_by_text(str(ui.tables / "second")).first.wait_for()
    keep(page, "stage-attempts")
