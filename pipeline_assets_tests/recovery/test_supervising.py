"""A run in a process of its own is followed, shown, and spoken for, whoever ends it and whoever continues it."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.cli.progress import Screen
from pipeline_assets.delta.location import Location
from pipeline_assets.policy.policies import NO_BACKOFF
from pipeline_assets.recovery import endings
from pipeline_assets.recovery.causes import first_error
from pipeline_assets.recovery.launch import Part, created_run
from pipeline_assets.recovery.progress import Progress
from pipeline_assets.recovery.resume import resume
from pipeline_assets.recovery.self_recovery import Supervisor
from pipeline_assets.recovery.supervising import Stop
from pipeline_assets.settings import io_manager
from pipeline_assets.stage import stage
from pipeline_assets_tests.recovery import children, evidence, recovering_location, story
from pipeline_assets_tests.recovery.recovering_location import file
from pipeline_assets_tests.stage import slow
from pipeline_assets_tests.stage.waiting import failures, log_of


@pytest.fixture
def timing_out(monkeypatch: pytest.MonkeyPatch) -> CodeLocation:
    """A stage that is tried again after its time-out."""
    for name, value in {slow.HOW: "polars", slow.SECONDS: "1", slow.RETRIES: "1", slow.AGAIN: "1"}.items():
        monkeypatch.setenv(name, value)
    return CodeLocation(slow.__name__)


def test_a_stage_that_goes_on_by_itself_after_its_time_is_followed_to_its_end(
    instance: dg.DagsterInstance, tables: Location, timing_out: CodeLocation
) -> None:
    """The run's process is ended from outside, with its native code; who ended it says why, and continues it."""
    location = timing_out
    said: list[str] = []
    printed: list[bytes] = []
    supervisor = Supervisor(
        instance, location.repository, location.job, Stop(), lambda _: None, printed.append, said.append
    )
    run = created_run(instance, location.job("__ASSET_JOB"), None, Part(None, {}), {})
    ended = supervisor.to_the_end(run)
    assert (ended.is_success, ended.parent_run_id) == (True, run.run_id)
    assert said == [f"Run {ended.run_id} continues it."]
    assert supervisor.runs == [run.run_id, ended.run_id]
    assert b"timed out after 1 s; its process was ended" in b"".join(printed)
    assert instance.get_run_by_id(run.run_id).is_failure


def test_all_attempts_of_a_stage_that_goes_on_by_itself_are_followed(
    instance: dg.DagsterInstance, tables: Location, timing_out: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that hangs each time; the stages before it are made once."""
    more = {slow.HOW: "gil", slow.ALWAYS: "1", slow.RETRIES: "2", slow.INTERVAL: "2", NO_BACKOFF: ""}
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    said: list[str] = []
    supervisor = Supervisor(
        instance, timing_out.repository, timing_out.job, Stop(), lambda _: None, lambda _: None, said.append
    )
    ended = supervisor.to_the_end(created_run(instance, timing_out.job("__ASSET_JOB"), None, Part(None, {}), {}))
    assert len(supervisor.runs) == 3
    assert said == [f"Run {run} continues it." for run in supervisor.runs[1:]]
    assert "slow/second timed out after 1 s; its process was ended: attempt 3 of 3 was the last" in log_of(
        instance, ended
    )
    assert all("its process was ended" in failures(instance, instance.get_run_by_id(run)) for run in supervisor.runs)


def test_a_time_out_is_said_in_words(instance: dg.DagsterInstance, tables: Location) -> None:
    @stage(key_prefix="shop", timeout=0.2)
    def late() -> None:
        while True:
            time.sleep(0.01)

    job = dg.Definitions([late], resources={"io_manager": io_manager()}).resolve_implicit_global_asset_job_def()
    run = job.execute_in_process(instance=instance, raise_on_error=False).run_id
    (failure,) = instance.all_logs(run, of_type=dg.DagsterEventType.STEP_FAILURE)
    cause = first_error(failure.get_dagster_event().step_failure_data.error)
    assert str(cause) == "TimedOut: timed out after 0.2 s"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "natively"])
def test_a_run_ends_with_who_looks_after_it_and_can_be_continued(
    how: str, instance: dg.DagsterInstance, tables: Location
) -> None:
    file("b.wait").write_text(how)
    supervisor = children.start(
        ["-c", "from pipeline_assets.cli import main; main()", "run", "shop", "-m", recovering_location.__name__]
    )
    await_that(file("b.waits").exists)
    supervisor.kill()
    supervisor.communicate()
    run = instance.get_runs()[0].run_id
    await_that(lambda: instance.get_run_by_id(run).is_failure)
    assert resume(instance, run, recovering_location.definitions().resolve_job_def("shop_job")).success
    evidence.all_lawful(instance, [tables.child("shop", name) for name in "abc"])


def await_that(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + children.SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_on_a_terminal_each_stage_has_a_line_that_changes(instance: dg.DagsterInstance, tables: Location) -> None:
    story.switch().touch()
    run = story.job().execute_in_process(instance=instance, raise_on_error=False)
    progress = Progress(instance, instance.get_run_by_id(run.run_id))
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, color_system="standard", width=100)
    with Screen(console) as screen:
        screen.heard(progress)
        waiting = terminal.getvalue()
        screen.printed(b"printed by a stage\n")
        progress.over()
        screen.heard(progress)
    assert waiting.count("waiting") == 4
    last = terminal.getvalue().removeprefix(waiting)
    assert "\x1b[" in last
    for part in ("printed by a stage", "1,000 rows, version 0", "failed", "Broken", "not reached"):
        assert part in last


def test_progress_follows_mapped_steps_too(instance: dg.DagsterInstance) -> None:
    @dg.op(out=dg.DynamicOut(int))
    def two() -> object:
        yield from (dg.DynamicOutput(number, mapping_key=f"k{number}") for number in range(2))

    @dg.op
    def one(number: int) -> int:
        return number

    @dg.job
    def mapping_job() -> None:
        two().map(one)

    run = mapping_job.execute_in_process(instance=instance)
    progress = Progress(instance, instance.get_run_by_id(run.run_id))
    progress.over()
    assert {key: stage.state for key, stage in progress.stages.items()} == dict.fromkeys(
        ("two", "one[k0]", "one[k1]"), "done"
    )


def test_what_the_kernel_kills_for_want_of_memory_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "CGROUPS", tmp_path)
    monkeypatch.setattr(endings, "OF_THIS_PROCESS", tmp_path / "cgroup")
    assert endings.memory_kills() is None
    (tmp_path / "cgroup").write_text("0::/a.slice/b.scope\n")
    (tmp_path / "a.slice" / "b.scope").mkdir(parents=True)
    events = tmp_path / "a.slice" / "b.scope" / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    before = endings.memory_kills()
    assert before == 2
    assert endings.why(-9, before) == "its process was killed by SIGKILL"
    events.write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert endings.why(-9, before) == "its process was killed by the kernel: out of memory"
    assert endings.why(-15, before) == "its process was killed by SIGTERM"
    assert endings.why(-64, before) == "its process was killed by SIGRTMAX"
    assert endings.why(3, before) == "its process ended with exit status 3, and no word of why"
