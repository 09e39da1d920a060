"""A code location that has jobs of ops and no asset."""

import sys

import dagster as dg
import pytest
from click.testing import CliRunner

from pipeline_assets.cli import cli
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.rolling import code_location


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    @dg.op
    def make() -> int:
        return 1

    @dg.job(resource_defs={"io_manager": io_manager().get_resource_definition()})
    def making() -> None:
        make()

    monkeypatch.setitem(sys.modules, "ops_alone", code_location("ops_alone", dg.Definitions(jobs=[making])))
    return "ops_alone"


@pytest.mark.parametrize("verb", [["status"], ["history", "making"], ["adopt", "making/make"]])
def test_what_speaks_of_assets_says_that_there_are_none(
    verb: list[str], module: str, instance: dg.DagsterInstance
) -> None:
    done = CliRunner().invoke(cli, [*verb, "-m", module])
    assert done.exit_code == 3, done.output
    assert "The code location has no assets, only jobs of ops" in done.output
    assert "`pipeline-assets resume RUN" in done.output


def test_the_doctor_finds_nothing_wrong_with_that(module: str, instance: dg.DagsterInstance) -> None:
    done = CliRunner().invoke(cli, ["doctor", "-m", module])
    assert done.exit_code == 0, done.output
    assert "no assets, only jobs of ops" in done.output
