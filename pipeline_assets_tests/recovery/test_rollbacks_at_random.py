"""A few cases of the campaign in campaigns/rollbacks.py."""

from pathlib import Path

import pytest

from pipeline_assets_tests.campaigns.rollback_scene import APPEND, FOREIGN, KIND, MERGE
from pipeline_assets_tests.campaigns.rollbacks import campaign


def test_rollbacks_killed_at_random_moments_beside_writers_and_maintenance_end_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")  # the campaign sets both, and the test gives them back
    monkeypatch.setenv("PIPELINE_ASSETS_ROOT", "")
    monkeypatch.setenv(KIND, "")
    phases, wrong = campaign(1, range(2), tmp_path)
    assert (wrong, sum(phases.values()) >= 2) == (0, True)


@pytest.mark.slow
def test_so_do_those_of_stages_that_append_or_merge_and_over_a_foreign_commit_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("PIPELINE_ASSETS_ROOT", "")
    monkeypatch.setenv(KIND, "")
    phases, wrong = campaign(1, range(3), tmp_path, kinds=[FOREIGN, APPEND, MERGE])
    assert (wrong, phases["refused"]) == (0, 1)
