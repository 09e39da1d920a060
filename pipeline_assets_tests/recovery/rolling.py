"""What the tests of rollbacks share: small pipelines, and the proof that nothing was changed."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.delta import names
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.table import open_table
from pipeline_assets.recovery.rollback import RolledBack, roll_back
from pipeline_assets.recovery.rollback_plan import TO, UNDO, Asked
from pipeline_assets.settings import io_manager
from pipeline_assets.stage import stage


class Shop:
    """`a` → `b` → `c`: stages whose rows say what `a` was told, in a file in DAGSTER_HOME.

    skip: they are skipped when unchanged. broken: the stage that raises. meanwhile: what happens while `b` computes.
    """

    def __init__(self, instance: dg.DagsterInstance, tables: Location, *, skip: bool = False) -> None:
        self.instance, self.tables, self.computed = instance, tables, list[str]()
        self.broken = ""
        self.meanwhile: Callable[[str], object] = lambda _: None

        @stage(key_prefix="shop")
        def a(context: dg.AssetExecutionContext) -> pl.DataFrame:
            self.begin(context)
            return pl.DataFrame({"value": [int(told().read_text())]})

        @stage(key_prefix="shop", skip_if_unchanged=skip)
        def b(context: dg.AssetExecutionContext, a: pl.DataFrame) -> pl.DataFrame:
            self.begin(context)
            self.meanwhile(context.run.run_id)
            return a

        @stage(key_prefix="shop", skip_if_unchanged=skip)
        def c(context: dg.AssetExecutionContext, b: pl.DataFrame) -> pl.DataFrame:
            self.begin(context)
            return b

        self.defs = dg.Definitions(
            [a, b, c],
            jobs=[dg.define_asset_job("shop_job", selection=dg.AssetSelection.all())],
            resources={"io_manager": io_manager()},
            executor=dg.in_process_executor,
        )
        self.job = self.defs.resolve_job_def("shop_job")

    @property
    def module(self) -> str:
        """A name for its code location: one of its own, since Dagster remembers code locations."""
        return f"shop_of_{Path(self.tables.uri).parent.name}"

    def begin(self, context: dg.AssetExecutionContext) -> None:
        """A stage computes."""
        name = context.asset_key.path[-1]
        if name == self.broken:
            raise ValueError(name)
        self.computed.append(name)

    def tell(self, value: int) -> None:
        """What `a` is told."""
        told().write_text(str(value))
        self.computed.clear()

    def run(self, value: int, *only: str) -> str:
        """A run of all stages or some; its id."""
        self.tell(value)
        selection = [dg.AssetKey(["shop", name]) for name in only] or None
        return self.job.execute_in_process(
            instance=self.instance, asset_selection=selection, raise_on_error=False
        ).run_id

    def values(self) -> dict[str, int | None]:
        """What each table shows; None for nothing."""
        found = {}
        for name in "abc":
            shown = values(self.tables.child("shop", name), "value")
            found[name] = shown[0] if shown else None
        return found

    def undo(self, run: str, **more: Any) -> RolledBack:
        """Undo a run."""
        return roll_back(self.instance, self.job, Asked(UNDO, run, **more))

    def back_to(self, run: str, **more: Any) -> RolledBack:
        """Go back to a run."""
        return roll_back(self.instance, self.job, Asked(TO, run, **more))

    def places(self) -> list[Location]:
        """The stages' tables."""
        return [self.tables.child("shop", name) for name in "abc"]


def code_location(module: str, defs: dg.Definitions) -> ModuleType:
    """A module that has definitions, for `sys.modules`."""
    found = ModuleType(module)
    found.defs = defs
    return found


def told() -> Path:
    """What the first stage is told."""
    return Path(os.environ["DAGSTER_HOME"], "told")


def values(table: Location, column: str) -> list[Any]:
    """A column of a table, sorted; none where there is no table."""
    if open_table(table) is None:
        return []
    return sorted(pl.read_delta(table.uri, storage_options=table.options or None)[column].to_list())


def shown(table: Location) -> Mapping[str, Any]:
    """All that a rollback may change of a table: files, metadata, `data/` and `chain/` entries; and that nothing is held."""
    found = open_table(table)
    if found is None:
        return {}
    entries = {name: value for name, value in found.txns.items() if (names.parse(name) or [""])[0] in ("data", "chain")}
    metadata = found.delta.metadata()
    return {
        "files": sorted(found.delta.file_uris()),
        "metadata": (metadata.id, json.dumps(metadata.configuration), found.schema.to_json()),
        "entries": entries,
        "holds": {name: value for name, value in found.txns.items() if name.startswith("pa/hold/") and value},
    }


def on_disk(root: Location) -> list[str]:
    """Every file below a local root."""
    return sorted(str(path.relative_to(root.uri)) for path in Path(root.uri).rglob("*") if path.is_file())
