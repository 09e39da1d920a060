"""A run of two stages in a process of its own, which stops itself at a point of the second one's attempt.

The processes are forks of one that has imported everything and run nothing, so that one costs a few milliseconds.
"""

import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import dagster as dg
import polars as pl
from dagster._core.definitions.reconstruct import build_reconstructable_job
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.utils import make_new_run_id
from dagster._grpc.impl import start_run_in_subprocess
from dagster._grpc.types import ExecuteExternalJobArgs
from dagster._serdes import serialize_value
from typing_extensions import Self

from pipeline_assets import DeltaCheckpointIOManager, MergeConfig, MergeType, stage
from pipeline_assets_tests.campaigns.pauses import STAGE, Pause, is_stopped

SECONDS = 60.0
"""How long anything may take on a busy machine."""
COLORS = ("red", "blue")
MODES = ("overwrite", "partitions", "append", "merge")
JOB = "two"


class Late(Exception):
    """Something did not come about in time."""


@dataclass(frozen=True)
class Work:
    """What a run does. home: of Dagster; the tables lie in it. who: in each row, who made it. timeout: of the second stage.

    key: the partition. pause_at, nth: where its process stops itself, None for nowhere. asker: the process that asks for it.
    """

    home: str
    mode: str
    who: str
    key: str | None = None
    timeout: float | None = None
    pause_at: str | None = None
    nth: int = 1
    asker: int = field(default_factory=os.getpid)

    @property
    def root(self) -> Path:
        return Path(self.home, "tables")

    @property
    def said(self) -> str:
        return str(Path(self.home, "said"))


def job_of(work: Work, pause: Pause | None = None) -> dg.JobDefinition:
    """`first` makes three rows, `second` (partitioned or not) makes them its own."""

    @stage(key_prefix="z", max_retries=0, code_version="1")
    def first() -> pl.DataFrame:
        return pl.DataFrame({"n": [1, 2, 3]})

    merge = MergeConfig(merge_type=MergeType.upsert, predicate="s.n = t.n", source_alias="s", target_alias="t")
    metadata = {"partitions": {"partition_expr": "color"}, "append": {"mode": "append"}, "merge": {"mode": "merge"}}

    @stage(
        name=STAGE,
        key_prefix="z",
        max_retries=0,
        code_version="1",
        timeout=work.timeout,
        metadata=metadata.get(work.mode),
        partitions_def=dg.StaticPartitionsDefinition(list(COLORS)) if work.mode == "partitions" else None,
    )
    def second(first: pl.LazyFrame) -> pl.LazyFrame:
        rows = first.with_columns(who=pl.lit(work.who), color=pl.lit(work.key or ""))
        if pause is None:
            return rows
        pause.at("in its function")
        return pause.in_the_middle(rows)

    io = DeltaCheckpointIOManager(root_uri=str(work.root), commit_timeout=SECONDS, merge_config=merge)
    assets = dg.Definitions(
        assets=[first, second],
        jobs=[dg.define_asset_job(JOB, selection=dg.AssetSelection.all())],
        resources={"io_manager": io},
        executor=dg.in_process_executor,
    )
    return assets.resolve_job_def(JOB)


@functools.cache
def watched_job(work: str) -> dg.JobDefinition:
    """The job in a process that Dagster starts, which is told no more than a text; only there it stops itself."""
    asked = Work(**json.loads(work))
    return job_of(asked, _prepared(asked) if os.getpid() != asked.asker else None)


def run_and_pause(work: Work, run_id: str) -> None:
    """In the child: a run by a caller that lives on (`execute_in_process`)."""
    pause = _prepared(work)
    with dg.DagsterInstance.from_config(work.home) as instance:
        done = job_of(work, pause).execute_in_process(
            run_id=run_id, instance=instance, partition_key=work.key, raise_on_error=False
        )
    sys.exit(0 if done.success else 1)


def _prepared(work: Work) -> Pause:
    """This process says what it says into a file, and stops itself where it shall."""
    os.dup2(os.open(work.said, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    pause = Pause(work.pause_at or "", work.nth)
    pause.install()
    return pause


def forks() -> ForkServerContext:
    """Where zombies come from: a process that has imported everything, and run nothing that starts polars' threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *_USED_BY_RUNS])
    return context


_USED_BY_RUNS = ("alembic.context", "dagster._core.execution.api")
"""Modules that are imported late, where a run needs them."""


class Zombie:
    """A process of a run that has stopped itself. A context: the process is gone afterwards, whatever happens."""

    def __init__(self, context: ForkServerContext, work: Work, instance: dg.DagsterInstance, *, watched: bool) -> None:
        self.work, self.instance, self.run_id = work, instance, make_new_run_id()
        start = self._as_a_code_server if watched else self._as_a_caller
        self.process = start(context)
        self.process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join()

    def _as_a_caller(self, context: ForkServerContext) -> ForkServerProcess:
        return context.Process(target=run_and_pause, args=(self.work, self.run_id))

    def _as_a_code_server(self, context: ForkServerContext) -> ForkServerProcess:
        """A process as the code server makes one for a run: its run may be ended with it."""
        recon = build_reconstructable_job(__name__, watched_job.__name__, (json.dumps(asdict(self.work)),))
        job = job_of(self.work)
        self.instance.create_run_for_job(
            job,
            run_id=self.run_id,
            tags={"dagster/partition": self.work.key} if self.work.key else None,
            job_code_origin=recon.get_python_origin(),
        )
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
        asked = ExecuteExternalJobArgs(
            job_origin=RemoteJobOrigin(repository, JOB), run_id=self.run_id, instance_ref=self.instance.get_ref()
        )
        self._said, self._to_stop = context.Queue(), context.Event()
        arguments = (serialize_value(asked), recon, self._said, self._to_stop)
        return context.Process(target=start_run_in_subprocess, args=arguments)

    def paused(self) -> bool:
        """Wait until it has stopped itself; False where it has ended without."""
        wait_for(lambda: is_stopped(self.process.pid or 0) or not self.process.is_alive(), "the attempt does not stop")
        return self.process.is_alive()

    def go_on(self) -> None:
        """Continue it."""
        os.kill(self.process.pid or 0, signal.SIGCONT)

    def ended(self) -> int:
        """Wait for its end; its exit status."""
        self.process.join(SECONDS)
        if self.process.exitcode is None:
            raise Late(f"the zombie does not end: {self.said()[-2000:]}")
        return self.process.exitcode

    def said(self) -> str:
        """What it wrote to stderr."""
        return Path(self.work.said).read_text(encoding="utf-8") if Path(self.work.said).exists() else ""


def wait_for(is_so: Callable[[], object], what: str) -> None:
    """Wait for a condition. Raises Late."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Late(what)
        time.sleep(0.005)
