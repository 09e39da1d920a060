"""Somebody else at our tables: what they write is not read, what they tidy up changes nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.errors import ForeignData
from pipeline_assets.recovery.adopt import NotAdopted, adopt
from pipeline_assets.recovery.resume import resume
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import story
from pipeline_assets_tests.recovery.evidence import events, same_rows, version


def failed(instance: dg.DagsterInstance) -> str:
    """A run of the story whose third stage raised; mended."""
    story.switch().touch()
    run = story.job().execute_in_process(instance=instance, raise_on_error=False)
    story.switch().unlink()
    return run.run_id


def write(table: Location) -> None:
    frame = pl.read_delta(table.uri).head(3)
    write_deltalake(table.uri, frame.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="append")


def optimize(table: Location) -> None:
    DeltaTable(table.uri).optimize.compact()


def optimize_and_vacuum(table: Location) -> None:
    optimize(table)
    DeltaTable(table.uri).vacuum(0, dry_run=False, enforce_retention_duration=False)


def clean_up_the_log(table: Location) -> None:
    delta = DeltaTable(table.uri)
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    delta = DeltaTable(table.uri)
    delta.create_checkpoint()
    delta.cleanup_metadata()


@pytest.mark.parametrize("act", [write, optimize, optimize_and_vacuum, clean_up_the_log])
def test_what_somebody_does_between_two_stages_changes_nothing(
    instance: dg.DagsterInstance, tables: Location, never_failed: Location, act: Callable[[Location], None]
) -> None:
    run = failed(instance)
    for stage in story.STAGES[:2]:
        act(tables.child("story", stage))
    assert resume(instance, run, story.job()).success
    for stage in story.STAGES[2:]:
        same_rows(tables.child("story", stage), never_failed.child(stage))


@pytest.mark.parametrize("act", [optimize, optimize_and_vacuum, clean_up_the_log])
def test_what_tidies_up_is_not_foreign(
    instance: dg.DagsterInstance, tables: Location, act: Callable[[Location], None]
) -> None:
    for _ in range(2):
        assert story.job().execute_in_process(instance=instance).success
        for stage in story.STAGES:
            act(tables.child("story", stage))
    repository = story.definitions().get_repository_def()
    assert adopt(instance, repository, "story/orders").partitions == []


BY_DAY: dict[str, Any] = {"metadata": {"partition_expr": "day"}}
SOURCE = dg.AssetSpec(dg.AssetKey(["story", "source"]))


def copying(broken: Path) -> dg.JobDefinition:
    """One stage that reads a table of somebody else's."""

    @dg.asset(key_prefix="story", ins={"source": dg.AssetIn(SOURCE.key)})
    def copied(source: pl.LazyFrame) -> pl.LazyFrame:
        if broken.exists():
            raise story.Broken
        return source

    chosen = dg.define_asset_job("copy", selection=[copied])
    resources = {"io_manager": io_manager()}
    made = dg.Definitions([SOURCE, copied], jobs=[chosen], resources=resources, executor=dg.in_process_executor)
    return made.resolve_job_def("copy")


def numbers(*values: int) -> Any:
    return pl.DataFrame({"n": values}).to_arrow()


def test_a_run_that_died_before_any_commit_goes_on_with_the_source_as_it_first_saw_it(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    source, broken = tables.child("story", "source"), tmp_path / "broken"
    write_deltalake(source.uri, numbers(1))
    broken.touch()
    run = copying(broken).execute_in_process(instance=instance, raise_on_error=False)
    write_deltalake(source.uri, numbers(2), mode="append")
    broken.unlink()
    assert resume(instance, run.run_id, copying(broken)).success
    assert pl.read_delta(tables.child("story", "copied").uri)["n"].to_list() == [1]
    assert copying(broken).execute_in_process(instance=instance).success
    assert sorted(pl.read_delta(tables.child("story", "copied").uri)["n"].to_list()) == [1, 2]


@pytest.mark.parametrize("act", [optimize_and_vacuum, clean_up_the_log])
def test_what_a_run_had_read_and_is_gone_is_read_by_a_new_run_whose_command_is_said(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path, act: Callable[[Location], None]
) -> None:
    source, broken = tables.child("story", "source"), tmp_path / "broken"
    write_deltalake(source.uri, numbers(1))
    broken.touch()
    run = copying(broken).execute_in_process(instance=instance, raise_on_error=False)
    write_deltalake(source.uri, numbers(2), mode="overwrite")
    act(source)
    broken.unlink()
    resumed = resume(instance, run.run_id, copying(broken))
    assert not resumed.success
    said = messages(instance, str(resumed.run_id))
    assert f"Version 0 of the Delta table {source.uri} cannot be read any more" in said
    assert "Start a new run (`pipeline-assets run copy`), which reads the newest version" in said
    assert copying(broken).execute_in_process(instance=instance).success
    assert pl.read_delta(tables.child("story", "copied").uri)["n"].to_list() == [2]


def messages(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the failed steps of a run said."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    failures = (entry.get_dagster_event().step_failure_data.error for entry in entries)
    return "\n".join(error.to_string() for error in failures if error is not None)


def test_a_source_that_was_made_anew_is_read_and_what_follows_is_written(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    source = tables.child("story", "source")
    for number in range(4):
        write_deltalake(source.uri, numbers(number), mode="overwrite")
    assert copying(tmp_path / "no").execute_in_process(instance=instance).success
    remove(source)
    write_deltalake(source.uri, numbers(9))
    assert copying(tmp_path / "no").execute_in_process(instance=instance).success
    assert pl.read_delta(tables.child("story", "copied").uri)["n"].to_list() == [9]


def remove(table: Location) -> None:
    shutil.rmtree(table.uri)


def test_a_stage_s_table_that_was_dropped_is_made_anew_with_what_follows(
    instance: dg.DagsterInstance, tables: Location, never_failed: Location
) -> None:
    for _ in range(3):
        assert story.job().execute_in_process(instance=instance).success
    remove(tables.child("story", "orders"))
    assert story.job().execute_in_process(instance=instance).success
    assert version(tables.child("story", "orders")) == 0
    for stage in story.STAGES:
        same_rows(tables.child("story", stage), never_failed.child(stage))
    assert version(tables.child("story", "report")) == 3


def test_a_run_reads_its_own_day_without_what_somebody_put_there_also_after_newer_runs(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    """Foreign rows in its day, then another day, then its day again: its own state is one with foreign rows in it."""
    broken, day = tmp_path / "broken", tables.child("story", "day_")

    @dg.asset(key_prefix="story", partitions_def=dg.StaticPartitionsDefinition(["a", "b"]), **BY_DAY)
    def day_(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"day": [context.partition_key], "by": [context.run.run_id]})

    @dg.asset(key_prefix="story", partitions_def=dg.StaticPartitionsDefinition(["a", "b"]), **BY_DAY)
    def copied(day_: pl.LazyFrame) -> pl.LazyFrame:
        if broken.exists():
            raise story.Broken
        return day_

    resources = {"io_manager": io_manager()}
    days = dg.define_asset_job("days", selection=dg.AssetSelection.all())
    job = dg.Definitions(
        [day_, copied], jobs=[days], resources=resources, executor=dg.in_process_executor
    ).resolve_job_def("days")
    broken.touch()
    mine = job.execute_in_process(instance=instance, partition_key="a", raise_on_error=False)
    write_deltalake(day.uri, pl.DataFrame({"day": ["a"], "by": ["somebody"]}).to_arrow(), mode="append")
    for key in ("b", "a"):
        chosen = {"instance": instance, "resources": resources, "selection": [day_]}
        assert dg.materialize([day_, copied], partition_key=key, **chosen).success
    broken.unlink()
    assert resume(instance, mine.run_id, job).success
    assert pl.read_delta(tables.child("story", "copied").uri)["by"].to_list() == [mine.run_id]


def test_an_empty_instance_over_existing_tables_reads_them_as_ours(
    instance: dg.DagsterInstance, tables: Location, never_failed: Location
) -> None:
    assert story.job().execute_in_process(instance=instance).success
    write(tables.child("story", "priced"))
    with dg.instance_for_test() as empty:
        done = dg.materialize(
            story.ASSETS, selection="story/by_customer", resources={"io_manager": io_manager()}, instance=empty
        )
        assert done.success
    same_rows(tables.child("story", "by_customer"), never_failed.child("by_customer"))


def test_where_neither_log_knows_any_more_the_table_is_refused_with_the_command(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    run = story.job().execute_in_process(instance=instance)
    clean_up_the_log(tables.child("story", "priced"))
    instance.delete_run(run.run_id)
    log_of.cache_clear()  # as in a new process
    resources = {"io_manager": io_manager()}
    chosen = {"selection": "story/by_customer", "resources": resources, "instance": instance}
    refused = dg.materialize(story.ASSETS, raise_on_error=False, **chosen)
    said = [event.step_failure_data.error.to_string() for event in refused.all_events if event.is_step_failure]
    assert "pipeline-assets adopt" in said[0]
    adopt(instance, story.definitions().get_repository_def(), "story/priced")
    assert dg.materialize(story.ASSETS, **chosen).success


def test_whoever_opens_a_table_next_records_what_a_dead_run_committed_there(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """Invariant 2, also where the next one writes another partition, and where the dead run was another instance's."""

    @dg.asset(key_prefix="story", partitions_def=dg.StaticPartitionsDefinition(list("abc")), **BY_DAY)
    def days(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"day": [context.partition_key], "n": [1]})

    resources = {"io_manager": io_manager()}
    with dg.instance_for_test() as another:
        assert dg.materialize([days], instance=another, resources=resources, partition_key="a").success
    assert dg.materialize([days], instance=instance, resources=resources, partition_key="b").success
    assert [one["delta/version"] for one in events(instance, "story/days", "a")] == [0]
    assert events(instance, "story/days", "a")[0]["checkpoint/adopted"] is True
    assert dg.materialize([days], instance=instance, resources=resources, partition_key="c").success
    assert len(events(instance, "story/days", "a")) == 1


def test_a_foreign_commit_that_is_meant_is_adopted(instance: dg.DagsterInstance, tables: Location) -> None:
    assert story.job().execute_in_process(instance=instance).success
    write(tables.child("story", "priced"))
    done = adopt(instance, story.definitions().get_repository_def(), "story/priced", version=1)
    assert done.version == 2
    resources = {"io_manager": io_manager()}
    assert dg.materialize(story.ASSETS, selection="story/by_customer", resources=resources, instance=instance).success
    assert pl.read_delta(tables.child("story", "by_customer").uri)["orders"].sum() == 1003


def test_a_table_of_dagster_deltalake_s_is_adopted(instance: dg.DagsterInstance, tables: Location) -> None:
    frame = pl.DataFrame({"order": [1], "customer": [1]})
    write_deltalake(tables.child("story", "orders").uri, frame.to_arrow())
    done = adopt(instance, story.definitions().get_repository_def(), tables.child("story", "orders").uri)
    assert list(done.partitions) == ["*"]
    event = instance.get_latest_materialization_event(dg.AssetKey(["story", "orders"]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["checkpoint/adopted"].value is True


def test_a_version_that_is_not_the_newest_is_not_adopted(instance: dg.DagsterInstance, tables: Location) -> None:
    assert story.job().execute_in_process(instance=instance).success
    write(tables.child("story", "priced"))
    with pytest.raises(NotAdopted, match="was changed last by version 1"):
        adopt(instance, story.definitions().get_repository_def(), "story/priced", version=0)


def test_a_partitioned_table_of_dagster_deltalake_s_is_read_also_after_our_first_write(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """What was there before is read as it was then, whatever somebody does to it later."""
    place = tables.child("story", "theirs")
    old = pl.DataFrame({"day": ["a", "b"], "n": [1, 2]})
    write_deltalake(place.uri, old.to_arrow(), partition_by=["day"])
    days = dg.StaticPartitionsDefinition(["a", "b", "c"])

    @dg.asset(key_prefix="story", partitions_def=days, **BY_DAY)
    def theirs(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"day": [context.partition_key], "n": [9]})

    @dg.asset(key_prefix="story")
    def gathered(theirs: pl.DataFrame) -> pl.DataFrame:
        return theirs

    def run(asset: str, key: str | None = None) -> Any:
        chosen = {"instance": instance, "resources": {"io_manager": io_manager()}, "selection": f"story/{asset}"}
        assert dg.materialize([theirs, gathered], partition_key=key, **chosen).success
        return sorted(pl.read_delta(tables.child("story", asset).uri)["n"].to_list())

    assert run("gathered") == [1, 2]
    run("theirs", "a")
    assert run("gathered") == [2, 9]
    write_deltalake(place.uri, old.filter(day="b").to_arrow(), mode="append")
    assert run("gathered") == [2, 9]
    write_deltalake(place.uri, old.head(1).with_columns(day=pl.lit("c")).to_arrow(), mode="append")
    with pytest.raises(ForeignData, match="partition c holds data"):  # what somebody has put there since is nobody's
        run("gathered")


def test_what_a_resumed_older_chain_tells_late_hides_nothing_of_the_newer_one(
    instance: dg.DagsterInstance, tables: Location, tmp_path: Path
) -> None:
    """Its first output was committed before the newer chain's, and is told of again after that."""
    broken = tmp_path / "broken"

    @dg.multi_asset(outs={"one": dg.AssetOut(), "two": dg.AssetOut()})
    def both(context: dg.OpExecutionContext) -> Any:
        yield dg.Output(numbers_of(context.run_id), "one")
        if broken.exists():
            raise ValueError("broken on purpose")
        yield dg.Output(numbers_of(context.run_id), "two")

    defs = dg.Definitions([both], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    broken.touch()
    older = job.execute_in_process(instance=instance, raise_on_error=False).run_id
    broken.unlink()
    assert job.execute_in_process(instance=instance).success
    one = tables.child("public", "one")
    newer = version(one)
    assert resume(instance, older, job).success
    told = [event["delta/version"] for event in events(instance, "one", "*")]  # newest first
    assert told.index(newer) > 0
    assert max(told) == newer

    assert adopt(instance, defs.get_repository_def(), "one").recorded == []
    clean_up_the_log(one)
    assert job.execute_in_process(instance=instance).success


def numbers_of(run_id: str) -> pl.DataFrame:
    return pl.DataFrame({"run": [run_id]})
