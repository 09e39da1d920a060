"""What every test may ask for: a table root, an instance, an S3 server; and what a skip means in CI."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import dagster as dg
import hypothesis
import pytest

from pipeline_assets_tests.postgres import Postgres, server
from pipeline_assets_tests.seaweed import S3, NoServer, seaweed

IN_CI = os.environ.get("PIPELINE_ASSETS_CI") == "1"

# Time-outs are pytest's; in CI the examples are the same every time, so that red means a change.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")

INSTANCE = """\
telemetry:
  enabled: false
nux:
  enabled: false
"""

PROGRAMS = {"chromium": "chromium", "java": "java", "postgres": "psql"}
"""What a test with this marker needs on PATH; the Debian package's name says how to get it."""


def pytest_configure(config: pytest.Config) -> None:
    """No test sees the project's own tables, fault points or DAGSTER_HOME; it has another, even unasked."""
    os.environ.update(DAGSTER_HOME=tempfile.mkdtemp(prefix="dagster_home-"))
    Path(os.environ["DAGSTER_HOME"], "dagster.yaml").write_text(INSTANCE)
    os.environ.setdefault("PIPELINE_ASSETS_NO_BACKOFF", "1")
    config.add_cleanup(lambda: shutil.rmtree(os.environ["DAGSTER_HOME"], ignore_errors=True))
    for name in ("PIPELINE_ASSETS_ROOT", "PIPELINE_ASSETS_CRASH"):
        os.environ.pop(name, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for tables."""
    folder = tmp_path / "tables"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def blank_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME whose databases are made already: a copy takes 0.05 s, making them 0.45 s."""
    home = tmp_path_factory.mktemp("blank_home")
    (home / "dagster.yaml").write_text(INSTANCE)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.get_runs(limit=1)
        instance.schedule_storage.all_instigator_state()
    return home


@pytest.fixture
def home(tmp_path: Path, blank_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME of this test's own, in the environment too, so that child processes find it."""
    folder = tmp_path / "dagster_home"
    shutil.copytree(blank_home, folder)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """A real instance on disk, which other processes can open by `DAGSTER_HOME`."""
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server: `database()`; for tests with the marker `postgres`."""
    with server() as running:
        yield running


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server that asks for credentials; skips where it is not installed."""
    try:
        with seaweed(tmp_path_factory.mktemp("s3")) as server:
            yield server
    except NoServer as missing:
        pytest.skip(str(missing))


@pytest.fixture
def s3(s3_server: S3, tmp_path: Path) -> S3:
    """A prefix of this test's own on the S3 server: `uri`, `storage_options`, `config`, `client`, `files`."""
    return s3_server.under(f"{tmp_path.parent.name}-{tmp_path.name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for the S3 server carries the marker `s3`."""
    for item in items:
        if "s3_server" in getattr(item, "fixturenames", ()):
            item.add_marker("s3")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program that is not here."""
    for marker, program in PROGRAMS.items():
        if item.get_closest_marker(marker) and shutil.which(program) is None:
            pytest.skip(f"there is no {program} on PATH")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one."""
    report = yield
    return refused_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI a skipped file is a failed one."""
    report = yield
    return refused_in_ci(report)


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def refused_in_ci(report: Report) -> Report:
    """The report, failed if it says "skipped" in CI; a test that is expected to fail is none of those."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"CI allows no skipped test: {why}"
    return report
