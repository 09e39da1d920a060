"""The fixtures that the other tests stand on are what they say."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from pipeline_assets_tests.seaweed import S3


def test_another_process_finds_the_instance_by_its_home(instance: dg.DagsterInstance) -> None:
    """A run recorded there is seen here."""
    script = (
        "import dagster as dg\n"
        "@dg.asset\n"
        "def one(): ...\n"
        "print(dg.materialize([one], instance=dg.DagsterInstance.get()).run_id)\n"
    )
    child = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    run = instance.get_run_by_id(child.stdout.strip())
    assert run is not None
    assert run.is_success


def test_an_instance_starts_empty(instance: dg.DagsterInstance) -> None:
    """Nothing of another test is in it."""
    assert instance.get_runs() == []
    assert instance.root_directory == os.environ["DAGSTER_HOME"]


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_an_s3_prefix_of_its_own(s3: S3, again: int) -> None:
    """A table is written and read there; the other test's is not seen."""
    table = f"{s3.uri}/numbers"
    assert not DeltaTable.is_deltatable(table, s3.storage_options)
    pl.DataFrame({"n": [again]}).write_delta(table, storage_options=s3.storage_options)
    assert pl.read_delta(table, storage_options=s3.storage_options)["n"].to_list() == [again]
    with s3.files.open_input_file("numbers/_delta_log/00000000000000000000.json") as log:
        assert b"metaData" in log.read()


def test_the_s3_server_refuses_other_credentials(s3: S3) -> None:
    """A wrong secret is not let in."""
    with pytest.raises(Exception, match=r"(?i)forbidden|denied|signature"):
        pl.DataFrame({"n": [1]}).write_delta(
            f"{s3.uri}/numbers", storage_options=s3.storage_options | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        )


def test_the_s3_server_creates_a_version_once(s3: S3) -> None:
    """A conditional put is refused when the object is there: what the commit protocol rests on."""
    table = f"{s3.uri}/numbers"
    pl.DataFrame({"n": [1]}).write_delta(table, storage_options=s3.storage_options)
    first, second = (DeltaTable(table, storage_options=s3.storage_options) for _ in range(2))
    commit_once(first)
    with pytest.raises(CommitFailedError):
        commit_once(second)


def commit_once(table: DeltaTable) -> None:
    """A commit of nothing as the very next version."""
    once = CommitProperties(max_commit_retries=0)
    table.create_write_transaction([], "append", table.schema(), [], commit_properties=once)


@pytest.mark.parametrize("ci", [False, True])
def test_a_skipped_test_fails_in_ci_and_only_there(tmp_path: Path, ci: bool) -> None:
    """So that a missing server or browser cannot turn CI green."""
    (tmp_path / "test_skipping.py").write_text(
        "import pytest\n"
        "def test_one(): pytest.skip('no server')\n"
        "@pytest.mark.xfail(strict=True)\n"
        "def test_two(): assert False\n"
    )
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "pipeline_assets_tests.conftest"),
            *("--continue-on-collection-errors", "--rootdir", str(tmp_path), "."),
        ],
        cwd=tmp_path,
        env=os.environ | {"PIPELINE_ASSETS_CI": "1" if ci else "", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    counts = done.stdout.strip().splitlines()[-1]
    assert ("1 failed, 1 xfailed, 1 error" if ci else "2 skipped, 1 xfailed") in counts, done.stdout
    assert ("CI allows no skipped test: Skipped: no server" in done.stdout) == ci
