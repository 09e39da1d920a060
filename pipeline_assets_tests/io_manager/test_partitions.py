"""Partitions of every kind: exactly their rows are written, and read."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipeline_assets_tests.io_manager.running import failure, parquet, rows, run, told, version

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
ODD = ["a b", "a/b", "x' OR 'a'='a", "é", "100%", "a#b?c", 'say "x"', "=", "..", "~"]


def one_row(column: str, value: Any, definition: dg.PartitionsDefinition[Any], number: int = 1) -> dg.AssetsDefinition:
    @dg.asset(name="table", partitions_def=definition, metadata={"partition_expr": column})
    def table() -> pl.DataFrame:
        return pl.DataFrame({column: value if isinstance(value, pl.Series) else [value], "n": [number]})

    return table


def reader(definition: dg.PartitionsDefinition[Any], column: str) -> dg.AssetsDefinition:
    @dg.asset(name="copy", partitions_def=definition, metadata={"partition_expr": column})
    def copy(table: pl.LazyFrame) -> pl.LazyFrame:
        return table

    return copy


UTC = dt.timezone.utc
CASES: list[tuple[Any, str, list[tuple[str, Any]]]] = [
    (DAYS, "date", [("2013-03-30", dt.date(2013, 3, 30)), ("2013-03-31", dt.date(2013, 3, 31))]),
    (
        dg.HourlyPartitionsDefinition("2013-01-01-00:00"),
        "naive",
        [("2013-01-01-05:00", dt.datetime(2013, 1, 1, 5, 30)), ("2013-01-01-06:00", dt.datetime(2013, 1, 1, 6))],
    ),
    (
        dg.HourlyPartitionsDefinition("2013-01-01-00:00", timezone="America/New_York"),
        "instant",
        [
            ("2013-01-01-05:00", dt.datetime(2013, 1, 1, 10, 30, tzinfo=UTC)),
            ("2013-01-01-06:00", dt.datetime(2013, 1, 1, 11, tzinfo=UTC)),
        ],
    ),
    (
        dg.MonthlyPartitionsDefinition("2013-01-01"),
        "date",
        [("2013-01-01", dt.date(2013, 1, 31)), ("2013-02-01", dt.date(2013, 2, 1))],
    ),
    (
        dg.WeeklyPartitionsDefinition("2013-01-06"),
        "date",
        [("2013-01-06", dt.date(2013, 1, 12)), ("2013-01-13", dt.date(2013, 1, 13))],
    ),
    (DAYS, "text", [("2013-01-01", "2013-01-01"), ("2013-01-02", "2013-01-02")]),
    (dg.StaticPartitionsDefinition(["1", "2"]), "number", [("1", 1), ("2", 2)]),
    (dg.StaticPartitionsDefinition(["1.10", "2.00"]), "money", [("1.10", Decimal("1.10")), ("2.00", Decimal("2.00"))]),
    (
        dg.StaticPartitionsDefinition(["0990-01-02", "1990-01-02"]),
        "naive",
        [("0990-01-02", dt.datetime(990, 1, 2)), ("1990-01-02", dt.datetime(1990, 1, 2))],
    ),
    (dg.StaticPartitionsDefinition(["true", "false"]), "truth", [("true", True), ("false", False)]),
    (dg.StaticPartitionsDefinition(ODD), "odd", [(key, key) for key in ODD]),
]


@pytest.mark.parametrize(
    ("definition", "column", "pairs"), CASES, ids=[f"{c[0].__class__.__name__}-{c[1]}" for c in CASES]
)
def test_each_partition_is_written_and_read_alone(
    instance: dg.DagsterInstance, root: Path, definition: Any, column: str, pairs: list[tuple[str, Any]]
) -> None:
    for number, (key, value) in enumerate(pairs):
        run(instance, root, [one_row(column, value, definition, number), reader(definition, column)], key)
    for number, (key, value) in enumerate(pairs):
        result = run(
            instance, root, [one_row(column, value, definition, 100 + number), reader(definition, column)], key
        )
        (metadata,) = told(result, "copy").values()
        assert metadata["dagster/partition_row_count"] == 1
    expected = sorted(
        (100 + number, value) if column > "n" else (value, 100 + number) for number, (_, value) in enumerate(pairs)
    )
    assert rows(root, "copy") == expected
    assert rows(root, "table") == expected


def test_a_day_of_a_zone_that_sets_its_clocks_has_its_own_hours(instance: dg.DagsterInstance, root: Path) -> None:
    days = dg.DailyPartitionsDefinition("2013-01-01", timezone="America/New_York")
    hours = pl.datetime_range(
        dt.datetime(2013, 11, 3, 4), dt.datetime(2013, 11, 4, 4, 59), "1h", time_zone="UTC", eager=True
    )

    @dg.asset(partitions_def=days, metadata={"partition_expr": "at"})
    def table() -> pl.DataFrame:
        return pl.DataFrame({"at": hours, "n": 1})

    assert len(hours) == 25
    result = run(instance, root, [table], "2013-11-03")
    assert told(result, "table")["2013-11-03"]["dagster/partition_row_count"] == 25


HOURS = dg.HourlyPartitionsDefinition("2013-01-01-00:00", timezone="America/New_York")


def test_the_hour_that_the_clocks_skip_is_written_from_wall_clocks(instance: dg.DagsterInstance, root: Path) -> None:
    run(instance, root, [one_row("naive", dt.datetime(2013, 3, 10, 1, 59), HOURS)], "2013-03-10-01:00")
    run(instance, root, [one_row("naive", dt.datetime(2013, 3, 10, 3), HOURS)], "2013-03-10-03:00")
    assert len(rows(root, "table")) == 2


@pytest.mark.parametrize("key", ["2013-11-03-01:00", "2013-11-03-01:00-0500"])
def test_the_hour_that_the_clocks_show_twice_is_refused_of_wall_clocks(
    instance: dg.DagsterInstance, root: Path, key: str
) -> None:
    result = run(instance, root, [one_row("naive", dt.datetime(2013, 11, 3, 1, 30), HOURS)], key, ok=False)
    assert "use a column with a time zone" in failure(result)


@pytest.mark.parametrize(("key", "hour"), [("2013-11-03-01:00", 5), ("2013-11-03-01:00-0500", 6)])
def test_the_hour_that_the_clocks_show_twice_is_two_partitions_of_instants(
    instance: dg.DagsterInstance, root: Path, key: str, hour: int
) -> None:
    run(instance, root, [one_row("instant", dt.datetime(2013, 11, 3, hour, 30, tzinfo=UTC), HOURS)], key)
    outside = dt.datetime(2013, 11, 3, 11 - hour, 30, tzinfo=UTC)
    assert "outside" in failure(run(instance, root, [one_row("instant", outside, HOURS)], key, ok=False))


def test_a_date_cannot_tell_hours(instance: dg.DagsterInstance, root: Path) -> None:
    hours = dg.HourlyPartitionsDefinition("2013-01-01-00:00")
    result = run(instance, root, [one_row("day", dt.date(2013, 1, 1), hours)], "2013-01-01-05:00", ok=False)
    assert "a date cannot tell" in failure(result)
    assert not (root / "public" / "table").exists()


def test_a_week_reads_its_seven_days(instance: dg.DagsterInstance, root: Path) -> None:
    weeks = dg.WeeklyPartitionsDefinition("2013-01-06")

    @dg.asset(partitions_def=weeks, metadata={"partition_expr": "week"})
    def weekly(daily: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame({"week": [dt.date(2013, 1, 6)], "first": [daily["day"].min()], "n": [daily.height]})

    daily = every_day()
    run(instance, root, [daily], window=("2013-01-01", "2013-01-31"))
    run(instance, root, [daily, weekly], "2013-01-06", selection="weekly")
    assert rows(root, "weekly") == [(dt.date(2013, 1, 6), 7, dt.date(2013, 1, 6))]


def every_day() -> dg.AssetsDefinition:
    """A row a day, many days in one run."""

    @dg.asset(
        name="daily",
        partitions_def=DAYS,
        metadata={"partition_expr": "day"},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
        keys = context.partition_key_range
        days = pl.date_range(dt.date.fromisoformat(keys.start), dt.date.fromisoformat(keys.end), eager=True)
        return pl.DataFrame({"day": days, "n": 1})

    return daily


def test_two_dimensions_are_one_partition(instance: dg.DagsterInstance, root: Path) -> None:
    both = dg.MultiPartitionsDefinition({"day": DAYS, "color": dg.StaticPartitionsDefinition(["red", "blue"])})

    @dg.asset(partitions_def=both, metadata={"partition_expr": {"day": "at", "color": "shade"}})
    def table(context: dg.AssetExecutionContext) -> pl.DataFrame:
        keys = context.partition_key.keys_by_dimension
        return pl.DataFrame(
            {"at": [dt.date.fromisoformat(keys["day"])], "shade": [keys["color"]], "n": [context.run.run_id]}
        )

    for _ in range(2):
        for day in ("2013-01-01", "2013-01-02"):
            for color in ("red", "blue"):
                run(instance, root, [table], dg.MultiPartitionKey({"day": day, "color": color}))
    assert len(rows(root, "table")) == 4
    assert version(root, "table") == 7


def test_a_dimension_without_a_column_is_refused(instance: dg.DagsterInstance, root: Path) -> None:
    both = dg.MultiPartitionsDefinition({"day": DAYS, "color": dg.StaticPartitionsDefinition(["red"])})

    @dg.asset(partitions_def=both, metadata={"partition_expr": {"day": "at"}})
    def table() -> pl.DataFrame:
        return pl.DataFrame({"at": [dt.date(2013, 1, 1)]})

    result = run(instance, root, [table], dg.MultiPartitionKey({"day": "2013-01-01", "color": "red"}), ok=False)
    assert "'color'" in failure(result)


def test_partitions_that_are_added_later_are_fine(instance: dg.DagsterInstance, root: Path) -> None:
    fruits = dg.DynamicPartitionsDefinition(name="fruits")
    for fruit in ("apple", "pear"):
        instance.add_dynamic_partitions("fruits", [fruit])
        run(instance, root, [one_row("fruit", fruit, fruits)], fruit)
    assert rows(root, "table") == [("apple", 1), ("pear", 1)]


def test_a_partition_leaves_the_files_of_the_others_alone(instance: dg.DagsterInstance, root: Path) -> None:
    colors = dg.StaticPartitionsDefinition(["red", "blue"])
    run(instance, root, [one_row("color", "red", colors)], "red")
    before = parquet(root, "table")
    run(instance, root, [one_row("color", "blue", colors)], "blue")
    assert before < parquet(root, "table")


def test_a_year_in_one_run_is_one_commit_with_an_event_a_day(instance: dg.DagsterInstance, root: Path) -> None:
    daily = every_day()
    result = run(instance, root, [daily], window=("2013-01-01", "2013-02-28"))
    events = told(result, "daily")
    assert len(events) == 59
    assert {(one["delta/version"], one["dagster/partition_row_count"]) for one in events.values()} == {(0, 1)}


def test_a_stage_reads_its_own_day_before(instance: dg.DagsterInstance, root: Path) -> None:
    yesterday = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    columns = dg.TableSchema([dg.TableColumn("day", "date"), dg.TableColumn("total", "long")])

    @dg.asset(
        partitions_def=DAYS,
        ins={"total": dg.AssetIn("total", partition_mapping=yesterday)},
        metadata={"partition_expr": "day", "dagster/column_schema": columns},
    )
    def total(context: dg.AssetExecutionContext, total: pl.DataFrame) -> pl.DataFrame:
        day = dt.date.fromisoformat(context.partition_key)
        return pl.DataFrame({"day": [day], "total": [(total["total"].sum() or 0) + 1]})

    for day in ("2013-01-01", "2013-01-02", "2013-01-03"):
        run(instance, root, [total], day)
    assert [count for _, count in rows(root, "total")] == [1, 2, 3]
    assert "has not been materialized yet" in failure(run(instance, root, [total], "2013-01-09", ok=False))


def test_partitions_can_be_asked_for_one_by_one(instance: dg.DagsterInstance, root: Path) -> None:
    colors = dg.StaticPartitionsDefinition(["red", "blue"])

    @dg.asset
    def counts(table: dict[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.DataFrame({"color": list(table), "n": [frame.height for frame in table.values()]})

    for color in ("red", "blue"):
        run(instance, root, [one_row("color", color, colors)], color)
    run(instance, root, [one_row("color", "red", colors), counts], selection="counts")
    assert rows(root, "counts") == [("blue", 1), ("red", 1)]
