"""A process whose stage stays in native code that keeps the GIL, until it is killed or there is a file `go` in DAGSTER_HOME.

`python -m pipeline_assets_tests.recovery.beating`; its run beats every fifth of a second.
"""

import ctypes
import os
import sys
from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets import heartbeat
from pipeline_assets.settings import io_manager


def go() -> Path:
    """The file."""
    return Path(os.environ["DAGSTER_HOME"], "go")


@dg.asset(key_prefix="beating")
def first() -> pl.DataFrame:
    """With its first event the run says where it is, and begins to beat."""
    return pl.DataFrame({"n": [1]})


@dg.asset(key_prefix="beating")
def second(first: pl.DataFrame) -> pl.DataFrame:
    """No thread of this process runs for an hour."""
    if not go().exists():
        ctypes.PyDLL(None).sleep(3600)
    return first


def job() -> dg.JobDefinition:
    """Both, with tables where the environment says now."""
    resources = {"io_manager": io_manager()}
    defs = dg.Definitions([first, second], jobs=[dg.define_asset_job("beating_job")], resources=resources)
    return defs.resolve_job_def("beating_job")


def main() -> int:
    """A run of both."""
    heartbeat.BEAT_SECONDS = 0.2
    with dg.DagsterInstance.get() as instance:
        return 0 if job().execute_in_process(instance=instance, raise_on_error=False).success else 1


if __name__ == "__main__":
    sys.exit(main())
