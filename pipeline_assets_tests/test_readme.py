"""The README: short, and every command in it does what it says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline_assets.cli import VERBS

PROJECT = Path(__file__).parents[1]
TEXT = (PROJECT / "README.md").read_text()
BIN = Path(sys.executable).parent
KILLED = 128 + signal.SIGKILL
"""How a shell says that its command was killed."""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def commands() -> list[str]:
    found = [line for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line.removeprefix("$ ").split("  #")[0].strip() for line in found]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder as a clone is: dagster.yaml, and the environment's programs where `make` puts them."""
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    (tmp_path / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(BIN)
    return tmp_path


def shell(place: Path, command: str) -> subprocess.CompletedProcess[str]:
    """A command as a person types it, in the folder."""
    ours = ("PIPELINE_ASSETS", "DAGSTER", "MAKE", "MFLAGS")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {**clean, "PYTHONPATH": str(PROJECT), "DAGSTER_HOME": str(place)}
    return subprocess.run(
        ["bash", "-c", f"{command}; exit $?"], cwd=place, env=environment, capture_output=True, text=True, check=False
    )


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) < 120


def make(place: Path, target: str) -> subprocess.CompletedProcess[str]:
    """A target of the Makefile, with the folder as DAGSTER_HOME."""
    if BIN.resolve() != (PROJECT / ".venv" / "bin").resolve():
        pytest.skip("these tests do not run in the environment that make makes")
    return shell(place, f"make -C {PROJECT} {target}")


def test_the_two_commands_are_the_first_that_it_names(place: Path) -> None:
    assert [command for command in commands() if command.startswith("make ")] == ["make run", "make test"]
    tests = make(place, 'test ARGS="--collect-only --quiet pipeline_assets_tests/test_readme.py"')
    assert tests.returncode == 0, tests.stderr
    assert "test_the_two_commands_are_the_first_that_it_names" in tests.stdout


def test_a_week_that_is_there_is_not_made_again_and_one_whose_tables_are_gone_is(place: Path) -> None:
    for there in (False, True, False):
        week = make(place, "run")
        assert week.returncode == 0, week.stderr
        assert ("was there already" in week.stdout) == there, week.stdout
        if there:
            shutil.rmtree(place / "data" / "flights")


def test_the_week_the_kill_and_the_resume_end_as_told(place: Path) -> None:
    week = make(place, "run")
    assert week.returncode == 0, week.stderr
    for line in blocks("")[1].splitlines()[1:]:
        stage, rows, version = line.split()[:3]
        assert re.search(rf"^{stage}\s+{rows}\s+{version}\s", week.stdout, re.MULTILINE), week.stdout
    kill, resume = (command for command in commands() if command.startswith(("PIPELINE_ASSETS_CRASH", ".venv")))
    assert shell(place, kill).returncode == KILLED
    tables = place / "data" / "flights"
    before = [DeltaTable(tables / stage).version() for stage in ("departures", "weather_hours")]
    resumed = shell(place, resume)
    assert resumed.returncode == 0, resumed.stderr
    told = [line for line in blocks("console")[1].splitlines() if line.startswith("  ")]
    assert [line for line in resumed.stdout.splitlines() if line.startswith("  ")] == told
    assert [DeltaTable(tables / stage).version() for stage in ("departures", "weather_hours")] == before == [1, 1]


def test_every_verb_that_it_names_is_there() -> None:
    named = set(re.findall(r"pipeline-assets ([a-z]+)", TEXT))
    assert named <= set(VERBS)


def test_every_page_that_it_names_is_there() -> None:
    for page in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (PROJECT / page).exists(), page


def test_its_python_runs(place: Path) -> None:
    (code,) = blocks("python")
    bodies = iter(['return pl.LazyFrame({"cents": [1, 2]})', 'return orders.select(pl.col("cents").sum())'])
    filled = re.sub(r"\.\.\.", lambda _: next(bodies), code)
    (place / "shop.py").write_text(filled)
    done = shell(place, f"{BIN}/dagster asset materialize -m shop --select '*'")
    assert done.returncode == 0, done.stderr
    assert DeltaTable(place / "tables" / "public" / "totals").to_pyarrow_table()["cents"].to_pylist() == [3]
