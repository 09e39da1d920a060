"""A store is only written where it creates a version once."""

from pathlib import Path

import pytest
from pyarrow import fs

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.probe import FOLDER, refuse_without_conditional_put
from pipeline_assets.errors import ConfigurationError, UnsupportedTable
from pipeline_assets_tests.careless import careless_s3
from pipeline_assets_tests.seaweed import S3


def test_a_store_that_lets_two_writers_create_a_version_is_refused() -> None:
    with careless_s3() as options:
        root = Location.of("s3://tests/root", options)
        with pytest.raises(UnsupportedTable, match="no conditional put"):
            refuse_without_conditional_put(root)


def test_a_store_that_honours_if_none_match_is_fine_and_left_clean(s3: S3) -> None:
    root = Location.of(s3.uri, s3.storage_options)
    refuse_without_conditional_put(root)
    left = s3.files.get_file_info(fs.FileSelector(FOLDER, recursive=True, allow_not_found=True))
    assert [info for info in left if info.is_file] == []


def test_unsafe_renames_are_refused_before_anything_is_written() -> None:
    root = Location.of("s3://nowhere/root", {"allow_unsafe_rename": "true"})
    with pytest.raises(ConfigurationError, match="allow_unsafe_rename"):
        refuse_without_conditional_put(root)


def test_a_local_disk_is_not_asked(tmp_path: Path) -> None:
    refuse_without_conditional_put(Location.of(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
