"""Eight tables, a run to undo, and the processes that are at work on them at once: a rollback, a writer, maintenance."""

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import dagster as dg
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from pipeline_assets.cli import cli
from pipeline_assets.cli.location import CodeLocation
from pipeline_assets.delta.location import Location
from pipeline_assets.faults import VARIABLE
from pipeline_assets.recovery.code_location import ANY_ASSETS
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.recovery.rollback_planning import plan_of
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.conftest import INSTANCE
from pipeline_assets_tests.recovery.evidence import rows
from pipeline_assets_tests.seaweed import S3

OVERWRITE, FOREIGN, APPEND, MERGE = KINDS = ("overwrite", "foreign", "append", "merge")
"""Of cases: all stages overwrite; they do, and somebody else writes to one of them; the last one appends, or merges."""
KIND = "ROLLBACKS_KIND"
MODES = {
    APPEND: {"mode": "append"},
    MERGE: {
        "mode": "merge",
        "merge_config": {
            "merge_type": "upsert",
            "predicate": "s.key = t.key",
            "source_alias": "s",
            "target_alias": "t",
        },
    },
}
MINE, OTHERS = "mine", ("x", "y")
BY_KEY, WHOLE = ("s0", "s1", "s2", "s3", "s4", "s5"), ("u6", "u7")
STAGES = (*BY_KEY, *WHOLE)
OTHERWISE = STAGES[-1]
"""The stage that appends or merges."""
VALUE = "campaign/value"
"""The tag of a run that says what its rows hold."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
BEFORE = {key: number for number, key in enumerate((MINE, *OTHERS))}
"""What each partition holds before the run that is undone, in the order in which they were written."""
LAST, FAILED = "writer.json", "writer.failed"
"""In DAGSTER_HOME: what the writer wrote last of each partition; what stopped it."""
READY_SECONDS = 120.0
COPY_TIMES, WRITE_TIMES = 5, 50


def _first(name: str) -> dg.AssetsDefinition:
    @dg.asset(key_prefix="many", name=name, **_by_key())
    def first(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"key": [context.partition_key], "value": [int(context.run.tags[VALUE])]})

    return first


def _next(name: str, before: str) -> dg.AssetsDefinition:
    @dg.asset(key_prefix="many", name=name, ins={"before": dg.AssetIn(["many", before])}, **_by_key(name))
    def following(before: pl.LazyFrame) -> pl.LazyFrame:
        return before

    return following


def _by_key(name: str = BY_KEY[0]) -> dict[str, object]:
    if name == OTHERWISE:
        return {"metadata": MODES.get(os.environ.get(KIND, OVERWRITE), {})}
    if name in WHOLE:
        return {}
    keys = dg.StaticPartitionsDefinition([MINE, *OTHERS])
    return {"partitions_def": keys, "metadata": {"partition_expr": "key"}}


def definitions() -> dg.Definitions:
    """The code location, with its tables where the environment says now."""
    assets = [_first(STAGES[0]), *(_next(name, before) for before, name in pairwise(STAGES))]
    jobs = [
        dg.define_asset_job("many_job", selection=dg.AssetSelection.all()),
        dg.define_asset_job("by_key_job", selection=[dg.AssetKey(["many", name]) for name in BY_KEY]),
    ]
    return dg.Definitions(assets, jobs=jobs, resources={"io_manager": io_manager()}, executor=dg.in_process_executor)


defs = definitions()


def run(instance: dg.DagsterInstance, job: dg.JobDefinition, key: str, value: int) -> str:
    """A run of a job for a partition; its id. Raises what a stage raises."""
    tags = {VALUE: str(value)}
    return job.execute_in_process(QUIET, instance=instance, partition_key=key, tags=tags).run_id


@dataclass(frozen=True)
class Prepared:
    """Tables and a Dagster instance in which a run is to be undone, made once and copied for each case.

    targets: for each stage the version that it goes back to, or had before the run; wanted: the rows that it, or `mine` of
    it, has then.
    """

    folder: Path
    kind: str
    undo: str
    targets: Mapping[str, int]
    wanted: Mapping[str, pl.DataFrame]

    @classmethod
    def at(cls, folder: Path, kind: str) -> "Prepared":
        """Make it. Sets DAGSTER_HOME, the tables' root and the kind of case."""
        home, tables = folder / "home", Location.of(str(folder / "tables"))
        home.mkdir(parents=True)
        (home / "dagster.yaml").write_text(INSTANCE)
        os.environ.update({"DAGSTER_HOME": str(home), "PIPELINE_ASSETS_ROOT": tables.uri, KIND: kind})
        job = definitions().resolve_job_def("many_job")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            for key, number in BEFORE.items():
                run(instance, job, key, number)
            before = {name: DeltaTable(tables.child("many", name).uri).version() for name in STAGES}
            undo = run(instance, job, MINE, 10)
            plan = plan_of(instance, job, Asked(UNDO, undo))
        targets = dict(before)
        for one in plan.tables:
            back_to, name = one.entries[0].back_to, one.stage.split("/")[1]
            targets[name] = before[name] if back_to is None else back_to
        wanted = {name: shown(tables.child("many", name), name, version) for name, version in targets.items()}
        assert {one.stage.split("/")[1] for one in plan.tables} == set(STAGES)
        assert (wanted[OTHERWISE].height > wanted[WHOLE[0]].height) == (kind == APPEND)
        return cls(folder, kind, undo, targets, wanted)

    def copy(self, home: Path, root: Location, server: S3 | None) -> None:
        """To a case's own places."""
        shutil.copytree(self.folder / "home", home)
        if server is None:
            shutil.copytree(self.folder / "tables", root.uri)
            return
        source = fs.SubTreeFileSystem(str(self.folder / "tables"), fs.LocalFileSystem())
        for left in reversed(range(COPY_TIMES)):
            try:
                fs.copy_files("", "", source_filesystem=source, destination_filesystem=server.files)
                break
            except OSError:  # a server that is busy answers too late now and then
                if not left:
                    raise


def shown(place: Location, name: str, version: int | None = None) -> pl.DataFrame:
    """The rows of a stage that the rollback is about, now or at a version."""
    frame = pl.read_delta(place.uri, version=version, storage_options=place.options or None).sort("key", "value")
    return frame.filter(key=MINE) if name in BY_KEY else frame


def write_foreign(place: Location) -> None:
    """Somebody else appends a row to what the rollback is about."""
    row = pl.DataFrame({"key": [MINE], "value": [99]})
    for left in reversed(range(WRITE_TIMES)):
        try:
            row.write_delta(place.uri, mode="append", storage_options=place.options or None)
            return
        except DeltaError:  # a writer was faster
            if not left:
                raise


def others(place: Location) -> dict[str, int]:
    """What the partitions hold that the rollback is not about."""
    found = rows(place).filter(pl.col("key") != MINE)
    return dict(zip(found["key"], found["value"], strict=True))


class Cast:
    """The processes of a case, forked from one that has imported everything."""

    def __init__(self, variables: Mapping[str, str], seed: str) -> None:
        self.variables, self.seed = dict(variables), seed
        self.stop = context().Event()
        self.beside: list[ForkServerProcess] = []

    def begin(self) -> None:
        """The writer and maintenance, at work until they are told to stop."""
        for target in (_write, _maintain):
            process = context().Process(target=target, args=(self.variables, self.seed, self.stop))
            process.start()
            self.beside.append(process)

    def rollback(self, *choice: str, crash: str | None = None) -> tuple[ForkServerProcess, Event]:
        """A rollback that has begun and waits for a sign. crash: the fault point at which it dies."""
        ready, go = context().Event(), context().Event()
        variables = {**self.variables, **({VARIABLE: crash} if crash else {})}
        process = context().Process(target=_rollback, args=(choice, variables, ready, go))
        process.start()
        assert ready.wait(READY_SECONDS), "a process did not start"
        return process, go

    def end(self) -> list[int | None]:
        """Let those beside end what they are at; how they ended."""
        self.stop.set()
        for process in self.beside:
            process.join(READY_SECONDS)
            if process.exitcode is None:
                process.kill()
                process.join()
        return [process.exitcode for process in self.beside]


def context() -> ForkServerContext:
    """Where the processes are forked."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    return found


def _rollback(choice: Sequence[str], variables: Mapping[str, str], ready: Event, go: Event) -> None:
    _here(variables)
    log = Path(os.environ["DAGSTER_HOME"], "rollback.log").open("a")  # noqa: SIM115  the process ends with it
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    CodeLocation(__name__).job(ANY_ASSETS).get_definition()  # Dagster remembers it: a kill is to fall into the rollback
    ready.set()
    go.wait()
    cli.main(["rollback", *choice, "-m", __name__])


def _write(variables: Mapping[str, str], seed: str, stop: Event) -> None:
    """Runs that write the other partitions, one after the other."""
    _here(variables)
    home, rng, last, value = Path(os.environ["DAGSTER_HOME"]), random.Random(f"{seed}/writer"), dict[str, int](), 100
    job = definitions().resolve_job_def("by_key_job")
    try:
        with dg.DagsterInstance.get() as instance:
            while not stop.is_set():
                key, value = rng.choice(OTHERS), value + 1
                run(instance, job, key, value)
                last[key] = value
    except BaseException as error:
        (home / FAILED).write_text(repr(error))
        raise
    finally:
        (home / LAST).write_text(json.dumps(last))


def _maintain(variables: Mapping[str, str], seed: str, stop: Event) -> None:
    """What other tools do to tables, without a look at any lock: none of it changes a row, or takes what is needed."""
    _here(variables)
    root, rng = os.environ["PIPELINE_ASSETS_ROOT"], random.Random(f"{seed}/maintenance")
    while not stop.is_set():
        name, act = rng.choice(STAGES), rng.choice(("compact", "checkpoint", "vacuum"))
        if act == "compact" and name == OTHERWISE and variables[KIND] == APPEND:
            continue  # its runs' rows cannot be told apart then, and the rollback is refused
        table = DeltaTable(f"{root}/many/{name}", storage_options=dict(variables))
        try:
            if act == "compact":
                table.optimize.compact()
            elif act == "checkpoint":
                table.create_checkpoint()
            else:
                table.vacuum(168, dry_run=False)
        except DeltaError:
            continue  # a writer was faster
        finally:
            time.sleep(rng.uniform(0, 0.2))


def _here(variables: Mapping[str, str]) -> None:
    os.environ.update(variables)
    globals()["defs"] = definitions()
