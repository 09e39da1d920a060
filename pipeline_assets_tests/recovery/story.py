"""A code location of four stages in a row. The third raises while there is a file `broken` in DAGSTER_HOME."""

import os
from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets.settings import io_manager

STAGES = ("orders", "priced", "by_customer", "report")


class Broken(Exception):
    """The third stage's defect."""


def switch() -> Path:
    """The file that breaks the third stage."""
    return Path(os.environ["DAGSTER_HOME"], "broken")


@dg.asset(key_prefix="story")
def orders() -> pl.LazyFrame:
    """What was ordered."""
    return pl.LazyFrame({"order": range(1000), "customer": [n % 7 for n in range(1000)]})


@dg.asset(key_prefix="story")
def priced(orders: pl.LazyFrame) -> pl.LazyFrame:
    """What each order costs."""
    return orders.with_columns(cents=pl.col("order") * 3 + 100)


@dg.asset(key_prefix="story")
def by_customer(priced: pl.LazyFrame) -> pl.LazyFrame:
    """What each customer owes."""
    if switch().exists():
        raise Broken
    return priced.group_by("customer").agg(pl.col("cents").sum(), orders=pl.len())


@dg.asset(key_prefix="story")
def report(by_customer: pl.LazyFrame, orders: pl.LazyFrame) -> pl.DataFrame:
    """One row: all that is owed, and the orders that there are."""
    return pl.concat(
        [
            by_customer.select(pl.col("cents").sum()).collect(),
            orders.select(known=pl.len(), highest=pl.col("order").max()).collect(),
        ],
        how="horizontal",
    )


ASSETS = [orders, priced, by_customer, report]


def definitions() -> dg.Definitions:
    """The code location, with its tables where the environment says now."""
    job = dg.define_asset_job("story_job", selection=dg.AssetSelection.all())
    return dg.Definitions(ASSETS, jobs=[job], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)


def job() -> dg.JobDefinition:
    """All four stages."""
    return definitions().resolve_job_def("story_job")


defs = definitions()
