"""A code location whose stages do, once, what files in DAGSTER_HOME tell them; and whose jobs say what follows of that.

`stage.raise`, `stage.kill`, `stage.exit`: the stage takes the file away and raises, is killed, ends its process; with
`always` in it the file stays. `stage.wait`: it says so by `stage.waits`, and waits to be stopped; with `natively` in it in
native code, which keeps Python's lock.
"""

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets import on_failure, stage
from pipeline_assets.recovery.automation import recovery_definitions
from pipeline_assets.settings import io_manager

DAYS = dg.StaticPartitionsDefinition(["mon", "tue", "wed"])
SECONDS = 120


class Told(Exception):
    """A stage was told to raise."""


def file(name: str) -> Path:
    """What tells, or is told, in DAGSTER_HOME."""
    return Path(os.environ["DAGSTER_HOME"], name)


def obey(name: str) -> None:
    """Do what a stage is told."""
    for what in ("raise", "kill", "exit", "wait"):
        told = file(f"{name}.{what}")
        if not told.exists():
            continue
        how = told.read_text()
        if how != "always":
            told.unlink()
        if what == "raise":
            raise Told(f"{name} was told to\nin two lines")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exit":
            os._exit(7)
        file(f"{name}.waits").touch()
        if how == "natively":
            sum(itertools.repeat(1, 10**12))
        time.sleep(SECONDS)


@stage(key_prefix="shop", group_name="shop", skip_if_unchanged=True, fingerprint=lambda: "always the same")
def a() -> pl.DataFrame:
    """The first; it prints, as people's code does."""
    print("a computes")
    obey("a")
    return pl.DataFrame({"n": [1, 2]})


@stage(key_prefix="shop", group_name="shop")
def b(a: pl.DataFrame) -> pl.DataFrame:
    """The second."""
    obey("b")
    return a


@stage(key_prefix="shop", group_name="shop")
def c(b: pl.DataFrame) -> pl.DataFrame:
    """The third."""
    obey("c")
    return b


def of_days(name: str, *, single: bool) -> dg.AssetsDefinition:
    """A stage of days, in a run for all of them or one for each."""
    policy = dg.BackfillPolicy.single_run() if single else None

    @stage(
        name=name,
        key_prefix="days",
        group_name=name,
        partitions_def=DAYS,
        backfill_policy=policy,
        metadata={"partition_expr": "day"},
    )
    def made(context: dg.AssetExecutionContext) -> pl.DataFrame:
        for key in context.partition_keys:
            obey(key)
        return pl.DataFrame({"day": context.partition_keys, "n": 1})

    return made


SHOP = dg.AssetSelection.groups("shop")
ASSETS = [a, b, c, of_days("together", single=True), of_days("apart", single=False)]
JOBS = [
    dg.define_asset_job("shop_job", SHOP),
    dg.define_asset_job("resumed_job", SHOP, tags=on_failure("resume", times=2, backoff=0.01)),
    dg.define_asset_job("undone_job", SHOP, tags=on_failure("rollback")),
    dg.define_asset_job("undone_failed_job", SHOP, tags=on_failure("rollback_failed")),
]


def definitions(jobs: list[Any] | None = None) -> dg.Definitions:
    """The code location, with its tables where the environment says now."""
    own = dg.Definitions(
        ASSETS,
        jobs=JOBS if jobs is None else jobs,
        resources={"io_manager": io_manager()},
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(own, recovery_definitions())


defs = definitions()
