"""One failure is continued once, whoever asks, and however many at once."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.instance import DagsterInstance
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import WILL_RETRY_TAG
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
from dagster._daemon.types import DaemonHeartbeat

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery import claims
from pipeline_assets.recovery.resume import (
    AlreadyContinued,
    NotResumable,
    continuation_of,
    created,
    planned,
    resumable,
    resume,
)
from pipeline_assets_tests.recovery import children, claiming, story

ROUNDS = int(os.environ.get("PIPELINE_ASSETS_TEST_ROUNDS", "5"))
RETRIES = "run_retries:\n  enabled: true\n  max_retries: 2\n"


def a_failed_run(instance: dg.DagsterInstance, **said: Any) -> dg.DagsterRun:
    """A run of the story that did nothing, and failed."""
    return instance.create_run_for_job(story.job(), status=dg.DagsterRunStatus.FAILURE, **said)


def test_of_two_processes_that_resume_at_once_one_does_and_the_other_names_it(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    folder = tmp_path / "signs"
    folder.mkdir()
    failed = [a_failed_run(instance).run_id for _ in range(ROUNDS)]
    both = [children.start(["-m", claiming.__name__, str(folder), str(ROUNDS)]) for _ in range(2)]
    for number, run_id in enumerate(failed):
        until(lambda number=number: len(list(folder.glob(f"ready-{number}-*"))) == 2)
        (folder / "go").write_text(run_id)
        (folder / "go").rename(folder / f"go-{number}")
        until(lambda number=number: len(list(folder.glob(f"said-{number}-*"))) == 2)
        said = sorted(path.read_text() for path in folder.glob(f"said-{number}-*"))
        assert said[0] == continuation_of(run_id), said
        assert said[1].startswith(f"refused: Run {run_id} is continued by run {said[0]} already"), said
        assert len(list(claims.children_of(instance, instance.get_run_by_id(run_id)))) == 1
    assert [children.end(one).returncode for one in both] == [0, 0]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + children.SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_who_asks_for_the_run_that_another_continues_is_told_which_does(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    failed = a_failed_run(instance)
    first = created(instance, failed.run_id, story.job())
    for ask in (lambda: resumable(instance, failed.run_id), lambda: created(instance, failed.run_id, story.job())):
        with pytest.raises(AlreadyContinued, match=f"by run {first.run.run_id} already, which is NOT_STARTED"):
            ask()
    assert len(instance.get_runs()) == 2


def test_a_continuation_that_was_deleted_is_made_again(instance: dg.DagsterInstance, tables: Location) -> None:
    failed = a_failed_run(instance)
    instance.delete_run(created(instance, failed.run_id, story.job()).run.run_id)
    assert resume(instance, failed.run_id, story.job()).success


def test_a_re_execution_that_was_made_in_the_same_moment_goes_first(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UI's run has an id of its own, so both are made; ours has not begun, and goes."""
    failed = a_failed_run(instance)
    others: list[dg.DagsterRun] = []

    def create(run_id: str) -> dg.DagsterRun:
        child = {
            "parent_run_id": failed.run_id,
            "root_run_id": failed.run_id,
            "tags": {"dagster/parent_run_id": failed.run_id},
        }
        others.append(instance.create_run_for_job(story.job(), **child))
        return instance.create_run_for_job(story.job(), run_id=run_id, **child)

    with pytest.raises(AlreadyContinued) as refusal:
        claims.claimed(instance, failed, create)
    assert refusal.value.by == others[0].run_id
    assert {run.run_id for run in instance.get_runs()} == {failed.run_id, others[0].run_id}


@pytest.fixture
def retrying(home: Path, instance: dg.DagsterInstance) -> DagsterInstance:
    """An instance with run_retries."""
    yaml = home / "dagster.yaml"
    yaml.write_text(yaml.read_text() + RETRIES)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


def failed_by_the_daemon_s_hand(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run with a remote origin, as those have that the UI or a schedule launched; Dagster notes what it will do."""
    run = instance.create_run_for_job(story.job(), remote_job_origin=remote_origin())
    instance.report_run_failed(run)
    return instance.get_run_by_id(run.run_id)


def remote_origin() -> Any:
    return RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"), "story_job")


def beat(instance: dg.DagsterInstance, ago: float) -> None:
    kind = EventLogConsumerDaemon.daemon_type()
    assert kind == claims.RETRIES_DAEMON
    instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - ago, kind, "an-id", []))


def test_what_the_daemon_is_about_to_try_again_is_left_to_it(retrying: DagsterInstance, tables: Location) -> None:
    failed = failed_by_the_daemon_s_hand(retrying)
    assert failed.tags[WILL_RETRY_TAG] == "true"
    beat(retrying, 20)
    for ask in (planned, lambda *about: created(about[0], about[1].run_id, about[2])):
        with pytest.raises(NotResumable, match=f"Run {failed.run_id} is about to be tried again by Dagster's daemon"):
            ask(retrying, failed, story.job())
    assert len(retrying.get_runs()) == 1
    beat(retrying, 600)  # nobody is there to do it
    assert resume(retrying, failed.run_id, story.job()).success
    assert retrying.get_run_by_id(failed.run_id).tags[WILL_RETRY_TAG] == "false"


def test_what_the_daemon_has_tried_again_is_that_run_s(retrying: DagsterInstance, tables: Location) -> None:
    failed = failed_by_the_daemon_s_hand(retrying)
    again = retrying.create_run_for_job(story.job())  # with all steps, by its tag `dagster/retry_strategy`
    retrying.add_run_tags(failed.run_id, {"dagster/auto_retry_run_id": again.run_id})
    with pytest.raises(AlreadyContinued, match=again.run_id):
        created(retrying, failed.run_id, story.job())
    retrying.report_run_failed(again)
    with pytest.raises(NotResumable, match=f"`pipeline-assets resume {again.run_id}`"):
        created(retrying, failed.run_id, story.job())


def test_a_run_whose_process_is_gone_is_not_tried_again_by_the_daemon_as_well(
    retrying: DagsterInstance, tables: Location
) -> None:
    dead = retrying.create_run_for_job(
        story.job(), status=dg.DagsterRunStatus.STARTED, remote_job_origin=remote_origin()
    )
    beat(retrying, 0)
    assert resume(retrying, dead.run_id, story.job(), gone=True).success
    tags = retrying.get_run_by_id(dead.run_id).tags
    assert (tags[WILL_RETRY_TAG], tags["dagster/max_retries"]) == ("false", "2")
