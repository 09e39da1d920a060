"""What `make` installs is what pyproject.toml asks for, checked by hashes, from whatever index the machine has."""

import re
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.txt").read_text()
LOCKED = {
    found["name"]: found["version"]
    for found in re.finditer(r"^(?P<name>[a-z0-9-]+)(\[[a-z,-]+\])?==(?P<version>\S+)", LOCK, re.MULTILINE)
}


def asked_for() -> list[str]:
    """Every range of pyproject.toml, all extras and the build backend included."""
    pyproject = tomli.loads((PROJECT / "pyproject.toml").read_text())
    project = pyproject["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    return [*pyproject["build-system"]["requires"], *project["dependencies"], *extras]


@pytest.mark.parametrize("line", asked_for())
def test_what_is_locked_is_what_is_asked_for(line: str) -> None:
    asked = Requirement(line)
    assert asked.specifier.contains(LOCKED[asked.name]), "make lock"


def test_every_locked_version_has_its_hashes() -> None:
    entries = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)
    packages = [entry for entry in entries if entry and not entry.startswith("#")]
    assert len(packages) == len(LOCKED)
    assert [entry for entry in packages if "--hash=sha256:" not in entry] == []


def test_the_lock_names_no_index_and_no_path() -> None:
    assert re.findall(r"://|--(?:extra-)?index|--find-links|^-|/home|/root", LOCK, re.MULTILINE) == []
