"""Where nothing has changed nothing is computed; and whatever could have changed the result is a change."""

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from deltalake import DeltaTable, write_deltalake

from pipeline_assets import DeltaCheckpointIOManager, files_fingerprint, stage
from pipeline_assets.delta import restore as rollbacks
from pipeline_assets.delta.commit import Deadline
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.table import open_table
from pipeline_assets.io.unchanged import FORCE_TAG
from pipeline_assets_tests.io_manager.running import rows, told, version

DAYS = dg.StaticPartitionsDefinition(["a", "b"])


class Pipeline:
    """A source file, a stage that reads it, one that reads that stage; and how often each was computed."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.file = folder / "numbers.txt"
        self.file.write_text("1")
        self.computed: list[str] = []
        self.code = "1"
        self.definitions: list[dg.AssetsDefinition] = []

    def define(self, **of_second: Any) -> "Pipeline":
        @stage(skip_if_unchanged=True, fingerprint=lambda: files_fingerprint(self.file), code_version="1")
        def first() -> pl.DataFrame:
            self.computed.append("first")
            return pl.DataFrame({"n": [int(self.file.read_text())]})

        @stage(**{"skip_if_unchanged": True, "code_version": self.code, **of_second})
        def second(context: dg.AssetExecutionContext, first: pl.LazyFrame) -> pl.LazyFrame:
            self.computed.append("second")
            return first.select(pl.col("n") * 10)

        self.definitions = [first, second]
        return self

    def run(self, *, ok: bool = True, **how: Any) -> dg.ExecuteInProcessResult:
        self.computed.clear()
        result = dg.materialize(
            self.definitions,
            instance=self.instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(self.folder / "tables"))},
            raise_on_error=False,
            **how,
        )
        assert result.success == ok
        return result


@pytest.fixture
def pipeline(tmp_path: Path, instance: dg.DagsterInstance) -> Pipeline:
    """Two stages, run once."""
    made = Pipeline(tmp_path, instance).define()
    made.run()
    assert made.computed == ["first", "second"]
    return made


def test_an_unchanged_pipeline_computes_nothing_and_says_so(pipeline: Pipeline) -> None:
    before = told(pipeline.run(), "second")
    assert pipeline.computed == []
    said = before[None]
    assert said["checkpoint/skipped"] is True
    assert (said["delta/version"], said["dagster/row_count"]) == (0, 1)
    assert version(pipeline.folder / "tables", "second") == 0


def test_a_run_that_is_not_to_be_forced_skips(pipeline: Pipeline) -> None:
    pipeline.run(tags={FORCE_TAG: "false"})
    assert pipeline.computed == []


def test_the_event_of_a_skipped_stage_describes_the_commit_that_made_its_data(pipeline: Pipeline) -> None:
    made = told(pipeline.run(tags={FORCE_TAG: "true"}), "second")[None]
    skipped = told(pipeline.run(), "second")[None]
    assert {**skipped} == {**made, "checkpoint/skipped": True}


def test_a_skipped_stage_keeps_its_data_version(pipeline: Pipeline) -> None:
    def of_second() -> str:
        event = pipeline.instance.get_latest_materialization_event(dg.AssetKey("second"))
        assert event is not None
        assert event.asset_materialization is not None
        return (event.asset_materialization.tags or {})["dagster/data_version"]

    before = of_second()
    pipeline.run()
    assert of_second() == before
    pipeline.file.write_text("22")
    pipeline.run()
    assert of_second() != before


def test_what_follows_from_a_file_that_changed_is_computed(pipeline: Pipeline) -> None:
    pipeline.file.write_text("22")
    pipeline.run()
    assert pipeline.computed == ["first", "second"]
    assert rows(pipeline.folder / "tables", "second") == [(220,)]


def test_only_the_stage_whose_code_changed_is_computed(pipeline: Pipeline) -> None:
    pipeline.code = "2"
    pipeline.define().run()
    assert pipeline.computed == ["second"]


def test_another_configuration_is_a_change_and_the_old_one_again_is_another(pipeline: Pipeline) -> None:
    pipeline.define(config_schema={"factor": dg.Field(int, default_value=1)})
    pipeline.run()
    assert pipeline.computed == ["second"]
    config = {"ops": {"second": {"config": {"factor": 2}}}}
    pipeline.run(run_config=config)
    assert pipeline.computed == ["second"]
    pipeline.run(run_config=config)
    assert pipeline.computed == []
    pipeline.run()
    assert pipeline.computed == ["second"]


def test_a_run_that_is_forced_computes_everything(pipeline: Pipeline) -> None:
    pipeline.run(tags={FORCE_TAG: "true"})
    assert pipeline.computed == ["first", "second"]


def test_a_foreign_commit_is_computed_over(pipeline: Pipeline) -> None:
    write_deltalake(pipeline.folder / "tables" / "public" / "second", pl.DataFrame({"n": [99]}), mode="append")
    pipeline.run()
    assert pipeline.computed == ["second"]
    assert rows(pipeline.folder / "tables", "second") == [(10,)]


@pytest.mark.parametrize(("table", "computed"), [("first", ["first", "second"]), ("second", ["second"])])
def test_what_was_rolled_back_is_made_again(pipeline: Pipeline, table: str, computed: list[str]) -> None:
    pipeline.run(tags={FORCE_TAG: "true"})
    opened = open_table(Location.of(str(pipeline.folder / "tables" / "public" / table)))
    assert opened is not None
    live = opened.live(table, WHOLE)
    before = opened.record_at(0)
    assert live is not None
    assert live.part is not None
    assert before is not None
    name = live.part.name(table, WHOLE)
    target = rollbacks.Target(Partition(WHOLE, {}), name, (name,), 0, before.parts[WHOLE])
    rollback = rollbacks.Rollback(7, table, [target], {name.chain: name.attempt + 1})
    rollbacks.hold(opened, rollback, Deadline(20))
    rollbacks.restore(opened, rollback, Deadline(20))
    pipeline.run()
    assert pipeline.computed == computed


def test_maintenance_of_tables_is_no_change(pipeline: Pipeline) -> None:
    for table in ("first", "second"):
        delta = DeltaTable(pipeline.folder / "tables" / "public" / table)
        delta.optimize.compact()
        delta.create_checkpoint()
        delta.vacuum(0, enforce_retention_duration=False, dry_run=False)
    pipeline.run()
    assert pipeline.computed == []


def test_a_table_that_is_gone_is_made_again(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.folder / "tables" / "public" / "second")
    pipeline.run()
    assert pipeline.computed == ["second"]


def test_a_stage_whose_data_file_is_gone_is_computed_again_and_so_is_what_reads_it(pipeline: Pipeline) -> None:
    for file in (pipeline.folder / "tables" / "public" / "first").glob("*.parquet"):
        file.unlink()
    pipeline.run()
    assert pipeline.computed == ["first", "second"]
    assert rows(pipeline.folder / "tables", "first") == [(1,)]
    pipeline.run()
    assert pipeline.computed == []


def test_only_the_partition_whose_data_file_is_gone_is_computed_again(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    computed = []

    @stage(
        skip_if_unchanged=True,
        fingerprint=lambda: 1,
        code_version="1",
        partitions_def=DAYS,
        metadata={"partition_expr": "day"},
    )
    def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
        computed.append(context.partition_key)
        return pl.DataFrame({"n": [1], "day": [context.partition_key]})

    io_manager = DeltaCheckpointIOManager(root_uri=str(tmp_path))

    def materialize() -> list[str]:
        computed.clear()
        for day in ("a", "b"):
            dg.materialize([daily], partition_key=day, instance=instance, resources={"io_manager": io_manager})
        return list(computed)

    assert (materialize(), materialize()) == (["a", "b"], [])
    (file,) = (tmp_path / "public" / "daily").glob("*=a/*.parquet")
    file.unlink()
    assert (materialize(), materialize()) == (["a"], [])


def test_an_upstream_table_that_was_made_anew_is_a_change(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.folder / "tables" / "public" / "first")
    pipeline.run()
    assert pipeline.computed == ["first", "second"]


def test_a_stage_whose_input_nobody_pins_is_computed_unless_it_declares_a_fingerprint(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    computed: list[str] = []

    @dg.asset(io_manager_key="files")
    def number() -> int:
        return 1

    def define(**more: Any) -> dg.AssetsDefinition:
        @stage(skip_if_unchanged=True, code_version="1", **more)
        def table(number: int) -> pl.DataFrame:
            computed.append("table")
            return pl.DataFrame({"n": [number]})

        return table

    resources = {
        "io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables")),
        "files": dg.FilesystemIOManager(base_dir=str(tmp_path)),
    }
    for definition in (define(), define(fingerprint=lambda: "1")):
        for _ in range(2):
            dg.materialize([number, definition], instance=instance, resources=resources)
    assert computed == ["table"] * 3


def test_a_blocking_check_that_failed_makes_a_checkpoint_no_good(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    made = Pipeline(tmp_path, instance).define()
    good: list[bool] = [False]

    @dg.asset_check(asset="second", blocking=True)
    def looks_well() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=good[0])

    made.definitions.append(looks_well)  # type: ignore[arg-type]
    made.run(ok=False)
    good[0] = True
    made.run()
    assert made.computed == ["second"]
    made.run()
    assert made.computed == []


class Daily:
    """A partitioned stage and one that reads the same partition of it."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.computed: list[str] = []
        partitioned: Any = {"partitions_def": DAYS, "metadata": {"partition_expr": "day"}}

        @stage(
            skip_if_unchanged=True, fingerprint=lambda: 1, backfill_policy=dg.BackfillPolicy.single_run(), **partitioned
        )
        def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
            self.computed.append("daily")
            return pl.DataFrame({"day": context.partition_keys, "n": [1] * len(context.partition_keys)})

        @stage(skip_if_unchanged=True, backfill_policy=dg.BackfillPolicy.single_run(), **partitioned)
        def after(daily: pl.LazyFrame) -> pl.LazyFrame:
            self.computed.append("after")
            return daily

        self.daily, self.after = daily, after

    def run(self, assets: Sequence[dg.AssetsDefinition], **how: Any) -> dg.ExecuteInProcessResult:
        self.computed.clear()
        return dg.materialize(
            [self.daily, self.after],
            selection=[asset.key for asset in assets],
            instance=self.instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(self.folder / "tables"))},
            **how,
        )


def test_other_partitions_of_an_input_are_no_change(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    made = Daily(tmp_path, instance)
    both = [made.daily, made.after]
    made.run(both, partition_key="a")
    made.run(both, partition_key="b")
    made.run(both, partition_key="a")
    assert made.computed == []
    made.run([made.daily], partition_key="a", tags={FORCE_TAG: "true"})
    made.run([made.after], partition_key="b")
    assert made.computed == []
    made.run([made.after], partition_key="a")
    assert made.computed == ["after"]


def test_a_fingerprint_may_be_that_of_a_partition(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    computed: list[str] = []
    of_day = {"a": 1, "b": 1}

    @stage(
        partitions_def=DAYS,
        metadata={"partition_expr": "day"},
        backfill_policy=dg.BackfillPolicy.single_run(),
        skip_if_unchanged=True,
        fingerprint=lambda day: of_day[day],
    )
    def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
        computed.extend(context.partition_keys)
        return pl.DataFrame({"day": context.partition_keys, "n": 1})

    window = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))}
    dg.materialize([daily], instance=instance, resources=resources, tags=window)
    of_day["b"] = 2
    for key in ("a", "b"):
        dg.materialize([daily], instance=instance, resources=resources, partition_key=key)
    assert computed == ["a", "b", "b"]


def test_each_partition_of_a_range_that_is_skipped_has_its_own_event(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    made = Daily(tmp_path, instance)
    window = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    made.run([made.daily], partition_key="b")
    made.run([made.daily], partition_key="a")
    said = told(made.run([made.daily], tags=window), "daily")
    assert made.computed == []
    assert {key: (one["delta/version"], one["checkpoint/skipped"]) for key, one in said.items()} == {
        "a": (1, True),
        "b": (0, True),
    }


def test_dagsters_own_staleness_view_agrees(pipeline: Pipeline) -> None:
    def stale() -> dict[str, StaleStatus]:
        graph = dg.Definitions(pipeline.definitions).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(pipeline.instance, graph, LoadingContextForTest(pipeline.instance))
        return {key: resolver.get_status(dg.AssetKey(key)) for key in ("first", "second")}

    fresh = {"first": StaleStatus.FRESH, "second": StaleStatus.FRESH}
    assert stale() == fresh
    pipeline.run()
    assert (pipeline.computed, stale()) == ([], fresh)
    pipeline.run(selection=["first"], tags={FORCE_TAG: "true"})
    assert stale() == {**fresh, "second": StaleStatus.STALE}
    pipeline.run()
    assert (pipeline.computed, stale()) == (["second"], fresh)
    pipeline.code = "2"
    pipeline.define()
    assert stale() == {**fresh, "second": StaleStatus.STALE}


def test_a_source_table_that_changed_is_a_change_and_one_that_was_compacted_is_none(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    table = tmp_path / "tables" / "public" / "source"
    write_deltalake(table, pl.DataFrame({"n": [1]}))
    write_deltalake(table, pl.DataFrame({"n": [2]}), mode="append")
    computed: list[str] = []
    source = dg.AssetSpec("source")

    @stage(skip_if_unchanged=True)
    def copied(source: pl.LazyFrame) -> pl.LazyFrame:
        computed.append("copied")
        return source

    def run() -> None:
        dg.materialize(
            [source, copied],
            instance=instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))},
        )

    change: Callable[[], object]
    for change, times in (
        (lambda: None, 1),
        (DeltaTable(table).optimize.compact, 1),
        (lambda: write_deltalake(table, pl.DataFrame({"n": [3]}), mode="append"), 2),
        (lambda: None, 2),
    ):
        change()
        run()
        assert len(computed) == times


def test_a_file_that_changes_while_it_is_read_is_a_change(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    file = tmp_path / "numbers.txt"
    file.write_text("1")
    read: list[str] = []

    @stage(skip_if_unchanged=True, fingerprint=lambda: files_fingerprint(file))
    def late() -> pl.DataFrame:
        read.append(file.read_text())
        file.write_text("22")
        return pl.DataFrame({"n": [read[-1]]})

    for _ in range(2):
        dg.materialize(
            [late],
            instance=instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))},
        )
    assert read == ["1", "22"]


class Fingerprinted:
    """A stage whose fingerprint is set from outside; and how often it was computed."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.computed = 0

    def run(self, fingerprint: Any) -> dg.ExecuteInProcessResult:
        @stage(skip_if_unchanged=True, fingerprint=lambda: fingerprint, code_version="1", max_retries=2)
        def table() -> pl.DataFrame:
            self.computed += 1
            return pl.DataFrame({"n": [1]})

        io = DeltaCheckpointIOManager(root_uri=str(self.folder / "tables"))
        return dg.materialize([table], instance=self.instance, resources={"io_manager": io}, raise_on_error=False)


@pytest.mark.parametrize("kind", ["a frame", "an array"])
def test_a_change_in_the_middle_of_a_fingerprint_is_a_change(
    kind: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    made = Fingerprinted(tmp_path, instance)
    for middle, times in ((1, 1), (1, 1), (2, 2)):
        numbers = [0] * 2500 + [middle] + [0] * 2500
        assert made.run(pl.DataFrame({"n": numbers}) if kind == "a frame" else np.array(numbers)).success
        assert made.computed == times


def test_a_fingerprint_that_cannot_be_told_exactly_ends_the_stage_by_name(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    made = Fingerprinted(tmp_path, instance)
    result = made.run([threading.Lock()])
    assert not result.success
    assert made.computed == 0
    assert not (tmp_path / "tables" / "table").exists()
    failure = result.get_step_failure_events()[0].event_specific_data
    said = str(failure.error_display_string)  # type: ignore[union-attr]
    for word in ("ConfigurationError", "fingerprint of stage table", "_thread.lock", "Nothing was computed or written"):
        assert word in said
    assert "files_fingerprint" in said
    assert not [one for one in result.all_events if one.is_step_up_for_retry]


class Inner(dg.ConfigurableResource[Any]):
    number: int


class Outer(dg.ConfigurableResource[Any]):
    inner: Inner


@pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run:DeprecationWarning")  # of Dagster, by itself
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_configuration_of_a_resource_in_a_resource_and_a_plain_value_count(
    wrapped: bool, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    computed: list[int] = []

    def run(number: int) -> None:
        @stage(skip_if_unchanged=True, fingerprint=lambda: 1, code_version="1", required_resource_keys={"given"})
        def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
            given = context.resources.given
            computed.append(given.inner.number if wrapped else given)
            return pl.DataFrame({"n": [1]})

        given: Any = Outer(inner=Inner(number=number)) if wrapped else number
        io = DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))
        dg.materialize([table], instance=instance, resources={"io_manager": io, "given": given})

    for number in (1, 1, 2):
        run(number)
    assert computed == [1, 2]


class Client:
    def __init__(self, threshold: int) -> None:
        self._settings = {"deep": [{"in": [{"it": [threshold]}]}], "where": Path("a"), "lock": threading.Lock()}


def test_what_a_resource_keeps_deep_and_in_private_counts(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    computed: list[str] = []

    @stage(skip_if_unchanged=True, fingerprint=lambda: 1, code_version="1", required_resource_keys={"client"})
    def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
        computed.append("table")
        return pl.DataFrame({"n": [1]})

    io = DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))
    for threshold, times in ((1, 1), (1, 1), (2, 2)):
        dg.materialize([table], instance=instance, resources={"io_manager": io, "client": Client(threshold)})
        assert len(computed) == times


def test_a_dependency_that_is_not_read_as_an_input_makes_a_stage_run_unless_it_declares_a_fingerprint(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    computed: list[str] = []

    @stage
    def first() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @stage
    def other() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @stage(skip_if_unchanged=True, deps=[other])
    def both(first: pl.LazyFrame) -> pl.LazyFrame:
        computed.append("both")
        return first

    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))}
    dg.materialize([first, other, both], instance=instance, resources=resources)
    dg.materialize([first, other, both], instance=instance, resources=resources, selection=["both"])
    assert computed == ["both", "both"]


def test_a_partition_that_is_there_no_more_is_a_change_of_what_gathers(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    shops = dg.DynamicPartitionsDefinition(name="shops")
    instance.add_dynamic_partitions("shops", ["a", "b"])

    @stage(partitions_def=shops, metadata={"partition_expr": "shop"})
    def sold(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"shop": [context.partition_key], "n": [1]})

    @stage(skip_if_unchanged=True)
    def total(sold: pl.LazyFrame) -> pl.LazyFrame:
        return sold.select(pl.col("n").sum())

    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))}
    for key in ("a", "b"):
        dg.materialize([sold], instance=instance, resources=resources, partition_key=key)

    def totals() -> list[Any]:
        dg.materialize([sold, total], instance=instance, resources=resources, selection=["total"])
        return rows(tmp_path / "tables", "total")

    assert totals() == [(2,)]
    instance.delete_dynamic_partition("shops", "b")
    assert totals() == [(1,)]


@pytest.mark.parametrize(("mapping", "before"), [(dg.AllPartitionMapping(), 2), (dg.LastPartitionMapping(), 1)])
def test_nor_is_a_partition_skipped_that_reads_others_than_before(
    tmp_path: Path, instance: dg.DagsterInstance, mapping: dg.PartitionMapping, before: int
) -> None:
    shops, sizes = dg.DynamicPartitionsDefinition(name="shops"), dg.StaticPartitionsDefinition(["s", "m"])
    instance.add_dynamic_partitions("shops", ["a", "b"])

    @stage(partitions_def=shops, metadata={"partition_expr": "shop"})
    def sold(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"shop": [context.partition_key], "n": [1]})

    computed: list[list[str]] = []

    @stage(
        skip_if_unchanged=True,
        partitions_def=sizes,
        metadata={"partition_expr": "size"},
        ins={"sold": dg.AssetIn(partition_mapping=mapping)},
    )
    def total(context: dg.AssetExecutionContext, sold: pl.LazyFrame) -> pl.LazyFrame:
        computed.append(sold.collect()["shop"].sort().to_list())
        return sold.select(pl.col("n").sum(), size=pl.lit(context.partition_key))

    resources = {"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))}
    for key in ("a", "b"):
        dg.materialize([sold], instance=instance, resources=resources, partition_key=key)

    def gather() -> None:
        dg.materialize([sold, total], instance=instance, resources=resources, selection=["total"], partition_key="s")

    gather()
    gather()
    assert computed == [["a", "b"][-before:]]
    instance.delete_dynamic_partition("shops", "b")
    gather()
    assert computed[1:] == [["a"]]


def test_a_type_check_of_the_users_own_is_never_given_a_placeholder(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    checked = dg.DagsterType(lambda _, value: value.height > 0, "NonEmpty", typing_type=pl.DataFrame)

    @stage(skip_if_unchanged=True, fingerprint=lambda: 1, dagster_type=checked)
    def table():  # type: ignore[no-untyped-def]  # noqa: ANN202  the type is given
        return pl.DataFrame({"n": [1]})

    for _ in range(2):
        dg.materialize(
            [table],
            instance=instance,
            resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(tmp_path / "tables"))},
        )


def test_a_check_that_fails_later_makes_a_stage_run_again(pipeline: Pipeline) -> None:
    good = [True]

    @dg.asset_check(asset="second", blocking=True)
    def looks_well() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=good[0])

    pipeline.definitions.append(looks_well)  # type: ignore[arg-type]
    pipeline.run()
    assert pipeline.computed == []
    good[0] = False
    pipeline.run(ok=False)
    assert pipeline.computed == []
    good[0] = True
    pipeline.run()
    assert pipeline.computed == ["second"]
