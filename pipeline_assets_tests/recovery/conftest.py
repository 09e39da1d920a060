"""Where the tables of these tests lie, and what they are held against."""

import os
from pathlib import Path

import dagster as dg
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets_tests.recovery import story
from pipeline_assets_tests.seaweed import S3


@pytest.fixture
def tables(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """The root of this test's tables, as this process and its children see it."""
    monkeypatch.setenv("PIPELINE_ASSETS_ROOT", str(root))
    return Location.of(str(root))


@pytest.fixture
def tables_on_s3(s3: S3, home: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """The same on an S3 server."""
    for name, value in {**s3.storage_options, "PIPELINE_ASSETS_ROOT": s3.uri}.items():
        monkeypatch.setenv(name, value)
    return Location.of(s3.uri, s3.storage_options)


@pytest.fixture
def never_failed(tmp_path: Path, tables: Location) -> Location:
    """The tables of a run of the story that never failed, in a root of their own."""
    elsewhere = tmp_path / "never_failed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_ASSETS_ROOT", str(elsewhere))
        assert story.job().execute_in_process(instance=dg.DagsterInstance.ephemeral()).success
    assert os.environ["PIPELINE_ASSETS_ROOT"] == tables.uri
    return Location.of(str(elsewhere)).child("story")
