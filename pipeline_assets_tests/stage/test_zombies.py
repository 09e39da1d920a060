"""Attempts that were stopped, given up and continued: none commits, each says why. A few of the campaign's cases."""

import pytest

from pipeline_assets_tests.campaigns.giving_up import WAYS
from pipeline_assets_tests.campaigns.pauses import POINTS
from pipeline_assets_tests.campaigns.zombie_case import LATE, Case, Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("zombies"))


AT_EACH_POINT = [
    Case("before it has begun", "retried", "overwrite", there=True),
    Case("begun, nothing read", "timed out", "merge", there=True),
    Case("input read", "resumed", "append", there=True),
    Case("in its function", "rollback lifted", "append", there=False),
    Case("computed", "marked failed", "partitions", there=True, beside=1),
    Case("table opened", "undone, nothing written", "overwrite", there=False),
    Case("writing files", "cancelled", "overwrite", there=False),
    Case("writing files", "resumed", "overwrite", there=True),  # its open file is deleted
    Case("files written", "timed out, watched", "partitions", there=True),
    Case("decided", "resumed", "merge", there=False, nth=2),
    Case("decided", "cancelled", "append", there=True),  # nothing in the table tells
    Case("committing", "undone", "partitions", there=True, beside=1),
]


def test_each_point_and_each_way_is_among_these() -> None:
    assert {one.point for one in AT_EACH_POINT} == set(POINTS)
    assert {one.way for one in AT_EACH_POINT} == set(WAYS)


@pytest.mark.parametrize("case", AT_EACH_POINT, ids=str)
def test_an_attempt_that_was_given_up_while_it_was_stopped_commits_nothing_and_says_why(
    case: Case, ground: Ground
) -> None:
    assert not case.run(ground).startswith(LATE)
