"""A code location whose stages append and merge what the first was told, in a file in DAGSTER_HOME; a switch fails them."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.rolling import told

UPSERT = {"merge_type": "upsert", "predicate": "s.id = t.id", "source_alias": "s", "target_alias": "t"}
BY_KEY: dict[str, Any] = {"mode": "merge", "merge_config": UPSERT}


class Broken(Exception):
    """What a stage was told to raise."""


def switch() -> Path:
    """While this file is there, stages raise that append or merge."""
    return Path(os.environ["DAGSTER_HOME"], "broken")


def obey(frame: pl.DataFrame) -> pl.DataFrame:
    """A stage that appends or merges what it reads."""
    if switch().exists():
        raise Broken
    return frame


@dg.asset(key_prefix="ledger")
def source() -> pl.DataFrame:
    """One row."""
    return pl.DataFrame({"id": [1], "value": [int(told().read_text())]})


@dg.asset(key_prefix="ledger", metadata={"mode": "append"})
def appended(source: pl.DataFrame) -> pl.DataFrame:
    """A row more with each run."""
    return obey(source)


@dg.asset(key_prefix="ledger", metadata=BY_KEY)
def merged(source: pl.DataFrame) -> pl.DataFrame:
    """The one row, as of the newest run."""
    return obey(source)


@dg.asset(key_prefix="ledger")
def replaced(source: pl.DataFrame) -> pl.DataFrame:
    """The one row, as of the newest run."""
    return obey(source)


def definitions() -> dg.Definitions:
    """With tables where the environment says now."""
    return dg.Definitions(
        [source, appended, merged, replaced], resources={"io_manager": io_manager()}, executor=dg.in_process_executor
    )


defs = definitions()
