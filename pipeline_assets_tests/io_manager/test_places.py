"""Which table and partition a write means: one that is not clear is refused, and nobody else's data is replaced."""

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.recovery.adopt import adopt
from pipeline_assets_tests.io_manager.running import failure, parquet, rows, run, told, version

COLORS = dg.StaticPartitionsDefinition(["red", "blue"])


def colored(**more: Any) -> dg.AssetsDefinition:
    """Its function does not look at the partition key."""

    @dg.asset(partitions_def=COLORS, metadata={"partition_expr": "color"}, **more)
    def table() -> pl.DataFrame:
        return pl.DataFrame({"color": ["red"], "n": [1]})

    return table


def test_a_run_without_a_partition_key_replaces_nothing(instance: dg.DagsterInstance, root: Path) -> None:
    said = failure(run(instance, root, [colored()], ok=False))
    assert "materialize a partition" in said
    assert not (root / "public").exists()
    run(instance, root, [colored()], "red")
    assert "materialize a partition" in failure(run(instance, root, [colored()], ok=False))
    assert rows(root, "table") == [("red", 1)]


def test_partitions_without_a_column_are_refused_by_the_setting(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset(partitions_def=COLORS)
    def table() -> pl.DataFrame:
        return pl.DataFrame({"color": ["red"]})

    assert "Set it: @asset(metadata={'partition_expr'" in failure(run(instance, root, [table], "red", ok=False))


def test_a_value_that_is_loaded_by_hand_without_a_key_is_the_whole_table(
    instance: dg.DagsterInstance, root: Path
) -> None:
    run(instance, root, [colored()], "red")
    defs = dg.Definitions([colored()], resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(root))})
    assert defs.load_asset_value("table", python_type=pl.DataFrame, instance=instance).rows() == [("red", 1)]


def of_key(*path: str, n: int = 0, **more: Any) -> dg.AssetsDefinition:
    @dg.asset(key=list(path), **more)
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [n]})

    return made


def test_two_assets_of_one_table_do_not_replace_each_other(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [of_key("x", "shop", "orders", n=1)])
    said = failure(run(instance, root, [of_key("y", "shop", "orders", n=2)], ok=False))
    assert "holds the data of x/shop/orders" in said
    assert rows(root, "orders", "shop") == [(1,)]


def test_an_asset_does_not_replace_what_another_has_appended_and_none_appends_to_what_another_replaces(
    instance: dg.DagsterInstance, root: Path
) -> None:
    appending = [
        of_key(prefix, "shop", "orders", n=n, metadata={"mode": "append"}) for n, prefix in ((1, "x"), (2, "y"))
    ]
    for _ in range(2):
        run(instance, root, appending)
    there = [(1,), (1,), (2,), (2,)]
    assert rows(root, "orders", "shop") == there
    said = failure(run(instance, root, [of_key("x", "shop", "orders", n=3)], ok=False))
    assert "holds the data of y/shop/orders" in said
    assert rows(root, "orders", "shop") == there

    run(instance, root, [of_key("x", "shop", "items", n=1)])
    said = failure(run(instance, root, [of_key("y", "shop", "items", n=2, metadata={"mode": "append"})], ok=False))
    assert "holds the data of x/shop/items" in said
    assert rows(root, "items", "shop") == [(1,)]


def test_nor_does_one_append_to_what_another_merges_which_would_be_refused_then(
    instance: dg.DagsterInstance, root: Path
) -> None:
    by_n = {"merge_type": "upsert", "predicate": "s.n = t.n", "source_alias": "s", "target_alias": "t"}
    merging = of_key("x", "shop", "orders", n=1, metadata={"mode": "merge", "merge_config": by_n})
    for _ in range(2):
        run(instance, root, [merging])
    said = failure(run(instance, root, [of_key("y", "shop", "orders", n=2, metadata={"mode": "append"})], ok=False))
    assert "holds the data of x/shop/orders" in said
    run(instance, root, [merging])
    assert rows(root, "orders", "shop") == [(1,)]


def test_one_of_other_partitions_does_not_either(instance: dg.DagsterInstance, root: Path) -> None:
    """The whole table, or a month of somebody else's days."""
    days = dg.DailyPartitionsDefinition("2013-01-01")
    run(instance, root, [dated("x", days, "2013-01-02")], "2013-01-02")
    months = dated("y", dg.MonthlyPartitionsDefinition("2013-01-01"), "2013-01-01")
    for other, key in ((of_key("y", "shop", "orders"), None), (months, "2013-01-01")):
        assert "holds the data of x/shop/orders" in failure(run(instance, root, [other], key, ok=False))
    assert rows(root, "orders", "shop") == [(dt.date(2013, 1, 2), 1)]
    february = dated("y", dg.MonthlyPartitionsDefinition("2013-01-01"), "2013-02-01")
    run(instance, root, [february], "2013-02-01")
    assert len(rows(root, "orders", "shop")) == 2


def dated(prefix: str, partitions: Any, day: str) -> dg.AssetsDefinition:
    @dg.asset(key=[prefix, "shop", "orders"], partitions_def=partitions, metadata={"partition_expr": "day"})
    def made() -> pl.DataFrame:
        return pl.DataFrame({"day": [dt.date.fromisoformat(day)], "n": [1]})

    return made


def test_a_value_that_is_written_by_hand_is_written(instance: dg.DagsterInstance, root: Path) -> None:
    manager = DeltaCheckpointIOManager(root_uri=str(root)).create_io_manager(None)
    context = dg.build_output_context(asset_key=dg.AssetKey("table"))
    manager.handle_output(context, pl.DataFrame({"n": [1]}))
    assert rows(root, "table") == [(1,)]
    assert context.get_logged_metadata()["delta/version"].value == 0


def test_an_asset_that_takes_the_place_of_another_adopts_its_table(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [of_key("x", "shop", "orders", n=1)])
    renamed = of_key("y", "shop", "orders", n=2)
    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(root))}
    adopt(instance, dg.Definitions([renamed], resources=resources).get_repository_def(), "y/shop/orders")
    run(instance, root, [renamed])
    assert rows(root, "orders", "shop") == [(2,)]


def test_an_op_does_not_replace_an_asset_s_data(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [of_key("result", n=1)])

    @dg.op
    def source() -> pl.DataFrame:
        return pl.DataFrame({"n": [2]})

    @dg.job(resource_defs={"io_manager": DeltaCheckpointIOManager(root_uri=str(root))})
    def other() -> None:
        source()

    assert "holds the data of result" in failure(other.execute_in_process(instance=instance, raise_on_error=False))
    assert rows(root, "result") == [(1,)]


def test_a_schema_may_be_a_path(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [of_key("orders", metadata={"schema": "bronze/raw"})])
    assert DeltaTable(root / "bronze" / "raw" / "orders").version() == 0


@pytest.mark.parametrize(
    ("manager", "said"),
    [
        ({"table_config": {"delta.enableChangeDataFeed": "true"}}, "change data feed"),
        ({"table_config": {"delta.appendOnly": "true"}}, "appendOnly"),
        ({"table_config": {"mine": "true"}}, "begin with 'delta.'"),
    ],
)
def test_a_table_that_could_not_be_written_a_second_time_is_not_created(
    instance: dg.DagsterInstance, root: Path, manager: dict[str, Any], said: str
) -> None:
    assert said in failure(run(instance, root, [of_key("table")], ok=False, **manager))
    assert not (root / "public" / "table").exists()


@pytest.mark.parametrize(
    ("properties", "said"),
    [({"nope": "1"}, "it may have compression"), ({"compression": "best"}, "it may be zstd")],
)
def test_a_property_of_the_writer_that_there_is_not_is_refused(
    instance: dg.DagsterInstance, root: Path, properties: dict[str, str], said: str
) -> None:
    with pytest.raises(dg.DagsterResourceFunctionError) as caught:
        dg.materialize(
            [of_key("table")],
            instance=instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(root), writer_properties=properties)},
        )
    assert said in str(caught.value.__cause__)


def test_the_outputs_that_another_manager_of_the_step_writes_are_begun_as_well(
    instance: dg.DagsterInstance, root: Path
) -> None:
    """The input comes through one manager, the outputs go through another: what is committed says what is read."""
    tries = []

    @dg.asset
    def up() -> pl.DataFrame:
        return pl.DataFrame({"n": [len(tries)]})

    @dg.multi_asset(
        outs={"left": dg.AssetOut(io_manager_key="second"), "right": dg.AssetOut(io_manager_key="second")},
        retry_policy=dg.RetryPolicy(max_retries=1),
    )
    def both(up: pl.DataFrame) -> Any:
        tries.append(up["n"].to_list())
        yield dg.Output(up, "left")
        if len(tries) == 1:
            assert dg.materialize([up_], instance=instance, resources=resources).success
            raise ValueError
        yield dg.Output(up, "right")

    up_ = up
    first = DeltaCheckpointIOManager(root_uri=str(root))
    resources = {"io_manager": first, "second": DeltaCheckpointIOManager(root_uri=str(root / "second"))}
    assert dg.materialize([up], instance=instance, resources=resources).success
    result = dg.materialize([up, both], selection=["left", "right"], instance=instance, resources=resources)
    assert tries == [[0], [0]]
    assert told(result, "right")[None]["checkpoint/inputs"] == {"up": 0}
    assert version(root / "second", "left") == 0
    assert len(parquet(root / "second", "left")) == 1


def test_a_range_that_reads_its_own_beginning_begins_with_nothing(instance: dg.DagsterInstance, root: Path) -> None:
    columns = dg.TableSchema([dg.TableColumn("day", "string"), dg.TableColumn("total", "long")])
    days = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")

    @dg.asset(
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        ins={"total": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1))},
        metadata={"partition_expr": "day", "dagster/column_schema": columns},
    )
    def total(context: dg.AssetExecutionContext, total: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame({"day": context.partition_keys, "total": total.height})

    run(instance, root, [total], window=("2013-01-01", "2013-01-03"))
    assert [total for _, total in rows(root, "total")] == [0, 0, 0]


def test_the_checkpoint_says_which_partitions_were_read_without_what_somebody_put_there(
    instance: dg.DagsterInstance, root: Path
) -> None:
    @dg.asset
    def copy(table: pl.DataFrame) -> pl.DataFrame:
        return table

    run(instance, root, [colored()], "red")
    pl.DataFrame({"color": ["red"], "n": [7]}).write_delta(str(root / "public" / "table"), mode="append")
    result = run(instance, root, [colored(), copy], selection="copy")
    assert rows(root, "copy") == [("red", 1)]
    assert told(result, "copy")[None]["checkpoint/notes"] == {"ignored_foreign_changes": {"table": {"red": 0}}}
