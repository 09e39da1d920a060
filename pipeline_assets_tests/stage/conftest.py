"""These tests look at tables, not at Dagster's files."""

from collections.abc import Iterator

import dagster as dg
import pytest


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A real instance, whose databases are in memory: a run takes a quarter of the time."""
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened
