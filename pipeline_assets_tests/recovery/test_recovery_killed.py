"""A recovery that is killed itself is taken up by the next one, which brings to its end what was begun."""

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery import automation
from pipeline_assets.recovery.automation import MOST_DEATHS, mark_stuck, recovery_tags
from pipeline_assets.recovery.rollback_store import DONE, Store
from pipeline_assets_tests.recovery import children
from pipeline_assets_tests.recovery.test_on_failure import MODULE, a_failed_run, asked, done, location, shown

__all__ = ["location"]

Killed = Callable[[dg.RunRequest, str], None]


@pytest.fixture
def killed(instance: dg.DagsterInstance, tmp_path: Path) -> Killed:
    """Executes the run that was asked for in a process that dies by SIGKILL, and has it marked failed."""

    def execute(request: dg.RunRequest, point: str) -> None:
        config = tmp_path / "recovery.json"
        config.write_text(json.dumps(request.run_config))
        command = ["-m", "dagster", "job", "execute", "-m", MODULE, "-j", "recovery_job", "-c", str(config)]
        process = children.run([*command, "--tags", json.dumps(dict(request.tags))], {"PIPELINE_ASSETS_CRASH": point})
        assert process.returncode == children.KILLED, process.stderr
        assert len(mark_stuck(instance)) == 1

    return execute


@pytest.mark.parametrize("commit", [2, 4, 6, 7])
def test_a_rollback_whose_recovery_was_killed_is_brought_to_its_end_by_the_next(
    commit: int, instance: dg.DagsterInstance, tables: Location, location: CodeLocation, killed: Killed
) -> None:
    """After the plan was written down, after all is held, between the two restores, before they are told of."""
    failed = a_failed_run(instance, "undone_job")
    (first,) = asked(instance, location)
    killed(first, f"rollback:{commit}")
    (second,) = asked(instance, location)
    assert (second.run_key, second.run_config) == (f"{failed.run_id}/1", first.run_config)
    assert done(instance, location, second).is_success
    assert shown(tables) == {"a": 0, "b": 0, "c": 0}
    now = Store(tables).read()
    assert ([one.state for one in now.plans.values()], now.open) == ([DONE], None)
    assert asked(instance, location) == []


def test_what_is_owed_is_made_where_the_recovery_was_killed_after_its_rollback(
    instance: dg.DagsterInstance,
    tables: Location,
    location: CodeLocation,
    killed: Killed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_failed_run(instance, "undone_job")
    (first,) = asked(instance, location)
    killed(first, "rollback:9")
    made: list[int] = []
    monkeypatch.setattr(
        "pipeline_assets.recovery.recovering.refresh",
        lambda _instance, _job, rollback, _stages: made.append(rollback) or _Nothing(),
    )
    (second,) = asked(instance, location)
    assert done(instance, location, second).is_success
    assert made == list(Store(tables).read().plans)


class _Nothing:
    runs: tuple[str, ...] = ()
    success = True


def test_recoveries_that_die_again_and_again_leave_a_failure_to_a_person(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    failed = a_failed_run(instance, "undone_job")
    for number in range(MOST_DEATHS):
        (request,) = asked(instance, location)
        assert request.run_key == (f"{failed.run_id}/{number}" if number else failed.run_id)
        job = location.repository.get_job("recovery_job")
        died = instance.create_run_for_job(job, run_config=request.run_config, tags=dict(request.tags))
        assert asked(instance, location) == []
        instance.report_run_failed(died)
    assert asked(instance, location) == []


def test_a_recovery_that_says_of_what_it_failed_is_not_repeated(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    failed = a_failed_run(instance, "undone_job")
    config = automation.recovery_config(failed.run_id, "no such action")
    request = dg.RunRequest(run_config=config, tags=recovery_tags(failed.run_id))
    assert done(instance, location, request).is_failure
    assert asked(instance, location) == []
