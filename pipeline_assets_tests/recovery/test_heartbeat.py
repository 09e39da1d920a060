"""A run of another host is gone when its process was seen to end, or when its beat does not come for long; never else."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets import heartbeat
from pipeline_assets.delta.location import Location
from pipeline_assets.processes import PLACE_TAG, is_gone
from pipeline_assets.recovery.resume import NotResumable, resumable, resume
from pipeline_assets_tests.conftest import INSTANCE
from pipeline_assets_tests.postgres import Postgres
from pipeline_assets_tests.recovery import beating, children, evidence

pytestmark = pytest.mark.postgres


@pytest.fixture
def shared(postgres: Postgres, home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance whose runs other hosts can see, too."""
    storage = f"storage: {{postgres: {{postgres_url: '{postgres.database()}'}}}}\n"
    (home / "dagster.yaml").write_text(INSTANCE + storage)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def elsewhere(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """The only run, as another host sees it."""
    run = instance.get_runs()[0]
    instance.add_run_tags(run.run_id, {PLACE_TAG: f"{run.run_id} elsewhere 11-22 pid:[33] 44"})
    return instance.get_run_by_id(run.run_id)


def newest_beat(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    key = f"pipeline_assets/beat/{run.run_id}"
    return instance.run_storage.get_cursor_values({key}).get(key)


def test_it_beats_while_its_process_lives_not_while_it_is_stopped_and_is_gone_when_that_has_ended(
    shared: dg.DagsterInstance, tables: Location
) -> None:
    process = children.start(["-m", beating.__name__])
    try:
        until(lambda: evidence.events(shared, "beating/first") and shared.get_runs()[0].tags.get(PLACE_TAG))
        run = elsewhere(shared)
        until(lambda: "beating__second" in evidence.steps_of(shared, run.run_id))
        beats = set()
        until(lambda: beats.add(newest_beat(shared, run)) or len(beats) == 5)  # although no thread of it runs
        assert is_gone(shared, run) is False
        with pytest.raises(NotResumable, match=f"Run {run.run_id} is STARTED. Nothing was changed; wait for its end"):
            resumable(shared, run.run_id)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(heartbeat, "SILENT_SECONDS", 2.0)
            os.kill(process.pid, signal.SIGSTOP)
            until(lambda: is_gone(shared, run))
            os.kill(process.pid, signal.SIGCONT)
            until(lambda: is_gone(shared, run) is False)
    finally:
        process.kill()
    assert children.end(process).returncode == children.KILLED
    until(lambda: heartbeat.silence(shared, run.run_id) == math.inf)
    beating.go().touch()
    done = resume(shared, run.run_id, beating.job())
    assert done.success
    assert evidence.steps_of(shared, str(done.run_id)) == ["beating__second"]


def test_what_never_beat_cannot_be_told_and_what_ended_leaves_nothing(
    shared: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    beating.go().touch()
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.2)
    silent = shared.create_run_for_job(beating.job(), status=dg.DagsterRunStatus.STARTED)
    assert is_gone(shared, elsewhere(shared)) is None
    assert heartbeat.silence(shared, silent.run_id) is None
    done = beating.job().execute_in_process(instance=shared)
    until(lambda: not heartbeat.pids)
    assert heartbeat.silence(shared, done.run_id) is None
