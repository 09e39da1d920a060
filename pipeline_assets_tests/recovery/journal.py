"""A stage that appends, and one that counts its rows."""

from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.delta.location import Location
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.rolling import told, values


class Journal:
    """`said` → `lines`, which appends, or what its metadata say → `count`."""

    def __init__(self, instance: dg.DagsterInstance, tables: Location, **metadata: Any) -> None:
        self.instance, self.tables = instance, tables

        @dg.asset(key_prefix="journal")
        def said() -> pl.DataFrame:
            return pl.DataFrame({"n": [int(told().read_text())]})

        @dg.asset(key_prefix="journal", metadata=metadata or {"mode": "append"})
        def lines(said: pl.DataFrame) -> pl.DataFrame:
            return said

        @dg.asset(key_prefix="journal")
        def count(lines: pl.DataFrame) -> pl.DataFrame:
            return pl.DataFrame({"n": [lines.height]})

        defs = dg.Definitions(
            [said, lines, count], resources={"io_manager": io_manager()}, executor=dg.in_process_executor
        )
        self.job = defs.resolve_implicit_global_asset_job_def()

    def run(self, value: int) -> str:
        """A run of all; its id."""
        told().write_text(str(value))
        return self.job.execute_in_process(instance=self.instance).run_id

    def values(self) -> tuple[list[int], list[int], list[int]]:
        """What each table shows."""
        said, lines, count = (values(self.tables.child("journal", name), "n") for name in ("said", "lines", "count"))
        return said, lines, count
