"""(d) One partition of a table of 100,000 files, against delta-rs's own opening and committing of the same action.

`python benchmarks/large_table.py`
"""

import shutil
import time
from pathlib import Path
from typing import Any

from environments import FOLDER
from measure import Numbers, main

FILES = 100_000
ROUNDS = 5
TEMPLATE = FOLDER / f"table-of-{FILES}"


def make_template() -> None:
    """The log of a table of so many partitions of one file each. The files themselves are not there: nobody reads them."""
    import polars as pl
    from deltalake import DeltaTable, Schema
    from deltalake.transaction import AddAction, create_table_with_add_actions

    if TEMPLATE.exists():
        return
    folder = TEMPLATE.with_suffix(".tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stats = '{"numRecords":10,"minValues":{"n":0},"maxValues":{"n":9},"nullCount":{"n":0}}'
    adds = []
    for number in range(FILES):
        values = {"k": f"{number:06}"}
        adds.append(AddAction(f"k={number:06}/part.parquet", 500, values, 0, data_change=True, stats=stats))
    arrow = pl.DataFrame(schema={"k": pl.String, "n": pl.Int64}).to_arrow()
    create_table_with_add_actions(str(folder), Schema.from_arrow(arrow.schema), adds, partition_by=["k"])
    DeltaTable(folder).create_checkpoint()
    folder.rename(TEMPLATE)


def copy_of_it(root: Path) -> Path:
    place = root / "public" / "table"
    shutil.copytree(TEMPLATE, place)
    return place


def ours(root: Path) -> Numbers:
    """What the IO manager takes for a partition, beside what it takes for a table of one file."""
    import dagster as dg
    import polars as pl

    from pipeline_assets import DeltaCheckpointIOManager
    from pipeline_assets.io_manager import CheckpointIOManager

    taken: list[float] = []
    plain = CheckpointIOManager.handle_output

    def timed(self: Any, context: Any, obj: Any) -> None:
        began = time.perf_counter()
        plain(self, context, obj)
        taken.append(time.perf_counter() - began)

    CheckpointIOManager.handle_output = timed  # type: ignore[method-assign]
    copy_of_it(root)
    keys = dg.StaticPartitionsDefinition([f"{number:06}" for number in range(ROUNDS + 1)])

    def runs(name: str) -> float:
        @dg.asset(name=name, partitions_def=keys, metadata={"partition_expr": "k"})
        def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
            return pl.DataFrame({"k": context.partition_key, "n": range(10)})

        taken.clear()
        with dg.DagsterInstance.get() as instance:
            for key in keys.get_partition_keys():
                io = {"io_manager": DeltaCheckpointIOManager(root_uri=str(root))}
                assert dg.materialize([table], instance=instance, resources=io, partition_key=key).success
        return 1000 * sorted(taken[1:])[ROUNDS // 2]

    small, large = runs("small"), runs("table")
    return {"one file (ms)": small, "100,000 files (ms)": large, "open and commit (ms)": large - small}


def delta_rs(root: Path) -> Numbers:
    """Opening the table, and committing the same add and remove, as delta-rs does it by itself."""
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction

    place = copy_of_it(root)
    taken = []
    for number in range(ROUNDS + 1):
        add = AddAction(f"k={number:06}/new.parquet", 500, {"k": f"{number:06}"}, 0, data_change=True, stats="{}")
        remove = RemoveAction(f"k={number:06}/part.parquet", True, 0)
        began = time.perf_counter()
        table = DeltaTable(place)
        table.create_write_transaction([add, remove], "append", table.schema(), ["k"])
        taken.append(time.perf_counter() - began)
    middle = 1000 * sorted(taken[1:])[ROUNDS // 2]
    return {"one file (ms)": 0.0, "100,000 files (ms)": middle, "open and commit (ms)": middle}


def verdict(found: dict[str, Numbers]) -> str:
    ratio = found["ours"]["open and commit (ms)"] / found["delta_rs"]["open and commit (ms)"]
    return f"{ratio:.2f} × delta-rs's own open and commit (target 1.3)"


if __name__ == "__main__":
    make_template()
    main(__file__, {"ours": ours, "delta_rs": delta_rs}, verdict, times=3)
