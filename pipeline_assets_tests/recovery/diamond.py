"""A diamond of stages, a process for each step: `left` dies while `right` is at work.

`left` is computed only when `right` has begun, and `right` ends only when `left` is dead; they tell each other by
files in DAGSTER_HOME.
"""

import os
import time
from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.flights_in_processes import PROCESSES

STAGES = ("top", "left", "right", "bottom")
SECONDS = 60


def await_file(pattern: str) -> None:
    """Return when there is such a file in DAGSTER_HOME. Raises TimeoutError."""
    deadline = time.monotonic() + SECONDS
    while not any(Path(os.environ["DAGSTER_HOME"]).glob(pattern)):
        if time.monotonic() > deadline:
            raise TimeoutError(pattern)
        time.sleep(0.02)


def is_to_die() -> bool:
    """Whether a stage is to be killed; else nobody waits for that."""
    return bool(os.environ.get("PIPELINE_ASSETS_CRASH"))


@dg.asset(key_prefix="diamond")
def top() -> pl.LazyFrame:
    """Some numbers."""
    return pl.LazyFrame({"n": range(100)})


@dg.asset(key_prefix="diamond")
def left(top: pl.LazyFrame) -> pl.LazyFrame:
    """The branch that dies."""
    if is_to_die():
        await_file("right_has_begun")
    return top.filter(pl.col("n") % 2 == 0)


@dg.asset(key_prefix="diamond")
def right(top: pl.LazyFrame) -> pl.LazyFrame:
    """The healthy branch."""
    if is_to_die():
        Path(os.environ["DAGSTER_HOME"], "right_has_begun").touch()
        await_file("pipeline_assets_crashes/*")
    return top.filter(pl.col("n") % 2 == 1)


@dg.asset(key_prefix="diamond")
def bottom(left: pl.LazyFrame, right: pl.LazyFrame) -> pl.LazyFrame:
    """Both together."""
    return pl.concat([left, right])


defs = dg.Definitions([top, left, right, bottom], resources={"io_manager": io_manager()}, executor=PROCESSES)
