"""A store that accepts and never answers does not hold a stage beyond its time; real processes, a real S3 server."""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipeline_assets.processes import is_alive
from pipeline_assets.recovery.resume import resume
from pipeline_assets_tests.flaky import Fault, Flaky, flaky
from pipeline_assets_tests.io_manager.running import failure
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.recovery.children import end, pipeline_assets, start
from pipeline_assets_tests.seaweed import S3
from pipeline_assets_tests.stage import unsteady, unsteady_job
from pipeline_assets_tests.stage.test_watched import ROOM, WITHIN, finished, log_of, wait_for

LOCATION = "pipeline_assets_tests.stage.unsteady_job"
SECONDS = 2.0
AT_ONCE = 3
CLIENTS_SECONDS = 30.0
"""More than a client that gives up after 4 s takes for all that it is asked; one that does not takes minutes."""


@dataclass(frozen=True)
class Place:
    """Where a stage meets the silence: requests by method and key."""

    keys: str
    methods: tuple[str, ...]
    fault: Fault = Fault.HUNG


PLACES = {
    "opening the input": Place(r"numbers/_delta_log", ("GET", "HEAD")),
    "reading its rows": Place(r"numbers/part-", ("GET", "HEAD")),
    "opening the output": Place(r"squares/_delta_log", ("GET", "HEAD")),
    "writing the files": Place(r"squares/part-", ("PUT", "POST")),
    "the commit": Place(r"squares/_delta_log/\d+\.json", ("PUT",)),
    "the commit's answer": Place(r"squares/_delta_log/\d+\.json", ("PUT",), Fault.HUNG_AFTER),
}


@dataclass
class Case:
    """A store and a Dagster instance of its own, where a run of the last two stages meets the silence.

    seconds: how long its process lived after the stage had begun.
    """

    place: Place
    server: S3
    proxy: Flaky
    home: Path
    instance: dg.DagsterInstance
    seconds: float = 0.0

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**unsteady_job.variables(self.proxy.s3, SECONDS), "DAGSTER_HOME": str(self.home)}

    def run(self) -> None:
        """Until its process has ended, and the run is marked."""
        self.proxy.misbehave(self.place.fault, methods=self.place.methods, keys=self.place.keys)
        began = time.time()
        child = start(["-m", "dagster", "job", "execute", "-m", LOCATION, "-j", "rest_job"], self.variables)
        wait_for(lambda: not is_alive(child.pid, began + 1))
        died = time.time()
        end(child)
        (step,) = self.instance.all_logs(self.failed.run_id, of_type=dg.DagsterEventType.STEP_START)
        self.seconds = died - step.timestamp

    @property
    def failed(self) -> dg.DagsterRun:
        """The run, when it has ended."""
        return finished(self.instance, 2)[-1]


@pytest.fixture(scope="module")
def cases(s3_server: S3, blank_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    """A run for each place, all of which have ended; a few at once, since each mostly waits."""
    with ExitStack() as stack:
        found = {}
        for where, place in PLACES.items():
            home = tmp_path_factory.mktemp("home") / "dagster_home"
            shutil.copytree(blank_home, home)
            server = s3_server.under(home.parent.name)
            proxy = stack.enter_context(flaky(server))
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
            assert unsteady.run(instance, server, unsteady.stages()[:1]).success
            found[where] = Case(place, server, proxy, home, instance)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(Case.run, found.values()))
        yield found


@pytest.mark.parametrize("where", PLACES)
def test_a_stage_on_a_store_that_hangs_ends_when_its_time_is_up_and_is_finished_when_it_is_healed(
    where: str, cases: dict[str, Case]
) -> None:
    case = cases[where]
    assert case.proxy.met[case.place.fault] > 0
    assert case.seconds < SECONDS + WITHIN + ROOM
    assert case.failed.status is dg.DagsterRunStatus.FAILURE
    assert "unsteady/squares timed out after 2 s" in log_of(case.instance, case.failed)
    (told,) = unsteady.failures(case.instance, case.failed.run_id)["unsteady__squares"]
    assert (told["stage/attempt"], told["stage/error_class"]) == (1, "TimedOut")
    written = evidence.writes(unsteady.tables(case.server)["squares"])
    assert len(written) == (1 if case.place.fault is Fault.HUNG_AFTER else 0)

    case.proxy.heal()
    if where == "the commit":
        done = pipeline_assets("resume", case.failed.run_id, "-m", LOCATION, more=case.variables)
        assert done.returncode == 0, done.stderr
    else:
        assert resume(case.instance, case.failed.run_id, unsteady.rest_job(case.proxy.s3)).success
    unsteady.refuse_wrong_tables(case.instance, case.server)


def gives_up(where: str, s3: S3, instance: dg.DagsterInstance, **clients: Any) -> None:
    """A stage in this process ends as timed out, soon after the storage's client gives up, and can be resumed."""
    place = PLACES[where]
    assert unsteady.run(instance, s3, unsteady.stages()[:1]).success
    with flaky(s3) as proxy:
        proxy.misbehave(place.fault, methods=place.methods, keys=place.keys)
        job = unsteady.rest_job(proxy.s3, unsteady.stages(timeout=3), storage_retry_timeout=0, **clients)
        began = time.monotonic()
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        assert time.monotonic() - began < CLIENTS_SECONDS
        assert proxy.met[place.fault] > 0
        assert "unsteady/squares failed, it is not tried again: permanent, timed out after 3 s" in failure(result)
        proxy.heal()
        assert resume(instance, result.run_id, unsteady.rest_job(proxy.s3)).success
    unsteady.refuse_wrong_tables(instance, s3)


@pytest.mark.parametrize("where", PLACES)
def test_in_the_callers_process_it_ends_when_the_storages_client_gives_up(
    where: str, s3: S3, instance: dg.DagsterInstance
) -> None:
    """Nothing ends native code there: it is the client's own time-out that returns to Python."""
    gives_up(where, s3, instance, timeout="4s")


def test_polars_which_waits_for_ever_by_itself_gives_up_too(s3: S3, instance: dg.DagsterInstance) -> None:
    gives_up("reading its rows", s3, instance, timeout=None, storage_read_timeout=4)
