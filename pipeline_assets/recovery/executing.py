"""Executes a run that another process has made and looks after: `python -m pipeline_assets.recovery.executing`.

What it is to execute comes as JSON on stdin: `{"instance": ..., "run": ID, "paths": [...]}`.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from dagster import DagsterInstance
from dagster._core.events import EngineEventData
from dagster._core.execution.api import execute_run
from dagster._core.instance import InstanceRef
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts


def order(instance: DagsterInstance, run_id: str) -> str:
    """What to write to the process's stdin."""
    paths = [path for path in sys.path if path]
    return json.dumps({"instance": serialize_value(instance.get_ref()), "run": run_id, "paths": paths})


def execute(said: Mapping[str, Any]) -> bool:
    """Execute the run; whether it succeeded."""
    with DagsterInstance.from_ref(deserialize_value(said["instance"], InstanceRef)) as instance:
        run = instance.get_run_by_id(said["run"])
        if run is None or run.job_code_origin is None or run.is_finished:
            return False
        pid = os.getpid()
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
        return execute_run(recon_job_from_origin(run.job_code_origin), run, instance).success


def main() -> None:
    """Read the order, and execute it."""
    with capture_interrupts():
        said = json.load(sys.stdin)
        sys.path[:] = [*said["paths"], *(path for path in sys.path if path not in said["paths"])]
        success = execute(said)
    sys.exit(0 if success else 1)


if __name__ == "__main__":
    main()
