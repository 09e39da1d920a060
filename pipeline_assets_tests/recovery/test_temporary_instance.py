"""Where Dagster takes a temporary instance, the run's log says that its events will be gone."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets_tests.recovery import children

MODULE = """
import dagster as dg
import polars as pl
from pipeline_assets import DeltaCheckpointIOManager

@dg.asset
def first() -> pl.DataFrame:
    return pl.DataFrame({"n": [1]})

@dg.asset
def second(first: pl.DataFrame) -> pl.DataFrame:
    return first

defs = dg.Definitions(
    [first, second],
    resources={"io_manager": DeltaCheckpointIOManager(root_uri="tables")},
    executor=dg.in_process_executor,
)
"""
SAID = "events are in a temporary Dagster instance"


def test_of_the_command_line_without_a_home_it_is_said_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "homeless.py").write_text(MODULE)
    materialize = children.materialize("homeless")
    paths = {"PYTHONPATH": f"{home}:{children.environment()['PYTHONPATH']}"}
    done = children.run(materialize, {**paths, "DAGSTER_HOME": ""})
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count(SAID) == 1
    done = children.run(materialize, paths)
    assert done.returncode == 0, done.stderr
    assert SAID not in done.stdout + done.stderr


def warned(capfd: pytest.CaptureFixture[str], root: Path, instance: dg.DagsterInstance | None) -> int:
    """How often a run says it on stderr."""

    @dg.asset
    def first() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset
    def second(first: pl.DataFrame) -> pl.DataFrame:
        return first

    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(root))}
    assert dg.materialize([first, second], resources=resources, instance=instance).success
    return capfd.readouterr().err.count(SAID)


def test_in_python_it_is_said_where_the_tables_were_there_before(
    root: Path, instance: dg.DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    assert warned(capfd, root, None) == 0
    assert warned(capfd, root, instance) == 0
    assert warned(capfd, root, None) == 1
