"""Code versions in processes of their own: another folder, another hash seed, another way to start."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import pipeline_assets
from pipeline_assets_tests.policy.project import Project

STAGE = """\
import json
import polars
import yaml
import helper_of_test
from pipeline_assets.policy.code_versions import code_version_of
from space_of_test.inner import value


def stage():
    import late_of_test
    return value in {"a", "b", "c", "d"}


VERSION = code_version_of(stage)
if __name__ == "__main__":
    print(VERSION)
"""

IMPORTED = "import stage_of_test; print(stage_of_test.VERSION)"
LOADED = """
import sys
from dagster._core.code_pointer import load_python_file
print(load_python_file(sys.argv[1] + "/stage_of_test.py", sys.argv[1], add_uuid_suffix=True).VERSION)
"""
REPL = """
from pipeline_assets.policy.code_versions import code_version_of
versions = []
for last in "de":
    exec(f"def stage(x):\\n    return x in {{'a', 'b', 'c', '{last}'}}, lambda: x")
    versions.append(code_version_of(stage))
print(*versions)
"""
FLIGHTS = """
import inspect, warnings
warnings.simplefilter("ignore")
from pipeline_assets.defs import flights
from pipeline_assets.policy.code_versions import code_version_of
print(code_version_of(flights.days_of), code_version_of(flights.legs.op.compute_fn.decorated_fn))
"""
BOUND = """\
from pipeline_assets.policy.code_versions import code_version_of
from given_of_test import given
from factory_of_test import made

def mine(): ...

class Mine: ...

VERSION = code_version_of(made([given, {"mine": (mine, Mine())}]))
"""
FACTORY = """\
def made(given):
    def stage():
        return given
    return stage
"""
LIBRARY = Path(pipeline_assets.__file__).parent


def said(folder: Path, arguments: Sequence[str], seed: str = "0", library: Path = LIBRARY.parent) -> str:
    """What a Python says that is started in a folder with these arguments."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(library), str(folder)])}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def whole(project: Project) -> Project:
    """A project with one of each."""
    project.write("stage_of_test.py", STAGE)
    project.write("helper_of_test.py", "import stage_of_test\nvalue = frozenset({'a', 'b'})\n")
    project.write("late_of_test.py", "value = 1\n")
    project.write("space_of_test/inner/value.py", "")
    return project


def test_a_copy_elsewhere_has_the_same_version_with_another_hash_seed(whole: Project, tmp_path: Path) -> None:
    copy = tmp_path / "another" / "place"
    shutil.copytree(whole.folder, copy)
    assert said(whole.folder, ["-c", IMPORTED], seed="1") == said(copy, ["-c", IMPORTED], seed="2")


def test_the_way_to_start_makes_no_difference(whole: Project) -> None:
    imported = said(whole.folder, ["-c", IMPORTED])
    # A script that a module of its own imports back runs twice; what it says last is what was asked.
    assert said(whole.folder, ["stage_of_test.py"]).split()[-1] == imported
    assert said(whole.folder, ["-m", "stage_of_test"]).split()[-1] == imported
    assert said(whole.folder, ["-c", LOADED, str(whole.folder)]) == imported


def test_what_is_loaded_already_makes_no_difference(whole: Project) -> None:
    loaded = "import late_of_test, space_of_test.inner.value, json, yaml.loader; "
    assert said(whole.folder, ["-c", loaded + IMPORTED]) == said(whole.folder, ["-c", IMPORTED])


def test_a_function_without_a_source_has_the_same_version_in_every_process(tmp_path: Path) -> None:
    one, another = said(tmp_path, ["-c", REPL], seed="1").split()
    assert said(tmp_path, ["-c", REPL], seed="2").split() == [one, another]
    assert one != another


def test_of_this_library_only_the_demo_counts_by_its_source(tmp_path: Path) -> None:
    copy = tmp_path / "pipeline_assets"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def edited(file: str) -> list[str]:
        if file:
            (copy / file).write_text((copy / file).read_text() + "\nEDITED = 1\n")
        return said(tmp_path, ["-c", FLIGHTS], library=tmp_path).split()

    before = edited("")
    assert edited("io/partitions.py") == before
    after = edited("stages/clock.py")  # legs reads clocks
    assert after[1] != before[1]
    assert edited("flight_days.py")[0] != after[0]


def test_what_a_stage_is_bound_to_has_the_same_code_in_every_process_and_another_once_it_is_edited(
    project: Project,
) -> None:
    project.write("stage_of_test.py", BOUND)
    project.write("factory_of_test.py", FACTORY)
    project.write("given_of_test.py", "from helper_of_test import value\n\ndef given():\n    return value\n")
    project.write("helper_of_test.py", "value = 1\n")
    before = said(project.folder, ["-c", IMPORTED], seed="1")
    assert said(project.folder, ["-c", LOADED, str(project.folder)], seed="2") == before
    project.write("helper_of_test.py", "value = 2\n")
    assert said(project.folder, ["-c", IMPORTED], seed="1") != before
