"""What others may rely on, spelled out: a change here is a change for them."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import dagster as dg
import pytest
from click.testing import CliRunner

import pipeline_assets
from pipeline_assets import DeltaCheckpointIOManager, errors
from pipeline_assets.cli import cli
from pipeline_assets.definitions import defs
from pipeline_assets.errors import PermanentError, PipelineAssetsError, TimedOut, TransientError

ASSETS = ["carrier_scorecard", "departures", "legs", "route_delays", "weather_hours"]


def every_error() -> list[type[PipelineAssetsError]]:
    for module in pkgutil.walk_packages(pipeline_assets.__path__, "pipeline_assets."):
        if not module.name.startswith(("pipeline_assets.demo", "pipeline_assets.defs")):
            importlib.import_module(module.name)
    found: list[type[PipelineAssetsError]] = []
    open_ = [PipelineAssetsError]
    while open_:
        one = open_.pop()
        found.append(one)
        open_ += one.__subclasses__()
    return found


def test_the_names_of_the_package() -> None:
    assert sorted(pipeline_assets.__all__) == [
        "DeltaCheckpointIOManager",
        "MergeConfig",
        "MergeOperationsConfig",
        "MergeType",
        "PermanentError",
        "PipelineAssetsError",
        "SchemaMode",
        "TransientError",
        "WriteMode",
        "files_fingerprint",
        "on_failure",
        "stage",
    ]


def test_the_io_manager_takes_what_dagster_deltalake_s_takes() -> None:
    theirs = set(pytest.importorskip("dagster_deltalake").DeltaLakeIOManager.model_fields)
    assert theirs <= set(DeltaCheckpointIOManager.model_fields)


def test_the_assets_of_the_code_location() -> None:
    keys = sorted(key.to_user_string() for key in defs.resolve_all_asset_keys())
    assert keys == [f"flights/{name}" for name in ASSETS]


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_is_described(name: str) -> None:
    spec = defs.get_assets_def(dg.AssetKey(["flights", name])).get_asset_spec(dg.AssetKey(["flights", name]))
    assert spec.description
    assert spec.owners == ["team:flight-data"]
    assert set(spec.kinds) == {"polars", "deltalake"}
    assert spec.group_name == "flights"
    assert all(column.description for column in spec.metadata["dagster/column_schema"].columns)


def test_the_jobs_and_schedules_of_the_code_location() -> None:
    for name in ("flights_job", "rollback_job", "maintenance_job"):
        assert defs.resolve_job_def(name).name == name
    assert sorted(one.name for one in defs.schedules or ()) == ["flights_daily_schedule", "maintenance_schedule"]


def test_what_recovers_by_itself_in_the_code_location() -> None:
    assert defs.resolve_job_def("recovery_job").name == "recovery_job"
    sensors = {one.name: one.default_status for one in defs.sensors or ()}
    assert sensors == dict.fromkeys(("recovery_sensor", "stuck_run_sensor"), dg.DefaultSensorStatus.RUNNING)


def test_loading_the_code_location_starts_no_threads() -> None:
    """A worker that is forked from a process with polars' threads at work, as a forkserver preloads it, never ends."""
    counting = "import os; count = lambda: len(os.listdir('/proc/self/task'))"
    libraries = "import dagster, polars, deltalake, obstore, pyarrow.parquet, pyarrow.fs; before = count()"
    script = f"{counting}; {libraries}; import pipeline_assets.definitions; print(count() - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_the_verbs_of_the_command_line() -> None:
    verbs = ["adopt", "doctor", "history", "resume", "rollback", "run", "status"]
    listed = CliRunner().invoke(cli, ["--help"]).output.partition("Commands:")[2]
    assert sorted(line.split()[0] for line in listed.splitlines() if line.strip()) == verbs


def test_every_error_is_either_transient_or_permanent_but_for_what_a_stage_says_itself() -> None:
    loose = [one for one in every_error() if not issubclass(one, (PermanentError, TransientError))]
    assert loose == [PipelineAssetsError, TimedOut]


def test_the_tree_of_errors_is_drawn_whole() -> None:
    drawn = inspect.getdoc(errors) or ""
    missing = [one.__name__ for one in every_error() if one.__name__ not in drawn]
    assert missing == []
