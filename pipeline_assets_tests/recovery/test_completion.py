"""The shell completes runs, stages and pipelines, by click's protocol, without importing a code location."""

import sys

import dagster as dg
import pytest
from click.shell_completion import BashComplete

from pipeline_assets.cli import cli
from pipeline_assets.delta.location import Location
from pipeline_assets_tests.recovery import children
from pipeline_assets_tests.recovery.commanding import SHOP
from pipeline_assets_tests.recovery.rolling import Shop


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def completed(*typed: str) -> list[str]:
    shell = BashComplete(cli, {}, "pipeline-assets", "_PIPELINE_ASSETS_COMPLETE")
    return [one.value for one in shell.get_completions(list(typed[:-1]), typed[-1])]


def test_runs_stages_and_pipelines_are_completed(shop: Shop) -> None:
    first, second = shop.run(1), shop.run(2)
    for typed in (["resume"], ["rollback", "--undo"], ["rollback", "--to"]):
        assert completed(*typed, "") == [second, first]
        assert completed(*typed, first[:6]) == [first]
    for typed in (["adopt"], ["status", "--stage"], ["history", "shop"], ["rollback", "--stage"]):
        assert completed(*typed, "shop/") == ["shop/a", "shop/b", "shop/c"]
    for verb in ("status", "history"):
        assert completed(verb, "sh") == ["shop", "shop_job"]


def test_the_protocol_of_bash_is_answered_with_nothing_else_on_stdout(shop: Shop) -> None:
    run = shop.run(1)
    words = {
        "_PIPELINE_ASSETS_COMPLETE": "bash_complete",
        "COMP_WORDS": f"pipeline-assets resume {run[:4]}",
        "COMP_CWORD": "2",
    }
    done = children.pipeline_assets(more=words)
    assert (done.returncode, done.stdout) == (0, f"plain,{run}\n")


def test_no_code_location_is_imported_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.run(1)
    monkeypatch.delitem(sys.modules, SHOP, raising=False)
    completed("status", "-m", SHOP, "")
    assert SHOP not in sys.modules


def test_without_an_instance_nothing_is_completed_and_nothing_said(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert completed("resume", "") == []
    assert capfd.readouterr() == ("", "")
