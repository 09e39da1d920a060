"""Why a rollback is refused: each by name, with exit status 3, and nothing changed, on disk or in the event log."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from pipeline_assets.cli import cli
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.delta.restorable import NotRestorable
from pipeline_assets.recovery.rollback import continue_, roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked, NotRolledBack
from pipeline_assets.recovery.rollback_planning import plan_of
from pipeline_assets.recovery.rollback_store import Store
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.recovery.rolling import Shop, code_location, on_disk, shown, values

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch) -> Shop:
    found = Shop(instance, tables)
    monkeypatch.setitem(sys.modules, found.module, code_location(found.module, found.defs))
    return found


def command(shop: Shop, *arguments: str) -> tuple[int, str, str]:
    """`pipeline-assets rollback` in this process: its exit status, stdout, stderr."""
    done = CliRunner().invoke(cli, ["rollback", *arguments, "-m", shop.module])
    return done.exit_code, done.stdout, done.stderr


def refused(shop: Shop, *arguments: str) -> str:
    """The text with which a rollback is refused, which changes nothing: no file of a table, no event."""
    before = on_disk(shop.tables), [shown(place) for place in shop.places()], heard(shop)
    status, said, why = command(shop, *arguments, "--yes")
    assert (status, said) == (3, "")
    after = on_disk(shop.tables), [shown(place) for place in shop.places()], heard(shop)
    assert after == before
    return why


def heard(shop: Shop) -> list[int]:
    return [len(evidence.events(shop.instance, f"shop/{stage}")) for stage in "abc"]


def test_an_unknown_run(shop: Shop) -> None:
    shop.run(1)
    assert f"There is no run {UNKNOWN}" in refused(shop, "--undo", UNKNOWN)
    assert f"There is no run {UNKNOWN}" in refused(shop, "--to", UNKNOWN)


def test_a_run_of_which_nothing_is_left(shop: Shop) -> None:
    shop.broken = "a"
    assert "has nothing left" in refused(shop, "--undo", shop.run(1))
    shop.broken = ""
    run = shop.run(2)
    assert "No later run changed anything" in refused(shop, "--to", run)
    assert "nothing left of partition blue" in refused(shop, "--undo", run, "--partition", "blue")
    assert "has no stage shop/z" in refused(shop, "--undo", run, "--stage", "shop/z")
    shop.undo(run)
    assert "has nothing left" in refused(shop, "--undo", run)


def test_going_back_to_a_run_that_failed_or_was_undone(shop: Shop) -> None:
    shop.broken = "c"
    failed = shop.run(1)
    shop.broken = ""
    undone = shop.run(2)
    shop.run(3)
    assert "no state to go back to" in refused(shop, "--to", failed)
    shop.undo(undone)
    assert "has been rolled back itself" in refused(shop, "--to", undone)


def test_a_run_that_is_at_work(shop: Shop) -> None:
    texts = []
    shop.meanwhile = lambda run: texts.append(refused(shop, "--undo", run))
    run = shop.run(1)
    assert f"Run {run}, which would be undone, is STARTED" in texts[0]


def of_b(shop: Shop) -> Path:
    return Path(shop.places()[1].uri)


def foreign(shop: Shop) -> None:
    pl.DataFrame({"value": [9]}).write_delta(str(of_b(shop)), mode="append")


def vacuum(shop: Shop) -> None:
    DeltaTable(str(of_b(shop))).vacuum(0, dry_run=False, enforce_retention_duration=False)


def vacuum_at_work(shop: Shop) -> None:
    info = {"timestamp": 1, "operation": "VACUUM START", "operationParameters": {}}
    entry = of_b(shop) / "_delta_log" / f"{evidence.version(shop.places()[1]) + 1:020}.json"
    entry.write_text(json.dumps({"commitInfo": info}) + "\n")


def log_clean_up(shop: Shop) -> None:
    DeltaTable(str(of_b(shop))).create_checkpoint()
    (of_b(shop) / "_delta_log" / f"{0:020}.json").unlink()
    log_of.cache_clear()  # as another process, which has not read it before


@pytest.mark.parametrize(
    ("interfere", "text"),
    [
        (
            foreign,
            "foreign commit (WRITE) on top of what would be undone; if it is meant, `pipeline-assets adopt shop/b -m",
        ),
        (vacuum, "was vacuumed"),
        (vacuum_at_work, "a VACUUM began at version 2 and has not ended"),
        (log_clean_up, "its log does not go back any more to what was there before"),
    ],
    ids=["foreign", "vacuum", "vacuum at work", "log"],
)
def test_what_happened_to_a_table_since(interfere: Callable[[Shop], None], text: str, shop: Shop) -> None:
    """The other two could go back, and do not."""
    first, second = shop.run(1), shop.run(2)
    interfere(shop)
    for choice in (["--undo", second], ["--to", first]):
        why = refused(shop, *choice)
        assert text in why
        assert shop.places()[1].uri in why


def test_a_table_that_was_removed_is_refused_unless_it_is_left_out(shop: Shop) -> None:
    first, second = shop.run(1), shop.run(2)
    shutil.rmtree(of_b(shop))
    for choice in (["--undo", second], ["--to", first]):
        status, _, why = command(shop, *choice, "--yes")
        assert (status, "it is not there any more, which --stage leaves out" in why) == (3, True)
        assert str(of_b(shop)) in why
        assert shop.values() == {"a": 2, "b": None, "c": 2}
    assert command(shop, "--undo", second, "--stage", "shop/a", "--yes")[0] == 0
    assert shop.values() == {"a": 1, "b": None, "c": 2}


def test_two_tables_that_cannot_go_back_are_both_named(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    foreign(shop)
    DeltaTable(shop.places()[2].uri).vacuum(0, dry_run=False, enforce_retention_duration=False)
    why = refused(shop, "--undo", second)
    assert "foreign commit" in why
    assert "was vacuumed" in why


def test_a_plan_to_which_nobody_said_yes_and_one_that_has_changed_since(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.run(1)
    second = shop.run(2)
    before = [shown(place) for place in shop.places()]
    status, said, why = command(shop, "--undo", second)
    assert (status, "Nobody is there to be asked" in why) == (3, True)
    assert "shop/b  version 1 → as at version 0" in said
    asked = Asked(UNDO, second)
    plan = plan_of(shop.instance, shop.job, asked)
    shop.run(3, "c")
    before = [shown(place) for place in shop.places()]
    with pytest.raises(NotRolledBack, match="have changed since the plan was made"):
        roll_back(shop.instance, shop.job, asked, plan)
    monkeypatch.setattr("pipeline_assets.cli.rollback.plan_of", lambda *_: plan)  # a person has looked at it for long
    status, _, why = command(shop, "--undo", second, "--yes")
    assert (status, "have changed since the plan was made" in why) == (3, True)
    assert [shown(place) for place in shop.places()] == before


def test_what_somebody_else_is_at(shop: Shop) -> None:
    """Another rollback, or maintenance, has the root's lock, or a rollback is not at its end."""
    shop.run(1)
    second = shop.run(2)
    before = [shown(place) for place in shop.places()], heard(shop)
    store = Store(shop.tables)
    with store.locked("Another rollback"):
        status, _, why = command(shop, "--undo", second, "--yes")
    assert (status, "Another rollback is at work" in why) == (3, True)
    store.begin(plan_of(shop.instance, shop.job, Asked(UNDO, second)).as_json())
    status, _, why = command(shop, "--undo", second, "--yes")
    assert (status, "is not at its end" in why) == (3, True)
    assert ([shown(place) for place in shop.places()], heard(shop)) == before


def test_columns_that_are_not_those_of_then(instance: dg.DagsterInstance, tables: Location) -> None:
    """The whole table goes back to its columns; a partition of one cannot."""
    wide = [False]

    def made(key: str | None) -> pl.DataFrame:
        frame = pl.DataFrame({"color": [key or "none"], "n": [1]})
        return frame.with_columns(n=pl.lit("one")) if wide[0] else frame

    @dg.asset(key_prefix="wide", metadata={"schema_mode": "overwrite"})
    def whole() -> pl.DataFrame:
        return made(None)

    defs = dg.Definitions([whole], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    place = tables.child("wide", "whole")
    job.execute_in_process(instance=instance)
    wide[0] = True
    second = job.execute_in_process(instance=instance).run_id
    assert values(place, "n") == ["one"]
    roll_back(instance, job, Asked(UNDO, second))
    assert values(place, "n") == [1]


def test_a_partition_whose_columns_are_not_those_of_then(
    instance: dg.DagsterInstance, tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    colors = dg.StaticPartitionsDefinition(["red", "blue"])

    @dg.asset(key_prefix="wide", partitions_def=colors, metadata={"partition_expr": "color"})
    def by_color(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"color": [context.partition_key], "n": [1]})

    defs = dg.Definitions([by_color], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    runs = [job.execute_in_process(instance=instance, partition_key="red").run_id for _ in range(2)]
    place = tables.child("wide", "by_color")
    log = Path(place.uri, "_delta_log")
    actions = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    metadata = next(action for action in actions if "metaData" in action)
    metadata["metaData"]["schemaString"] = metadata["metaData"]["schemaString"].replace('"long"', '"double"')
    info = {"commitInfo": {"timestamp": 1, "operation": "CHANGE COLUMN", "operationParameters": {}}}
    (log / f"{2:020}.json").write_text("\n".join(map(json.dumps, (info, metadata))) + "\n")
    before = shown(place), on_disk(tables)
    with pytest.raises(NotRestorable, match="its columns are not those of version"):
        roll_back(instance, job, Asked(UNDO, runs[1]))
    monkeypatch.setitem(sys.modules, "wide_location", code_location("wide_location", defs))
    done = CliRunner().invoke(cli, ["rollback", "--undo", runs[1], "--yes", "-m", "wide_location"])
    assert (done.exit_code, "its columns are not those of version" in done.stderr) == (3, True)
    assert (shown(place), [one for one in on_disk(tables) if "pipeline_rollbacks" not in one]) == before


def test_a_merge_under_those_of_later_runs(instance: dg.DagsterInstance, tables: Location) -> None:
    told = [1]
    merge = {"merge_type": "upsert", "predicate": "s.n = t.n", "source_alias": "s", "target_alias": "t"}

    @dg.asset(key_prefix="ledger", metadata={"mode": "merge", "merge_config": merge})
    def lines() -> pl.DataFrame:
        return pl.DataFrame({"n": [told[0]]})

    defs = dg.Definitions([lines], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    job = defs.resolve_implicit_global_asset_job_def()
    first = job.execute_in_process(instance=instance).run_id
    told[0] = 2
    second = job.execute_in_process(instance=instance).run_id
    place = tables.child("ledger", "lines")
    before = shown(place)
    with pytest.raises(NotRestorable, match="other run chains' rows came after, and cannot be told apart"):
        roll_back(instance, job, Asked(UNDO, first))
    assert shown(place) == before
    roll_back(instance, job, Asked(UNDO, second))
    assert values(place, "n") == [1]


def test_nothing_is_there_to_be_continued(shop: Shop) -> None:
    with pytest.raises(NotRolledBack, match="nothing to continue"):
        continue_(shop.instance, shop.job)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--undo", "a", "--to", "b"], ["--continue", "--stage", "s"], ["--undo", "a", "--overwrite"], ["--last"]],
)
def test_wrong_usage_ends_with_2(arguments: list[str], home: Path) -> None:
    done = CliRunner().invoke(cli, ["rollback", *arguments])
    assert done.exit_code == 2
    assert "Usage: " in done.stderr
    assert os.listdir(home)
