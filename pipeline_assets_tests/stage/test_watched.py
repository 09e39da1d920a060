"""A stage whose time is up ends, whatever it is doing, by the process that watches its own; real processes."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable

from pipeline_assets.policy.policies import NO_BACKOFF
from pipeline_assets.processes import is_alive, is_gone, pid_here
from pipeline_assets.settings import ROOT
from pipeline_assets_tests.recovery.children import Done, end, materialize, pipeline_assets, start
from pipeline_assets_tests.stage import late, loud, slow
from pipeline_assets_tests.stage.waiting import failures, log_of, seconds_until_dead, wait_for

SLOW = "pipeline_assets_tests.stage.slow"
JOB = ["-m", "dagster", "job", "execute", "-m", SLOW, "-j", "slow_job"]
LOUD_JOB = ["-m", "dagster", "job", "execute", "-m", "pipeline_assets_tests.stage.loud", "-j", "loud_job"]
WITHIN, ROOM = 2.0, 1.5
"""Seconds after its time-out in which a stage ends, and what a busy machine may add to what is seen of that."""


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """On disk: other processes execute the runs."""
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@pytest.fixture
def tables(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tables lie."""
    monkeypatch.setenv(ROOT, str(home / "data"))
    return home / "data" / "slow"


class Child:
    """`dagster job execute`, or another command of Dagster's, in a process of its own."""

    def __init__(
        self, how: str | None, *, processes: bool = False, command: Sequence[str] = JOB, **variables: str
    ) -> None:
        more = {**({slow.HOW: how} if how else {}), **({slow.PROCESSES: "1"} if processes else {}), **variables}
        self.process = start(command, more)

    def began(self) -> dict[str, float]:
        """What the slow stage said when it began."""
        wait_for(lambda: slow.marker().exists() or self.process.poll() is not None)
        found: dict[str, float] = json.loads(slow.marker().read_text())
        return found

    def ended(self) -> Done:
        return end(self.process)


def finished(instance: dg.DagsterInstance, number: int) -> list[dg.DagsterRun]:
    """All runs, oldest first, when there are so many and none is at work."""

    def runs() -> list[dg.DagsterRun]:
        return list(instance.get_runs())[::-1]

    wait_for(lambda: len(runs()) == number and all(run.is_finished for run in runs()))
    return runs()


@pytest.fixture
def no_process_is_left() -> Iterator[None]:
    """Whatever a test began and what began of that is gone."""
    yield
    if slow.marker().exists():
        began = json.loads(slow.marker().read_text())
        for pid in (began["pid"], began["child"]):
            if pid and is_alive(pid, began["at"]):
                os.kill(pid, signal.SIGKILL)


pytestmark = pytest.mark.usefixtures("no_process_is_left")


@pytest.mark.parametrize(
    ("how", "processes"),
    [
        ("polars", False),
        ("gil", True),
        ("orphan", False),
        *(pytest.param(how, False, marks=pytest.mark.slow) for how in ("gil", "child", "child_and_native")),
        *(pytest.param(how, True, marks=pytest.mark.slow) for how in ("polars", "child", "child_and_native")),
    ],
)
def test_a_stage_ends_when_its_time_is_up_and_its_run_fails_and_says_why(
    how: str, processes: bool, tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child(how, processes=processes)
    began = child.began()
    assert seconds_until_dead(began["child"] or began["pid"], began["at"]) < 2 + WITHIN + ROOM
    child.ended()
    (run,) = finished(instance, 1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    wait_for(lambda: "timed out after 2 s" in log_of(instance, run))
    failed = [entry.step_key for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)]
    assert failed == ["slow__second"]
    assert not (tables / "second" / "_delta_log").exists()

    resumed = pipeline_assets("resume", run.run_id, "-m", SLOW)
    assert resumed.returncode == 0, resumed.stderr
    assert pl.read_delta(str(tables / "third"))["n"].sort().to_list() == [1, 2, 3]
    assert DeltaTable(tables / "first").version() == 0


def test_a_run_whose_stage_may_be_tried_again_goes_on_by_itself(tables: Path, instance: dg.DagsterInstance) -> None:
    child = Child("polars", command=materialize(SLOW), **{slow.AGAIN: "1", slow.RETRIES: "1"})
    assert "attempt 2 of 2" not in child.ended().stdout
    first, second = finished(instance, 2)
    assert (first.status, second.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
    assert second.parent_run_id == first.run_id
    said = "slow/second timed out after 2 s; its process was ended: attempt 2 of 2 in 0 s"
    assert said in log_of(instance, first)
    assert [DeltaTable(tables / name).version() for name in ("first", "second", "third")] == [0, 0, 0]


def test_a_run_goes_on_by_itself_where_nobody_reads_any_more_what_it_prints(
    tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child("gil", **{slow.AGAIN: "1", slow.RETRIES: "1"})
    child.began()
    for stream in (child.process.stdout, child.process.stderr):  # as a terminal that is closed
        assert stream is not None
        stream.close()
    child.process.wait()
    _, second = finished(instance, 2)
    assert second.status is dg.DagsterRunStatus.SUCCESS


WAITING = {slow.AGAIN: "1", slow.RETRIES: "1", slow.SECONDS: "1", NO_BACKOFF: ""}


def test_a_run_that_goes_on_by_itself_waits_first_and_says_so(tables: Path, instance: dg.DagsterInstance) -> None:
    Child("gil", **WAITING, **{slow.INTERVAL: "4"}).ended()
    first, second = finished(instance, 2)
    assert second.status is dg.DagsterRunStatus.SUCCESS
    found = re.search(r"its process was ended: attempt 2 of 2 in ([4-8]) s", log_of(instance, first))
    assert found
    assert f"Begins in {found[1]} s." in log_of(instance, second)
    ended, began = (instance.get_run_record_by_id(run.run_id) for run in (first, second))
    assert began.start_time - ended.end_time >= int(found[1]) - 1


def test_a_run_that_is_to_go_on_by_itself_can_be_stopped_while_it_waits(
    tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child("gil", **WAITING, **{slow.INTERVAL: "200"})
    wait_for(lambda: len(instance.get_runs()) == 2)
    waiting = instance.get_runs()[0]
    assert waiting.status is dg.DagsterRunStatus.NOT_STARTED
    assert is_gone(instance, waiting) is False
    os.kill(pid_here(waiting), signal.SIGTERM)
    child.ended()
    first, second = finished(instance, 2)
    assert (first.status, second.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    assert pipeline_assets("resume", "--last", "-m", SLOW).returncode == 0
    assert [DeltaTable(tables / name).version() for name in ("first", "second", "third")] == [0, 0, 0]


def test_runs_that_go_on_by_themselves_count_their_attempts_together(
    tables: Path, instance: dg.DagsterInstance
) -> None:
    Child("polars", **{slow.AGAIN: "1", slow.RETRIES: "1", slow.SECONDS: "1", slow.ALWAYS: "1"}).ended()
    first, second = finished(instance, 2)
    assert (first.status, second.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.FAILURE)
    assert "its process was ended: attempt 2 of 2 in 0 s" in log_of(instance, first)
    wait_for(lambda: "its process was ended: attempt 2 of 2 was the last" in log_of(instance, second))


@pytest.mark.parametrize("again", [True, False])
def test_with_a_process_a_step_the_run_lives_on_and_the_step_is_tried_again_only_if_it_says_so(
    again: bool, tables: Path, instance: dg.DagsterInstance
) -> None:
    Child("gil", processes=True, **{slow.RETRIES: "2"}, **({slow.AGAIN: "1"} if again else {})).ended()
    (run,) = finished(instance, 1)
    assert run.status is (dg.DagsterRunStatus.SUCCESS if again else dg.DagsterRunStatus.FAILURE)
    assert (tables / "third").exists() == again
    starts = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED)
    assert [entry.step_key for entry in starts] == (["slow__second"] if again else [])
    if not again:
        assert "slow/second timed out after 2 s; its process was ended" in failures(instance, run)
        assert not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
        assert (
            log_of(instance, run).count("slow/second timed out after 2 s; its process was ended: it is not tried") == 1
        )
        events = [
            entry.get_dagster_event().event_type for entry in instance.all_logs(run.run_id) if entry.dagster_event
        ]
        ends = [dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.PIPELINE_FAILURE]
        assert [event for event in events if event in ends] == ends


def test_the_last_of_a_step_s_attempts_fails_with_its_time_out_too(tables: Path, instance: dg.DagsterInstance) -> None:
    says_slowly = {slow.SAYING: "0.05"}  # native code begins while the executor is being told something
    Child("gil", processes=True, **says_slowly, **dict.fromkeys((slow.RETRIES, slow.AGAIN, slow.ALWAYS), "1")).ended()
    (run,) = finished(instance, 1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "slow/second timed out after 2 s; its process was ended" in failures(instance, run)
    assert "ChildProcessCrashException" not in failures(instance, run)
    assert len(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)) == 1
    assert "its process was ended: attempt 2 of 2 was the last" in log_of(instance, run)


def test_it_does_too_where_the_log_does_not_yet_tell_of_the_attempt_before(
    tables: Path, instance: dg.DagsterInstance
) -> None:
    """The executor makes the next attempt at once, and what tells the log is a process that has to start."""
    ways = dict.fromkeys((slow.RETRIES, slow.AGAIN, slow.ALWAYS), "1")
    Child("gil", processes=True, **{slow.AFTERWARDS: late.__name__}, **ways).ended()
    (run,) = finished(instance, 1)
    assert "slow/second timed out after 2 s; its process was ended" in failures(instance, run)
    assert "ChildProcessCrashException" not in failures(instance, run)


@pytest.mark.parametrize("size", [20_000, 300_000], ids=["what fits into the pipe", "more"])
def test_an_executor_that_reads_nothing_for_a_while_hears_afterwards_that_the_step_timed_out(
    size: int, tables: Path, instance: dg.DagsterInstance
) -> None:
    """Dagster's reads nothing while it waits for another step's process to exit, and for ever where half a message came."""
    child = Child(None, command=LOUD_JOB, **{loud.SIZE: str(size)})
    step = child.began()
    (run,) = instance.get_runs()
    wait_for(lambda: not is_alive(int(step["pid"]), step["at"]) or failures(instance, run))
    child.process.send_signal(signal.SIGCONT)
    child.ended()
    (run,) = finished(instance, 1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "timed out after 3 s" in failures(instance, run)
    assert "ChildProcessCrashException" not in failures(instance, run)
    assert not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)


def test_a_step_whose_process_was_killed_is_tried_again_and_the_log_says_so(
    tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child("python", processes=True, **{slow.SECONDS: "200", slow.RETRIES: "1"})
    os.kill(int(child.began()["pid"]), signal.SIGKILL)
    child.ended()
    (run,) = finished(instance, 1)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert "slow/second: attempt 2 of 2: transient, the process of the one before is gone" in log_of(instance, run)
    assert (tables / "third").exists()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_told_to_stop_stops_and_is_not_tried_again(
    sent: signal.Signals, tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child("python", **{slow.SECONDS: "200", slow.RETRIES: "3"})
    began = child.began()
    child.process.send_signal(sent)
    assert seconds_until_dead(began["pid"], began["at"]) < 30
    child.ended()
    (run,) = finished(instance, 1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "it is not tried again, and commits nothing any more" in log_of(instance, run)
    assert not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert pipeline_assets("resume", "--last", "-m", SLOW).returncode == 0
    assert [DeltaTable(tables / name).version() for name in ("first", "second", "third")] == [0, 0, 0]


def test_a_run_that_waits_for_the_next_attempt_hears_at_once_that_it_is_to_stop(
    tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child("unreachable", **{slow.RETRIES: "3", slow.INTERVAL: "100", NO_BACKOFF: ""})
    began = child.began()
    wait_for(lambda: instance.all_logs(instance.get_runs()[0].run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY))
    asked = time.time()
    child.process.terminate()
    assert seconds_until_dead(began["pid"], began["at"]) - (asked - began["at"]) < WITHIN + ROOM
    child.ended()
    (run,) = finished(instance, 1)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "Execution was interrupted unexpectedly" in log_of(instance, run)
    assert "slow/second: the run is to stop, so there is no other attempt" in log_of(instance, run)
    assert pipeline_assets("resume", "--last", "-m", SLOW).returncode == 0
    assert [DeltaTable(tables / name).version() for name in ("first", "second", "third")] == [0, 0, 0]


@pytest.mark.parametrize("processes", [False, True], ids=["in_process", "multiprocess"])
def test_native_code_that_does_not_hear_the_signal_is_ended(
    processes: bool, tables: Path, instance: dg.DagsterInstance
) -> None:
    child = Child("gil", processes=processes, **{slow.SECONDS: "200", slow.RETRIES: "3"})
    began = child.began()
    child.process.terminate()
    assert seconds_until_dead(began["pid"], began["at"]) < 30
    child.ended()
    (run,) = finished(instance, 1)
    said = "slow/second did not stop when it was asked to; its process was ended: it is not tried again"
    assert said in log_of(instance, run)
    assert not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert not (tables / "second" / "_delta_log").exists()


def test_a_run_that_ends_leaves_no_process_that_watches(tables: Path, instance: dg.DagsterInstance) -> None:
    child = Child(None)
    watchers: set[int] = set()

    def look() -> bool:
        folder = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children")
        for pid in folder.read_text().split() if folder.exists() else []:
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and "watch.py" in command.read_text():
                watchers.add(int(pid))
        return child.process.poll() is not None

    wait_for(look)
    assert child.ended().returncode == 0
    assert watchers
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in watchers), 10)
    assert (tables / "third").exists()
