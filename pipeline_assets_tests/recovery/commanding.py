"""The command line in this process: a second less than a process of its own."""

import json
from typing import Any

import dagster as dg
import polars as pl
from click.testing import CliRunner, Result

from pipeline_assets.cli import cli
from pipeline_assets_tests.recovery import gathering, rolling_location, story

SHOP, STORY, DAYS = rolling_location.__name__, story.__name__, gathering.__name__


def command(*arguments: str, module: str | None = SHOP) -> Result:
    """`pipeline-assets …` of a code location, whose tables are where the environment says now."""
    for one in (rolling_location, story, gathering):
        one.defs = one.definitions()  # type: ignore[attr-defined]
    more = ["-m", module] if module is not None else []
    return CliRunner().invoke(cli, [*arguments, *more], prog_name="pipeline-assets")


def said(*arguments: str, module: str | None = SHOP) -> dict[str, Any]:
    """What it says with `--json`."""
    done = command(*arguments, "--json", module=module)
    assert done.exit_code in (0, 1), done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Parts:
    """A stage of three partitions, of which some fail, and one that is made from it."""

    def __init__(self, instance: dg.DagsterInstance, io: dg.ConfigurableIOManagerFactory[Any]) -> None:
        self.instance, self.broken = instance, set[str]()
        keys = dg.StaticPartitionsDefinition(["x", "y", "z"])
        declared: dict[str, Any] = {
            "partitions_def": keys,
            "metadata": {"partition_expr": "key"},
            "key_prefix": "parts",
        }

        @dg.asset(**declared)
        def first(context: dg.AssetExecutionContext) -> pl.DataFrame:
            if context.partition_key in self.broken:
                raise ValueError(f"no {context.partition_key}")
            return pl.DataFrame({"key": [context.partition_key], "n": [1]})

        @dg.asset(**declared)
        def second(first: pl.DataFrame) -> pl.DataFrame:
            return first

        self.defs = dg.Definitions(
            [first, second],
            jobs=[dg.define_asset_job("parts_job", selection=dg.AssetSelection.all())],
            resources={"io_manager": io},
            executor=dg.in_process_executor,
        )
        self.repository = self.defs.get_repository_def()

    def run(self, key: str, *only: str) -> str:
        """A run of a partition of both or some; its id."""
        job = self.defs.resolve_job_def("parts_job")
        chosen = [dg.AssetKey(["parts", name]) for name in only] or None
        done = job.execute_in_process(
            instance=self.instance, partition_key=key, asset_selection=chosen, raise_on_error=False
        )
        return done.run_id
