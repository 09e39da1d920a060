"""Other processes, as people start them: `dagster asset materialize`, `pipeline-assets`, several at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pipeline_assets_tests

PROJECT = Path(pipeline_assets_tests.__file__).parents[1]
KILLED = -signal.SIGKILL
SECONDS = 240
FLIGHTS = "pipeline_assets.definitions"
FLIGHTS_IN_PROCESSES = "pipeline_assets_tests.recovery.flights_in_processes"

Done = subprocess.CompletedProcess[str]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, in which a child finds the project and its tests."""
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(more or {})}


def start(arguments: Sequence[str], more: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """A child process of this Python, in DAGSTER_HOME."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=os.environ["DAGSTER_HOME"],
        env=environment(more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: "subprocess.Popen[str]") -> Done:
    """What a child said and how it ended, when it has."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Done(process.args, process.returncode, out, err)


def materialize(
    module: str, select: str = "*", partition: str | None = None, crash: str | None = None
) -> Sequence[str]:
    """The arguments of `dagster asset materialize`, for `start`."""
    chosen = ["-m", module, "--select", select, *(["--partition", partition] if partition else [])]
    return ["-m", "dagster", "asset", "materialize", *chosen]


def crash_at(point: str, stage: str) -> dict[str, str]:
    """The environment in which a process dies by SIGKILL at a fault point of a stage."""
    return {"PIPELINE_ASSETS_CRASH": f"{point}:{stage}"}


def run(arguments: Sequence[str], more: Mapping[str, str] | None = None) -> Done:
    """A child process from start to end."""
    return end(start(arguments, more))


def pipeline_assets(*arguments: str, more: Mapping[str, str] | None = None) -> Done:
    """The command line `pipeline-assets`, as the console script calls it."""
    return run(["-c", "from pipeline_assets.cli import main; main()", *arguments], more)
