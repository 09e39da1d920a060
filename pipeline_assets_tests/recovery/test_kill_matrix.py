"""A stage is killed with SIGKILL at a fault point; resumed, all is as if it never died.

One kill a fault point here; campaigns/kills.py does every fault point × every stage, and random moments.
"""

import os
import shutil
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.resume import resume
from pipeline_assets.settings import source_folder
from pipeline_assets_tests.recovery import children, diamond, evidence
from pipeline_assets_tests.recovery.flights_in_processes import STAGES, definitions

DAY = "2013-01-05"


@pytest.fixture(scope="session")
def flights_that_never_failed(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """One day of flights, made in one go; beside it the parsed source, which takes a second."""
    folder = tmp_path_factory.mktemp("never_failed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ASSETS_ROOT", str(folder))
        job = definitions(dg.in_process_executor).resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(partition_key=DAY, instance=dg.DagsterInstance.ephemeral()).success
    return Location.of(str(folder))


def kill_at(point: str, stage: str, module: str, source: Location) -> children.Done:
    """Materialize the day in a child process that is killed."""
    shutil.copytree(Path(source.uri, "source"), source_folder())
    crash = children.crash_at(point, f"flights/{stage}")
    return children.run(children.materialize(module, 'key:"flights/*"', DAY), crash)


def resume_here(instance: dg.DagsterInstance) -> None:
    """Resume the only run, in this process."""
    job = definitions(dg.in_process_executor).resolve_implicit_global_asset_job_def()
    assert resume(instance, instance.get_runs()[0].run_id, job).success


def equal(instance: dg.DagsterInstance, flights: Location, never_failed: Location) -> None:
    tables = [flights.child(stage) for stage in STAGES]
    evidence.all_lawful(instance, tables)
    for stage, table in zip(STAGES, tables, strict=True):
        evidence.same_rows(table, never_failed.child("flights", stage))


KILLS = [
    ("before_compute", "carrier_scorecard"),
    ("before_write", "legs"),
    ("after_commit", "route_delays"),
    ("after_event", "departures"),
]


def begun_before(stage: str) -> list[str]:
    return list(STAGES[: STAGES.index(stage)])


@pytest.mark.parametrize(("point", "stage"), KILLS)
def test_a_killed_run_is_resumed_as_if_it_never_died(
    point: str,
    stage: str,
    instance: dg.DagsterInstance,
    tables: Location,
    flights_that_never_failed: Location,
) -> None:
    assert kill_at(point, stage, children.FLIGHTS, flights_that_never_failed).returncode == children.KILLED
    flights = tables.child("flights")
    finished = {done: evidence.version(flights.child(done)) for done in begun_before(stage)}
    resume_here(instance)
    assert {done: evidence.version(flights.child(done)) for done in finished} == finished
    equal(instance, flights, flights_that_never_failed)


def test_what_a_run_left_that_died_before_its_table_was_there_is_deleted(
    instance: dg.DagsterInstance, tables: Location, flights_that_never_failed: Location
) -> None:
    """Without a table there is no fence, by which dead files are told from others."""
    assert kill_at("before_write", "legs", children.FLIGHTS, flights_that_never_failed).returncode == children.KILLED
    folder = Path(tables.child("flights", "legs").uri, f"flight_date={DAY}")
    dead = {path.name for path in folder.glob("*.parquet")}
    assert dead
    resume_here(instance)
    assert len(list(folder.glob("*.parquet"))) == 1
    assert not dead & {path.name for path in folder.glob("*.parquet")}


def test_so_is_one_on_s3(
    instance: dg.DagsterInstance, tables_on_s3: Location, flights_that_never_failed: Location
) -> None:
    killed = kill_at("after_commit", "legs", children.FLIGHTS, flights_that_never_failed)
    assert killed.returncode == children.KILLED, killed.stderr
    resume_here(instance)
    equal(instance, tables_on_s3.child("flights"), flights_that_never_failed)


def test_so_is_one_with_a_process_for_each_step(
    instance: dg.DagsterInstance, tables: Location, flights_that_never_failed: Location
) -> None:
    """There the run's own process lives, and ends the run as failed."""
    module = children.FLIGHTS_IN_PROCESSES
    killed = kill_at("before_write", "legs", module, flights_that_never_failed)
    assert killed.returncode == 1, killed.stderr
    assert instance.get_runs()[0].is_failure
    done = children.pipeline_assets("resume", "--last", "-m", module)
    assert done.returncode == 0, done.stderr
    assert evidence.steps_of(instance, instance.get_runs()[0].run_id) == [f"flights__{stage}" for stage in STAGES[2:]]
    equal(instance, tables.child("flights"), flights_that_never_failed)


@pytest.mark.parametrize("point", [pytest.param("before_write", marks=pytest.mark.slow), "after_commit"])
def test_a_healthy_branch_finishes_and_the_resume_runs_the_rest(
    point: str, instance: dg.DagsterInstance, tables: Location
) -> None:
    module = diamond.__name__
    failed = children.run(children.materialize(module), children.crash_at(point, "diamond/left"))
    assert failed.returncode == 1, failed.stderr
    place = tables.child("diamond")
    before = evidence.version(place.child("right"))
    assert len(evidence.writes(place.child("right"))) == 1
    done = children.pipeline_assets("resume", "--last", "-m", module)
    assert done.returncode == 0, done.stderr
    rest = ["diamond__left", "diamond__bottom"] if point == "before_write" else ["diamond__bottom"]
    assert evidence.steps_of(instance, instance.get_runs()[0].run_id) == rest
    assert evidence.version(place.child("right")) == before
    assert evidence.rows(place.child("bottom"))["n"].to_list() == list(range(100))
    evidence.all_lawful(instance, [place.child(stage) for stage in diamond.STAGES])
    assert os.environ["DAGSTER_HOME"]
