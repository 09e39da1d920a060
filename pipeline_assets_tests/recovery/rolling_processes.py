"""Rollbacks in processes of their own, which may die by SIGKILL: forked from one that has imported everything."""

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess

import dagster as dg

from pipeline_assets.cli import cli
from pipeline_assets_tests.recovery import gathering, rolling_location

SECONDS = 240
REFUSED = 3


def context() -> ForkServerContext:
    """Where the processes are forked."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    return found


def rollback(*choice: str, crash: str | None = None) -> ForkServerProcess:
    """`pipeline-assets rollback` of the shop, in this environment."""
    return _started(_rollback, choice, {"PIPELINE_ASSETS_CRASH": crash} if crash else {})


def days(*keys: str, job: str = "rows_job") -> ForkServerProcess:
    """A process that makes some days, one after the other."""
    return _started(_days, (job, *keys), {})


def end(process: ForkServerProcess) -> int:
    """How a process ended: its exit status, or minus the signal that killed it."""
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError
    return process.exitcode


def _started(target: object, arguments: tuple[str, ...], more: dict[str, str]) -> ForkServerProcess:
    process = context().Process(target=target, args=(arguments, {**os.environ, **more}))
    process.start()
    return process


def _rollback(choice: tuple[str, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    rolling_location.defs = rolling_location.definitions()
    sys.stdin = open(os.devnull)  # noqa: SIM115  the process ends with it
    cli.main(["rollback", *choice, "-m", rolling_location.__name__])


def _days(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    name, *keys = arguments
    job = gathering.definitions().resolve_job_def(name)
    with dg.DagsterInstance.get() as instance:
        for key in keys:
            assert job.execute_in_process(instance=instance, partition_key=key).success
