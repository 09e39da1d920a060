"""The fingerprint of files: what changes it, and what does not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.policy.fingerprints import files_fingerprint


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with files in it and below it."""
    folder = tmp_path / "data"
    for name in ("a.csv", "b.csv", "deep/er/c.csv", "deep/d.txt"):
        write(folder / name)
    return folder


EDITS: dict[str, Callable[[Path], object]] = {
    "resized": lambda data: write(data / "deep/er/c.csv", "xy"),
    "touched": lambda data: os.utime(data / "deep/er/c.csv", ns=(10**18, 10**18 + 1)),
    "renamed": lambda data: (data / "deep/er/c.csv").rename(data / "deep/er/e.csv"),
    "moved": lambda data: (data / "deep/er/c.csv").rename(data / "deep/c.csv"),
    "added": lambda data: write(data / "deep/er/e.csv"),
    "added, hidden": lambda data: write(data / "deep/.hidden"),
    "added, temporary": lambda data: write(data / "deep/e.csv.tmp~"),
    "removed": lambda data: (data / "deep/er/c.csv").unlink(),
    "linked to nothing": lambda data: (data / "link").symlink_to("nothing"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_below_a_folder_changes_it(data: Path, edit: str) -> None:
    before = files_fingerprint(data)
    EDITS[edit](data)
    assert files_fingerprint(data) != before


def test_nothing_changed_changes_nothing(data: Path) -> None:
    before = files_fingerprint(data)
    (data / "a.csv").read_text()
    assert files_fingerprint(data) == before
    assert len(before) == 16
    assert int(before, 16)


def test_the_order_of_the_paths_does_not_matter_nor_that_one_is_given_twice(data: Path) -> None:
    one, two = data / "a.csv", data / "deep"
    assert files_fingerprint(one, two) == files_fingerprint(str(two), one, one)


def test_a_copy_in_another_folder_has_the_same(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy")  # with its times
    assert files_fingerprint(tmp_path / "copy") == files_fingerprint(data)


def test_relative_paths_are_those_they_stand_for(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    assert files_fingerprint("deep", "*.csv") == files_fingerprint(data / "deep", data / "*.csv")
    assert files_fingerprint(".") == files_fingerprint(data)


def test_two_files_of_one_name_that_change_places_change_it(data: Path) -> None:
    one, two, away = write(data / "x/f", "1"), write(data / "y/f", "22"), data / "away"
    before = files_fingerprint(one, two)
    one.rename(away)
    two.rename(one)
    away.rename(two)
    assert files_fingerprint(one, two) != before


def test_a_pattern_sees_its_matches_and_nothing_else(data: Path) -> None:
    before = files_fingerprint(data / "*.csv"), files_fingerprint(data / "**" / "*.csv")
    write(data / "deep/f.txt")
    assert (files_fingerprint(data / "*.csv"), files_fingerprint(data / "**" / "*.csv")) == before
    write(data / "deep/f.csv")
    assert files_fingerprint(data / "*.csv") == before[0]
    assert files_fingerprint(data / "**" / "*.csv") != before[1]
    write(data / "c.csv")
    assert files_fingerprint(data / "*.csv") != before[0]


def test_a_pattern_that_matches_a_folder_means_the_files_below_it(data: Path) -> None:
    before = files_fingerprint(data / "d*p")
    write(data / "deep/er/more")
    assert files_fingerprint(data / "d*p") != before


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(data: Path) -> None:
    odd = write(data / "[a].csv")
    before = files_fingerprint(odd)
    write(data / "a.csv", "longer")
    assert files_fingerprint(odd) == before
    write(odd, "longer")
    assert files_fingerprint(odd) != before


def test_a_pattern_is_found_in_a_working_folder_with_an_odd_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(data / "[odd]" / "a.csv")
    monkeypatch.chdir(data / "[odd]")
    assert files_fingerprint("*.csv") == files_fingerprint("a.csv")


def test_links_are_followed_and_one_that_leads_back_up_ends(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "f")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "self").symlink_to("self")
    before = files_fingerprint(data)
    (data / "deep" / "up").symlink_to(data)
    assert files_fingerprint(data) == before
    write(tmp_path / "elsewhere" / "f", "longer")
    assert files_fingerprint(data) != before


def test_names_that_are_no_text_are_told_apart(data: Path) -> None:
    write(Path(os.fsdecode(os.fsencode(data) + b"/\xff")))
    before = files_fingerprint(data)
    Path(os.fsdecode(os.fsencode(data) + b"/\xff")).rename(os.fsdecode(os.fsencode(data) + b"/\xfe"))
    assert files_fingerprint(data) != before


def test_an_empty_folder_is_something(tmp_path: Path) -> None:
    before = files_fingerprint(tmp_path)
    write(tmp_path / "f")
    assert files_fingerprint(tmp_path) != before


@pytest.mark.parametrize("path", ["nothing.csv", "*.parquet", "nothing/*.csv", "~/nothing"])
def test_what_names_nothing_is_refused_by_its_name(data: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(data)
    with pytest.raises(ConfigurationError, match=r"no file, folder or match for") as refused:
        files_fingerprint("a.csv", path)
    assert repr(path) in str(refused.value)


def test_a_uri_is_told_that_this_is_for_local_files() -> None:
    with pytest.raises(ConfigurationError, match="local files"):
        files_fingerprint("s3://bucket/data/*.csv")


def test_no_paths_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no files"):
        files_fingerprint()
