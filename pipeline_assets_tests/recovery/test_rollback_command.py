"""`pipeline-assets rollback` as people meet it: what it prints, asks, lists; on S3; and what waits for a person's word."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.restorable import ChangedUnderHold
from pipeline_assets.recovery.adopt import adopt
from pipeline_assets.recovery.rollback import continue_
from pipeline_assets_tests.recovery import children, evidence, gathering
from pipeline_assets_tests.recovery.children import KILLED
from pipeline_assets_tests.recovery.rolling import Shop, shown, values
from pipeline_assets_tests.recovery.rolling_processes import end, rollback

MODULE = "pipeline_assets_tests.recovery.rolling_location"


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(shop: Shop) -> None:
    first, second = shop.run(1), shop.run(2)
    before = [shown(place) for place in shop.places()]
    done = children.pipeline_assets("rollback", "--undo", second, "--dry-run", "-m", MODULE)
    assert done.returncode == 0, done.stderr
    line = f"  shop/%s  version 1 → as at version 0, of {first}; undoes {second}\n"
    assert done.stdout == "".join(line % stage for stage in "abc") + "Nothing was changed.\n"
    assert [shown(place) for place in shop.places()] == before
    assert not Path(shop.tables.uri, "pipeline_rollbacks").exists()


def test_what_is_to_be_made_again_is_listed_and_said_as_json(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    done = children.pipeline_assets("rollback", "--undo", second, "--stage", "shop/a", "--yes", "-m", MODULE)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"Done, by rollback \d+\.\nTo be made again:\n"
        r"  shop/b was made from what is undone of shop/a\n  shop/c was made from what is undone of shop/b\n"
        rf"`pipeline-assets rollback --refresh -m {MODULE}` makes it\.\n$",
        done.stdout,
    )
    done = children.pipeline_assets("rollback", "--undo", second, "--yes", "--json", "-m", MODULE)
    said = json.loads(done.stdout)
    assert (done.returncode, said["owed"], said["plan"]["chains"]) == (0, [], [second])
    changed = [one for one in said["plan"]["entries"] if one["state"] != "never"]
    assert [(one["stage"], one["state"], one["back_to"]) for one in changed] == [
        ("shop/b", "live", 0),
        ("shop/c", "live", 0),
    ]


def test_what_was_rolled_back_is_nobody_s_last_run_but_resumed_by_its_id(shop: Shop) -> None:
    shop.run(1)
    shop.broken = "c"
    older, failed = shop.run(2), shop.run(3)
    shop.undo(failed)
    last = json.loads(children.pipeline_assets("resume", "--last", "--dry-run", "--json", "-m", MODULE).stdout)
    assert last["resumed"] == older
    shop.undo(older)
    done = children.pipeline_assets("resume", "--last", "-m", MODULE)
    assert done.returncode == 3
    assert f"as run {failed}. Nothing was changed; `pipeline-assets resume {failed} -m {MODULE}`" in done.stderr
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    done = children.pipeline_assets("resume", failed, "-m", MODULE)
    assert (done.returncode, shop.values()) == (0, {"a": 3, "b": 3, "c": 3}), done.stderr


def test_what_is_owed_can_be_made_later(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.undo(second, stage="shop/a")
    done = children.pipeline_assets("rollback", "--refresh", "-m", MODULE)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"Made again by run [0-9a-f-]{36}\.\n", done.stdout)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert children.pipeline_assets("rollback", "--refresh", "-m", MODULE).stdout == "Nothing is owed.\n"


def test_where_others_have_replaced_all_of_it_it_says_that_no_rows_changed(shop: Shop) -> None:
    first = shop.run(1)
    shop.run(2)
    done = children.pipeline_assets("rollback", "--undo", first, "--yes", "-m", MODULE)
    assert done.returncode == 0, done.stderr
    assert ": other runs had replaced all of it, so no rows were changed.\n" in done.stdout
    assert shop.values() == {"a": 2, "b": 2, "c": 2}


def test_a_run_that_was_killed_before_its_event_is_undone_all_the_same(shop: Shop) -> None:
    """It is marked failed, and the event log hears of what it committed; a resume makes it again."""
    shop.tell(1)
    died = children.run(children.materialize(MODULE), children.crash_at("after_commit", "shop/b"))
    assert died.returncode == KILLED, died.stderr
    run = shop.instance.get_runs()[0]
    assert (run.is_finished, shop.values()) == (False, {"a": 1, "b": 1, "c": None})
    done = children.pipeline_assets("rollback", "--undo", run.run_id, "--yes", "-m", MODULE)
    assert done.returncode == 0, done.stderr
    assert shop.values() == {"a": None, "b": None, "c": None}
    assert shop.instance.get_run_by_id(run.run_id).is_failure
    told = [event.get("checkpoint/chain") for event in evidence.events(shop.instance, "shop/b")]
    assert told == ["", run.run_id]
    assert children.pipeline_assets("resume", run.run_id, "-m", MODULE).returncode == 0
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_refresh_makes_it_again(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    choice = ["--undo", second, "--stage", "shop/a", "--yes", "--refresh", "--json"]
    done = children.pipeline_assets("rollback", *choice, "-m", MODULE)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["owed"], len(said["runs"])) == ([], 1)
    assert evidence.steps_of(shop.instance, said["runs"][0]) == ["shop__b", "shop__c"]
    assert shop.values() == {"a": 1, "b": 1, "c": 1}


def test_a_day_is_as_if_it_had_never_been(instance: dg.DagsterInstance, tables: Location) -> None:
    """It goes out of the tables that gather it; no other day is missing there."""
    job = gathering.definitions().resolve_job_def("days_job")
    runs = [job.execute_in_process(instance=instance, partition_key=key).run_id for key in gathering.KEYS[:3]]
    choice = ["--undo", runs[2], "--yes", "--refresh"]
    done = children.pipeline_assets("rollback", *choice, "-m", gathering.__name__)
    assert done.returncode == 0, done.stderr
    assert values(tables.child("days", "all_days"), "day") == gathering.KEYS[:2]
    assert evidence.rows(tables.child("days", "counted"))["days"].to_list() == [2]
    done = children.pipeline_assets("rollback", "--undo", runs[0], "--yes", "--refresh", "-m", gathering.__name__)
    assert done.returncode == 0, done.stderr
    assert values(tables.child("days", "all_days"), "day") == gathering.KEYS[1:2]
    assert evidence.rows(tables.child("days", "counted"))["days"].to_list() == [1]


def test_a_run_is_undone_on_s3(instance: dg.DagsterInstance, tables_on_s3: Location) -> None:
    shop = Shop(instance, tables_on_s3)
    shop.run(1)
    second = shop.run(2)
    died = rollback("--undo", second, "--yes", crash="rollback:7")
    assert end(died) == KILLED
    continue_(shop.instance, shop.job)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    evidence.all_lawful(instance, [])


def overwritten(shop: Shop) -> None:
    continue_(shop.instance, shop.job, overwrite=True)


def adopted(shop: Shop) -> None:
    adopt(shop.instance, shop.defs.get_repository_def(), "shop/b")
    continue_(shop.instance, shop.job)


@pytest.mark.parametrize(("word", "left"), [(overwritten, [1]), (adopted, [2, 9])])
def test_what_somebody_writes_under_the_hold_waits_for_a_persons_word(
    word: Callable[[Shop], None], left: list[int], shop: Shop
) -> None:
    shop.run(1)
    second = shop.run(2)
    assert end(rollback("--undo", second, "--yes", crash="rollback:6")) == KILLED
    table = shop.places()[1]
    pl.DataFrame({"value": [9]}).write_delta(table.uri, mode="append")
    stopped = children.pipeline_assets("rollback", "--continue", "-m", MODULE)
    assert stopped.returncode == 1
    assert "shop/b was changed by somebody else while rollback" in stopped.stderr
    with pytest.raises(ChangedUnderHold):
        continue_(shop.instance, shop.job)
    word(shop)
    assert evidence.rows(table)["value"].to_list() == left
    assert (shop.values()["a"], shop.values()["c"]) == (1, 1)
    assert [shown(place)["holds"] for place in shop.places()] == [{}, {}, {}]
