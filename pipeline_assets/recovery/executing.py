"""Executes a run that another process has made and looks after: `python -c START`.

What it is to execute comes as a line of JSON on stdin: `{"instance": ..., "run": ID, "paths": [...]}`. When stdin ends, the
other process is gone, and this one stops: nobody would speak for the run any more, nor read what its stages print.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.events import EngineEventData
from dagster._core.execution.api import execute_run
from dagster._core.instance import InstanceRef
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.interrupts import capture_interrupts

from pipeline_assets.policy.watching import made_for_runs

START = f"import gc; gc.disable(); from {__name__} import main; gc.freeze(); gc.enable(); main()"
"""The program: what is imported is no garbage, and looking for some in between takes a fifth of the imports' time."""
_PR_SET_PDEATHSIG = 1
_NOT_BEGUN = {DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING}


def order(instance: DagsterInstance, run_id: str) -> str:
    """What to write to the process's stdin, which is then kept open."""
    paths = [path for path in sys.path if path]
    said = {"instance": serialize_value(instance.get_ref()), "run": run_id, "paths": paths}
    return json.dumps(said) + "\n"


def execute(said: Mapping[str, Any]) -> bool:
    """Execute the run; whether it succeeded."""
    with DagsterInstance.from_ref(deserialize_value(said["instance"], InstanceRef)) as instance:
        run = instance.get_run_by_id(said["run"])
        if run is None or run.job_code_origin is None or run.status not in _NOT_BEGUN:
            return False
        pid = os.getpid()
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
        return execute_run(recon_job_from_origin(run.job_code_origin), run, instance).success


def _hear_of_the_parent_s_end() -> None:
    """Also while a stage is in native code that keeps Python's lock, so that no thread of this process reads on (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop_with_parent() -> None:
    """Ask this process to stop when the one that began it is gone: then nobody holds its stdin open any more."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while stdin.read(1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Read the order, and execute it."""
    made_for_runs()
    _hear_of_the_parent_s_end()
    with capture_interrupts():
        with open(0, encoding="utf-8", closefd=False) as stdin:
            said = json.loads(stdin.readline() or "null")
        if said is None:  # it was dismissed
            return
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        sys.path[:] = [*said["paths"], *(path for path in sys.path if path not in said["paths"])]
        success = execute(said)
    gc.freeze()  # Python would look for garbage in all that was imported before it ends, for half a second
    sys.exit(0 if success else 1)
