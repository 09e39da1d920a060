"""Where tables may lie, and how folders are named."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.delta.location import Location, folder_name
from pipeline_assets.errors import ConfigurationError


@pytest.mark.parametrize("path", ["/a b", "/a#b", "/a?b", "/a%20b", "/é", "/a=b", "/a[b]"])
def test_a_root_that_deltalake_would_misread_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="Nothing was written"):
        Location.of(path)


def test_a_relative_path_and_a_file_uri_are_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.of("t").uri == Location.of(f"file://{tmp_path}/t").uri == str(tmp_path / "t")


def test_a_store_s_uri_stays_as_it_is() -> None:
    place = Location.of("s3://bucket/root/", {"region": "x"})
    assert (place.uri, place.is_local, place.options) == ("s3://bucket/root", False, {"region": "x"})


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_names_have_different_folders(one: str, other: str) -> None:
    assert (folder_name(one) == folder_name(other)) == (one == other)


@given(st.text(min_size=1))
def test_a_child_is_always_a_place_that_is_allowed(name: str) -> None:
    place = Location.of("/root").child(name)
    assert Location.of(place.uri) == place or name in (".", "..")


def test_a_file_that_is_gone_is_deleted_without_complaint(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    Location.of(str(tmp_path)).delete(["a", "b"])
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_missing_has_no_files(tmp_path: Path) -> None:
    assert Location.of(str(tmp_path)).names("nowhere") == []
