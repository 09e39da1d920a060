"""What a pipeline says of its failures is done by itself, once, whoever is there to do it: daemon, command line, retries."""

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from pipeline_assets import on_failure, processes
from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.delta.location import Location
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.processes import PLACE_TAG
from pipeline_assets.recovery import automation
from pipeline_assets.recovery.launch import Part, created_run
from pipeline_assets.recovery.on_failure import OnFailure
from pipeline_assets.recovery.recovering import ANSWERS_TAG, NotRecovered, continuing, on_failure_of, undo
from pipeline_assets.recovery.resume import AlreadyContinued, last_run, resume
from pipeline_assets.recovery.rollback import roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.recovery.rollback_store import AtWork, Store
from pipeline_assets.recovery.self_recovery import Supervisor
from pipeline_assets.recovery.supervising import Stop
from pipeline_assets_tests.recovery import children, evidence, recovering_location
from pipeline_assets_tests.recovery.recovering_location import file
from pipeline_assets_tests.recovery.rolling import values
from pipeline_assets_tests.ui.server import served

MODULE = recovering_location.__name__
ORIGIN = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__"), "any_job")
"""That of runs which the UI or a schedule launched."""


@pytest.fixture
def location(instance: dg.DagsterInstance, tables: Location) -> CodeLocation:
    """The code location, with its tables in this test's root."""
    recovering_location.defs = recovering_location.definitions()
    return CodeLocation(MODULE)


def a_failed_run(instance: dg.DagsterInstance, job: str, how: str = "", **more: Any) -> dg.DagsterRun:
    """A run of which `c` raises (again and again, if it is told `always`)."""
    file("c.raise").write_text(how)
    definition = recovering_location.definitions().resolve_job_def(job)
    ran = definition.execute_in_process(instance=instance, raise_on_error=False, **more)
    return instance.get_run_by_id(ran.run_id)


def asked(instance: dg.DagsterInstance, location: CodeLocation) -> list[dg.RunRequest]:
    """What the sensor asks for."""
    context = dg.build_sensor_context(instance=instance, repository_def=location.repository)
    found = location.repository.get_sensor_def("recovery_sensor").evaluate_tick(context)
    return list(found.run_requests or ())


def done(instance: dg.DagsterInstance, location: CodeLocation, request: dg.RunRequest) -> dg.DagsterRun:
    """The run that was asked for, executed as a run worker of the daemon's would."""
    job = location.job("recovery_job")
    with dg.execute_job(job, instance, run_config=request.run_config, tags=request.tags) as result:
        return instance.get_run_by_id(result.run_id)


def shown(tables: Location) -> dict[str, int]:
    return {name: len(values(tables.child("shop", name), "n")) for name in "abc"}


def test_the_daemon_resumes_what_failed_as_often_as_its_pipeline_says(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    """The run that it asks for continues the other in a process of its own; the failed one stays failed."""
    failed = a_failed_run(instance, "resumed_job")
    (request,) = asked(instance, location)
    assert request.tags[ANSWERS_TAG] == failed.run_id
    assert request.run_key == failed.run_id
    recovery = done(instance, location, request)
    assert recovery.is_success
    later = next(run for run in instance.get_runs() if run.parent_run_id == failed.run_id)
    assert (later.status.value, later.tags[ANSWERS_TAG]) == ("SUCCESS", failed.run_id)
    assert evidence.steps_of(instance, later.run_id) == ["shop__c"]
    assert instance.get_run_by_id(failed.run_id).is_failure
    assert asked(instance, location) == []
    evidence.all_lawful(instance, [tables.child("shop", name) for name in "abc"])
    again = done(instance, location, request)  # a second one that was asked for does nothing
    assert (again.status.value, len(instance.get_runs())) == ("SUCCESS", 4)


def test_a_chain_that_fails_again_and_again_is_left_to_a_person(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    """`times` counts over the chain; who continues it by hand is not counted."""
    run = a_failed_run(instance, "resumed_job", "always")
    for _ in range(2):
        (request,) = asked(instance, location)
        assert request.run_config["ops"]["recover"]["config"]["run_id"] == run.run_id
        made = continuing(instance, run, location.repository.get_job(run.job_name), OnFailure("resume", times=2)).run
        instance.report_run_failed(made)
        run = instance.get_run_by_id(made.run_id)
    assert asked(instance, location) == []


def test_the_daemon_undoes_what_failed(instance: dg.DagsterInstance, tables: Location, location: CodeLocation) -> None:
    failed = a_failed_run(instance, "undone_job")
    (request,) = asked(instance, location)
    recovery = done(instance, location, request)
    assert recovery.is_success
    assert shown(tables) == {"a": 0, "b": 0, "c": 0}
    assert len(instance.get_runs()) == 2
    assert instance.get_run_by_id(failed.run_id).is_failure
    assert asked(instance, location) == []


def test_of_two_that_undo_one_failure_at_once_one_does(
    home: Path, instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    failed = a_failed_run(instance, "undone_job")
    both = threading.Barrier(2)
    said: list[str] = []

    def recover() -> None:
        with dg.DagsterInstance.from_config(str(home)) as own:
            both.wait()
            try:
                said.append(undo(own, failed, location.repository.get_job, OnFailure("rollback")).said)
            except (AtWork, NotRecovered) as error:  # as recovery_job does, later
                said.append(str(error))

    threads = [threading.Thread(target=recover) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted("has undone" in one for one in said) == [False, True], said
    assert len(Store(tables).read().plans) == 1
    with pytest.raises(NotRecovered, match="has answered it"):
        undo(instance, failed, location.repository.get_job, OnFailure("rollback"))
    assert len(Store(tables).read().plans) == 1


def test_what_a_person_has_made_again_is_not_undone_by_one_who_comes_late(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    failed = a_failed_run(instance, "undone_job")
    job = location.repository.get_job("undone_job")
    assert continuing(instance, failed, job, OnFailure("resume")).run is not None
    with pytest.raises(NotRecovered, match="continues it"):
        undo(instance, failed, location.repository.get_job, OnFailure("rollback"))
    assert shown(tables) == {"a": 2, "b": 2, "c": 0}


@pytest.mark.parametrize("job", ["undone_job", "resumed_job"])
def test_what_a_person_undid_or_made_again_is_left_alone(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation, job: str
) -> None:
    definition = location.repository.get_job(job)
    failed = a_failed_run(instance, job)
    assert len(asked(instance, location)) == 1
    roll_back(instance, definition, Asked(UNDO, failed.run_id))
    assert asked(instance, location) == []
    with pytest.raises(NotRecovered, match="has answered it"):
        continuing(instance, failed, definition, OnFailure("resume"))
    another = a_failed_run(instance, job)
    assert [one.run_key for one in asked(instance, location)] == [another.run_id]
    assert resume(instance, another.run_id, definition, recompute=["shop/b"]).success
    assert asked(instance, location) == []
    with pytest.raises(NotRecovered, match="made it again"):
        undo(instance, another, location.repository.get_job, OnFailure("rollback"))
    assert shown(tables) == {"a": 2, "b": 2, "c": 2}


def test_a_failure_is_of_the_code_location_that_has_its_job_and_its_assets(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    @dg.asset
    def other() -> None: ...

    same_name = dg.define_asset_job("undone_job", [other], tags=on_failure("rollback"))
    elsewhere = dg.Definitions.merge(dg.Definitions([other], jobs=[same_name]), automation.recovery_definitions())
    failed = a_failed_run(instance, "undone_job")
    context = dg.build_sensor_context(instance=instance, repository_def=elsewhere.get_repository_def())
    sensor = elsewhere.get_repository_def().get_sensor_def("recovery_sensor")
    assert not sensor.evaluate_tick(context).run_requests
    assert [one.run_key for one in asked(instance, location)] == [failed.run_id]


def test_a_failed_recovery_is_nobodys_last_run(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    failed = a_failed_run(instance, "undone_job")
    config = automation.recovery_config(failed.run_id, "rollback")
    run = instance.create_run_for_job(location.repository.get_job("recovery_job"), run_config=config)
    instance.report_run_failed(run)
    assert last_run(instance).run_id == failed.run_id


def test_the_supervising_command_and_the_daemon_act_once_together(
    instance: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    """The daemon is faster: the command follows the run that continues, to its end."""
    file("c.raise").write_text("")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "is continued in" in line:
            (request,) = asked(instance, location)
            assert done(instance, location, request).is_success

    supervisor = Supervisor(instance, location.repository, location.job, Stop(), lambda _: None, lambda _: None, say)
    run = created_run(instance, location.job("resumed_job"), None, Part(None, {}), {})
    ended = supervisor.to_the_end(run)
    assert (ended.is_success, ended.parent_run_id) == (True, run.run_id)
    assert said[-1] == f"Run {ended.run_id} continues it."
    jobs = sorted(one.job_name for one in instance.get_runs())
    assert jobs == ["recovery_job", "resumed_job", "resumed_job"]
    evidence.all_lawful(instance, [tables.child("shop", name) for name in "abc"])


def test_a_failure_is_claimed_once(instance: dg.DagsterInstance, tables: Location, location: CodeLocation) -> None:
    failed = a_failed_run(instance, "resumed_job")
    job = location.repository.get_job("resumed_job")
    first = continuing(instance, failed, job, OnFailure("resume"))
    with pytest.raises((NotRecovered, AlreadyContinued), match=first.run.run_id):
        continuing(instance, failed, job, OnFailure("resume"))


RETRIES = "run_retries:\n  enabled: true\n  max_retries: 1\n"


@pytest.fixture
def retrying(home: Path, instance: dg.DagsterInstance) -> Iterator[dg.DagsterInstance]:
    """An instance with run_retries."""
    yaml = home / "dagster.yaml"
    yaml.write_text(yaml.read_text() + RETRIES)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


def test_what_run_retries_tries_again_is_left_to_it_until_it_has_used_them_up(
    retrying: dg.DagsterInstance, tables: Location, location: CodeLocation
) -> None:
    job = location.repository.get_job("resumed_job")

    def fail(**more: Any) -> dg.DagsterRun:
        run = retrying.create_run_for_job(job, remote_job_origin=ORIGIN, **more)
        run = retrying.get_run_by_id(run.run_id)
        retrying.add_run_tags(run.run_id, dict(job.run_tags))
        retrying.report_run_failed(run)
        return retrying.get_run_by_id(run.run_id)

    first = fail()
    assert first.tags["dagster/will_retry"] == "true"
    assert asked(retrying, location) == []
    tags = {"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id}
    second = fail(parent_run_id=first.run_id, root_run_id=first.run_id, tags=tags)
    assert second.tags["dagster/will_retry"] == "false"
    assert [one.run_key for one in asked(retrying, location)] == [second.run_id]


def test_a_run_of_any_assets_is_of_the_smallest_job_that_has_them_all(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """As those of `dagster asset materialize` and of backfills are."""
    shop, ab = recovering_location.SHOP, dg.AssetSelection.assets("shop/a", "shop/b")
    jobs = [
        dg.define_asset_job("all_of_it", shop, tags=on_failure("rollback")),
        dg.define_asset_job("two_of_it", ab, tags=on_failure("resume", times=7, backoff=0.5)),
        dg.define_asset_job("says_nothing", dg.AssetSelection.assets("shop/a")),
    ]
    repository = recovering_location.definitions(jobs).get_repository_def()
    every = repository.get_job("__ASSET_JOB")

    def said(*names: str) -> OnFailure | None:
        keys = frozenset(dg.AssetKey(["shop", name]) for name in names)
        run = instance.create_run_for_job(every.get_subset(asset_selection=keys), asset_selection=keys)
        return on_failure_of(instance, repository, run)

    assert said("a") == OnFailure("resume", 7, 0.5)
    assert said("a", "b", "c") == OnFailure("rollback")
    run = instance.create_run_for_job(repository.get_job("says_nothing"))
    assert on_failure_of(instance, repository, run) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"action": "retry"}, "on_failure is 'retry', and not one of rollback, rollback_failed, resume"),
        ({"action": "resume", "times": 0}, "resumes 0 times"),
        ({"action": "resume", "times": "often"}, "invalid literal"),
        ({"action": "resume", "backoff": -1}, "backoff"),
        ({"action": "resume", "backoff": float("nan")}, "backoff"),
        ({"action": "rollback", "backoff": 5}, "leave them out"),
        ({"action": "rollback_failed", "times": 2}, "leave them out"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_said(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        on_failure(**said)


def test_it_waits_longer_each_time_and_as_long_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_ASSETS_NO_BACKOFF")
    policy, run_id = OnFailure("resume", 9, 10.0), str(uuid.uuid4())
    waits = [policy.wait_before(nth, run_id) for nth in range(4)]
    assert waits == [waits[0] * 2**nth for nth in range(4)]
    assert 10.0 <= waits[0] <= 12.5
    assert OnFailure("rollback").wait_before(0, run_id) == 0.0


def a_run_at_work(
    instance: dg.DagsterInstance, location: CodeLocation, pid: int, status: str = "STARTED", host: str | None = None
) -> str:
    run_id = str(uuid.uuid4())
    *_, boot, namespace, _ = processes.place_tag(run_id)[PLACE_TAG].split(" ")
    tags = {PLACE_TAG: f"{run_id} {host or processes.here().host} {boot} {namespace} {pid}"}
    queued = {"remote_job_origin": ORIGIN} if status == "QUEUED" else {}
    how: dict[str, Any] = {"run_id": run_id, "tags": tags, "status": dg.DagsterRunStatus(status), **queued}
    return instance.create_run_for_job(location.repository.get_job("shop_job"), **how).run_id


def test_a_run_whose_process_is_gone_is_marked_failed_and_no_other(
    instance: dg.DagsterInstance, location: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    runs = {
        "gone": a_run_at_work(instance, location, dead.pid),
        "stopped": a_run_at_work(instance, location, dead.pid, "CANCELING"),
        "alive": a_run_at_work(instance, location, os.getpid()),
        "elsewhere": a_run_at_work(instance, location, dead.pid, host="elsewhere"),
        "queued": a_run_at_work(instance, location, dead.pid, "QUEUED"),
    }
    sensor = location.repository.get_sensor_def("stuck_run_sensor")
    context = dg.build_sensor_context(instance=instance, repository_def=location.repository)
    tick = sensor.evaluate_tick(context)
    assert runs["gone"] in str(tick.skip_message)
    status = {name: instance.get_run_by_id(run).status.value for name, run in runs.items()}
    assert status == {
        "gone": "FAILURE",
        "stopped": "CANCELED",
        "alive": "STARTED",
        "elsewhere": "STARTED",
        "queued": "QUEUED",
    }


def test_a_run_that_ends_while_it_is_looked_at_is_not_marked_failed(
    instance: dg.DagsterInstance, location: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = a_run_at_work(instance, location, 1)

    def ends(_: object, run: dg.DagsterRun) -> bool:
        success = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name, message="it has ended")
        instance.report_dagster_event(success, run.run_id)
        return True

    monkeypatch.setattr(automation, "is_gone", ends)
    assert automation.mark_stuck(instance) == []
    assert instance.get_run_by_id(run_id).is_success


@pytest.mark.slow
def test_a_real_daemon_finds_a_killed_run_of_the_command_line_and_resumes_it(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    job = ["-m", "dagster", "job", "execute", "-m", MODULE, "-j", "resumed_job"]
    killed = children.run(job, children.crash_at("after_commit", "shop/b"))
    assert killed.returncode == children.KILLED, killed.stderr
    with served(MODULE) as dagster:
        found = dagster.wait(lambda runs: len(runs) == 3 and {run["status"] for run in runs[:2]} == {"SUCCESS"})
    assert found[-1]["status"] == "FAILURE"
    assert shown(tables) == {"a": 2, "b": 2, "c": 2}
    evidence.all_lawful(instance, [tables.child("shop", name) for name in "abc"])
