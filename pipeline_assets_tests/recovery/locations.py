"""A code location with jobs of many kinds, each of whose last steps raises while there is a file `broken` in DAGSTER_HOME."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.story import Broken, switch


def fail_if_broken() -> None:
    """Raise Broken."""
    if switch().exists():
        raise Broken


DYNAMIC = dg.DynamicPartitionsDefinition(name="shops")
NUMBERS = pl.DataFrame({"n": [1, 2, 3]})


@dg.asset(key_prefix="many", partitions_def=DYNAMIC, metadata={"partition_expr": "shop"})
def shops(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """A row a shop; prints, as people's code does."""
    print("printed by a stage")
    return pl.DataFrame({"shop": context.partition_keys, "n": 1})


@dg.asset(key_prefix="many", partitions_def=DYNAMIC, metadata={"partition_expr": "shop"})
def counted(shops: pl.LazyFrame) -> pl.LazyFrame:
    """The second of two."""
    fail_if_broken()
    return shops


@dg.io_manager(required_resource_keys={"database"})
def other_manager(_: Any) -> dg.InMemoryIOManager:
    """An IO manager of somebody else's that needs another resource."""
    return dg.InMemoryIOManager()


@dg.asset(io_manager_key="other_manager")
def elsewhere() -> int:
    """Not ours."""
    return 1


@dg.op
def first() -> pl.DataFrame:
    """The first op."""
    return NUMBERS


@dg.op
def second(frame: pl.DataFrame) -> pl.DataFrame:
    """The second."""
    fail_if_broken()
    return frame


@dg.job(logger_defs={"own": dg.colored_console_logger})
def logging_job() -> None:
    """A job whose only logger is its own."""
    second(first())


@dg.op(out=dg.DynamicOut(int))
def parts() -> Iterator[dg.DynamicOutput[int]]:
    """Three."""
    for number in range(3):
        yield dg.DynamicOutput(number, mapping_key=f"k{number}")


@dg.op
def mapped(context: dg.OpExecutionContext, number: int) -> int:
    """The second of three is broken."""
    if number == 1:
        fail_if_broken()
    return number


@dg.op
def collected(numbers: list[int]) -> int:
    """All three."""
    return sum(numbers)


@dg.job(resource_defs={"io_manager": dg.FilesystemIOManager()})
def dynamic_job() -> None:
    """A job whose steps are known when it runs."""
    collected(parts().map(mapped).collect())


shops_job = dg.define_asset_job("shops_job", selection=[shops, counted])
defs = dg.Definitions(
    [shops, counted, elsewhere],
    jobs=[logging_job, dynamic_job, shops_job],
    resources={
        "io_manager": io_manager(),
        "other_manager": other_manager,
        "database": dg.ResourceDefinition.none_resource(),
    },
    executor=dg.in_process_executor,
)
