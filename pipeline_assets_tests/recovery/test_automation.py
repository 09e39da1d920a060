"""Declarative automation after a rollback: nothing of what went back is asked for again, and new data is."""

from datetime import datetime, timedelta, timezone

import dagster as dg
import polars as pl
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.rollback import roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.settings import io_manager

EAGER = dg.AutomationCondition.eager()
HOURLY = dg.AutomationCondition.on_cron("0 * * * *")
COLORS = dg.StaticPartitionsDefinition(["red", "blue"])


def shop(partitions: dg.PartitionsDefinition | None = None) -> dg.Definitions:
    """`a` → `b` → `c`, each made as soon as it can be, and `d` once an hour, when there is something new."""
    told = {"metadata": {"partition_expr": "color"}, "partitions_def": partitions} if partitions else {}

    @dg.asset(automation_condition=EAGER, **told)
    def a(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"color": [context.partition_key if partitions else "none"], "n": [1]})

    @dg.asset(automation_condition=EAGER, **told)
    def b(a: pl.DataFrame) -> pl.DataFrame:
        return a

    @dg.asset(automation_condition=EAGER, **told)
    def c(b: pl.DataFrame) -> pl.DataFrame:
        return b

    @dg.asset(automation_condition=HOURLY, **told)
    def d(a: pl.DataFrame) -> pl.DataFrame:
        return a

    return dg.Definitions([a, b, c, d], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)


class Automation:
    """The daemon's evaluations, one after the other, by a clock of its own."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self.instance, self.defs = instance, defs
        self.job = defs.resolve_implicit_global_asset_job_def()
        self.now = datetime(2026, 1, 1, 12, 5, tzinfo=timezone.utc)
        self.cursor = None
        self.asked()

    def run(self, *only: str, key: str | None = None) -> str:
        """A run of all stages or some; its id."""
        selection = [dg.AssetKey(name) for name in only] or None
        done = self.job.execute_in_process(instance=self.instance, asset_selection=selection, partition_key=key)
        return done.run_id

    def asked(self, hours: int = 0) -> dict[str, set[str | None]]:
        """What is requested now, or after some hours: for each stage its partitions."""
        self.now += timedelta(hours=hours, seconds=30)
        done = dg.evaluate_automation_conditions(self.defs, self.instance, evaluation_time=self.now, cursor=self.cursor)
        self.cursor = done.cursor
        found = {}
        for name in "abcd":
            key = dg.AssetKey(name)
            if done.get_num_requested(key):
                found[name] = done.get_requested_partitions(key)
        return found

    def undo(self, run: str, stage: str | None = None) -> None:
        roll_back(self.instance, self.job, Asked(UNDO, run, stage))


@pytest.fixture
def automation(instance: dg.DagsterInstance, tables: Location) -> Automation:
    return Automation(instance, shop())


def test_what_was_rolled_back_is_not_asked_for_and_new_data_is(automation: Automation) -> None:
    automation.run()
    assert automation.asked() == {}
    second = automation.run()
    assert automation.asked() == {}
    automation.undo(second)
    assert [automation.asked(), automation.asked(), automation.asked(hours=1), automation.asked()] == [{}] * 4
    automation.run("a")
    assert automation.asked() == {"b": {None}, "c": {None}, "d": {None}}


def test_what_went_back_to_nothing_is_not_asked_for_as_missing(automation: Automation) -> None:
    automation.undo(automation.run())
    assert [automation.asked(), automation.asked(hours=1)] == [{}] * 2
    automation.run("a")
    assert automation.asked() == {"b": {None}, "c": {None}, "d": {None}}


def test_what_was_made_from_undone_data_is_asked_for(automation: Automation) -> None:
    """It is owed: Dagster makes it from what is there now, as `--refresh` does."""
    automation.run()
    second = automation.run()
    automation.asked()
    automation.undo(second, "a")
    assert automation.asked() == {"b": {None}, "c": {None}}
    automation.run("b", "c")
    assert automation.asked() == {}


def test_a_partition_that_was_rolled_back_is_not_asked_for(instance: dg.DagsterInstance, tables: Location) -> None:
    automation = Automation(instance, shop(COLORS))
    for key in ("red", "blue"):
        automation.run(key=key)
    second = automation.run(key="red")
    automation.asked()
    automation.undo(second)
    assert [automation.asked(), automation.asked(hours=1)] == [{}] * 2
    automation.run("a", key="red")
    assert automation.asked() == {"b": {"red"}, "c": {"red"}, "d": {"red"}}
