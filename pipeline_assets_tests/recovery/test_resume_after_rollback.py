"""A resume makes again what a rollback has undone, and what its chain had made from that."""

from collections.abc import Mapping

import dagster as dg
import polars as pl
import pytest

from pipeline_assets.cli.resume_text import plan_lines
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.owed import owed
from pipeline_assets.recovery.plan import AGAIN, FINISHED, LEFT, Kept, Plan
from pipeline_assets.recovery.refresh import refresh
from pipeline_assets.recovery.resume import NotResumable, planned, resumable, resume
from pipeline_assets.recovery.rollback import roll_back
from pipeline_assets.recovery.rollback_plan import TO, UNDO, Asked, NotRolledBack
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.recovery.journal import Journal
from pipeline_assets_tests.recovery.rolling import Shop, shown, values

TAKEN_BACK = "undone by a rollback"


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables)


def plan_of(shop: Shop, run: str) -> Plan:
    return planned(shop.instance, resumable(shop.instance, run, dry=True), shop.job)


def said(plan: Plan) -> list[tuple[str, str, str]]:
    return [(step.name.removeprefix("shop/"), step.state, step.why) for step in plan.steps]


def is_owed(shop: Shop) -> list[tuple[str, str]]:
    return [(one.stage, one.why) for one in owed(shop.instance, shop.job)]


def test_what_was_made_from_what_was_undone_is_made_again_too_as_a_chain_of_its_own(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.undo(second, stage="shop/a")
    shop.tell(3)
    plan = plan_of(shop, second)
    assert said(plan) == [
        ("a", LEFT, TAKEN_BACK),
        ("b", AGAIN, "follows from shop/a"),
        ("c", AGAIN, "follows from shop/b"),
    ]
    assert plan.begins
    done = resume(shop.instance, second, shop.job, agreed=plan)
    assert (done.success, shop.computed) == (True, ["a", "b", "c"])
    assert shop.values() == {"a": 3, "b": 3, "c": 3}
    assert is_owed(shop) == []
    written = [[chain for _, _, chain, _ in evidence.writes(place)] for place in shop.places()]
    assert [chains[-2:] for chains in written] == [[second, done.run_id]] * 3
    evidence.all_lawful(shop.instance, shop.places())
    with pytest.raises(NotResumable):
        resume(shop.instance, second, shop.job)
    with pytest.raises(NotRolledBack, match=f"name run {done.run_id}, which made it again"):
        shop.back_to(second)


def test_a_resume_that_begins_so_and_fails_is_continued_where_it_failed(shop: Shop) -> None:
    second = shop.run(2)
    shop.undo(second, stage="shop/a")
    shop.broken = "c"
    failed = resume(shop.instance, second, shop.job)
    assert (failed.success, shop.values()["b"]) == (False, 2)
    shop.broken = ""
    shop.tell(3)
    done = resume(shop.instance, str(failed.run_id), shop.job)
    assert (done.success, shop.computed) == (True, ["c"])
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
    assert is_owed(shop) == []


def test_where_nothing_is_left_of_an_input_a_refresh_starts_nothing_and_names_what_makes_it_again(shop: Shop) -> None:
    first = shop.run(1)
    done = shop.undo(first, stage="shop/a")
    assert owed(shop.instance, shop.job)[0].mends == (f"`pipeline-assets resume {first}`",)
    refused = refresh(shop.instance, shop.job, done.id, ["shop/a"])
    assert (refused.runs, refused.success) == ([], False)
    assert f"nothing is there any more. Nothing was started for it; `pipeline-assets resume {first}`" in refused.failure
    assert resume(shop.instance, first, shop.job).success
    assert (shop.values(), is_owed(shop)) == ({"a": 1, "b": 1, "c": 1}, [])
    with pytest.raises(NotRolledBack, match=r"could be undone. Nothing was changed; name run .*, which made it again"):
        shop.undo(first, stage="shop/a")


def test_what_precedes_the_undone_stage_is_not_made_again(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.undo(second, stage="shop/b")
    shop.tell(3)
    assert said(plan_of(shop, second)) == [
        ("a", FINISHED, ""),
        ("b", LEFT, TAKEN_BACK),
        ("c", AGAIN, "follows from shop/b"),
    ]
    assert resume(shop.instance, second, shop.job).success
    assert (shop.computed, shop.values()) == (["b", "c"], {"a": 2, "b": 2, "c": 2})


def test_where_nothing_was_made_from_it_the_chain_is_continued(shop: Shop) -> None:
    second = shop.run(2)
    shop.undo(second, stage="shop/c")
    shop.tell(3)
    plan = plan_of(shop, second)
    assert (said(plan)[2], plan.begins) == (("c", LEFT, TAKEN_BACK), False)
    assert resume(shop.instance, second, shop.job).success
    assert (shop.computed, shop.values()) == (["c"], {"a": 2, "b": 2, "c": 2})


def test_nothing_follows_from_an_undone_stage_in_whose_place_something_newer_will_stay(shop: Shop) -> None:
    second = shop.run(2)
    shop.undo(second, stage="shop/b")
    newer = shop.run(4)
    before = [shown(place)["files"] for place in shop.places()]
    plan = plan_of(shop, second)
    assert [step.state for step in plan.steps] == [FINISHED, LEFT, FINISHED]
    assert plan.steps[1].keeps == (Kept("shop/b", "*", evidence.version(shop.places()[1]), newer),)
    assert resume(shop.instance, second, shop.job).success
    assert [shown(place)["files"] for place in shop.places()] == before


def test_what_the_chain_had_made_from_it_is_left_to_a_refresh_then_and_the_plan_says_so(shop: Shop) -> None:
    second = shop.run(2)
    done = shop.undo(second, stage="shop/b")
    shop.run(4, "a", "b")
    assert is_owed(shop) == [("shop/c", "stale")]
    plan = plan_of(shop, second)
    assert said(plan)[2] == ("c", FINISHED, "follows from shop/b, which was undone: it stays until a refresh")
    assert not plan.begins
    assert resume(shop.instance, second, shop.job, agreed=plan).success
    assert shop.values() == {"a": 4, "b": 4, "c": 2}
    assert refresh(shop.instance, shop.job, done.id, ["shop/b"]).success
    assert shop.values() == {"a": 4, "b": 4, "c": 4}
    assert is_owed(shop) == []


def test_what_a_refresh_has_made_of_older_data_is_made_again_of_what_is_made_again(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    done = shop.undo(second, stage="shop/a")
    assert refresh(shop.instance, shop.job, done.id, ["shop/a"]).success
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    shop.tell(2)
    assert resume(shop.instance, second, shop.job).success
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
    assert is_owed(shop) == []


def gathering_job(numbers: Mapping[str, int]) -> dg.JobDefinition:
    """`range/rows`, by partitions of which one run makes many, and `range/total`, which gathers them."""

    @dg.asset(
        key_prefix="range",
        partitions_def=dg.StaticPartitionsDefinition(["a", "b", "c"]),
        metadata={"partition_expr": "key"},
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def rows(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"key": context.partition_keys, "n": [numbers[key] for key in context.partition_keys]})

    @dg.asset(key_prefix="range")
    def total(rows: pl.DataFrame) -> pl.DataFrame:
        return pl.DataFrame({"keys": [rows.height]})

    defs = dg.Definitions([rows, total], resources={"io_manager": io_manager()}, executor=dg.in_process_executor)
    return defs.resolve_implicit_global_asset_job_def()


def test_one_partition_of_a_range_is_made_again_with_what_gathers_it(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    job = gathering_job(dict.fromkeys("abc", 1))
    window = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    run = job.execute_in_process(instance=instance, tags=window).run_id
    roll_back(instance, job, Asked(UNDO, run, partition="b"))
    assert values(tables.child("range", "rows"), "key") == ["a", "c"]
    plan = planned(instance, resumable(instance, run, dry=True), job)
    assert [(step.name, step.state) for step in plan.steps] == [("range/rows", LEFT), ("range/total", AGAIN)]
    assert resume(instance, run, job, agreed=plan).success
    assert values(tables.child("range", "rows"), "key") == ["a", "b", "c"]
    assert values(tables.child("range", "total"), "keys") == [3]
    assert owed(instance, job) == []


def test_what_was_appended_is_not_there_twice_and_the_plan_says_that_it_stays(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    journal = Journal(instance, tables)
    journal.run(1)
    second = journal.run(2)
    roll_back(instance, journal.job, Asked(UNDO, second, "journal/said"))
    plan = planned(instance, resumable(instance, second, dry=True), journal.job)
    assert [step.state for step in plan.steps] == [LEFT, FINISHED, FINISHED]
    assert plan.steps[1].why == "mode append: stays, though it was made from journal/said"
    assert any(plan.steps[1].why in line for line in plan_lines(plan))
    assert resume(instance, second, journal.job).success
    assert journal.values() == ([2], [1, 2], [2])


def test_a_refresh_does_not_append_again_and_says_what_takes_it_out(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    journal = Journal(instance, tables)
    journal.run(1)
    second = journal.run(2)
    done = roll_back(instance, journal.job, Asked(UNDO, second, "journal/said"))
    refused = refresh(instance, journal.job, done.id, ["journal/said"])
    assert (refused.runs, refused.success, journal.values()) == ([], False, ([1], [1, 2], [2]))
    takes_out = f"pipeline-assets rollback --undo {second} --stage journal/lines"
    assert f"`{takes_out}` takes out" in refused.failure
    assert owed(instance, journal.job)[0].mends == (f"`{takes_out}`",)
    done = roll_back(instance, journal.job, Asked(UNDO, second, "journal/lines"))
    assert refresh(instance, journal.job, done.id, ["journal/said", "journal/lines"]).success
    assert journal.values() == ([1], [1], [1])
    assert owed(instance, journal.job) == []


def test_what_a_run_appended_is_appended_from_its_own_input_also_after_newer_runs(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """A chain of its own would read the newest input, and append that once more."""
    journal = Journal(instance, tables)
    journal.run(1)
    second = journal.run(2)
    journal.run(3)
    roll_back(instance, journal.job, Asked(UNDO, second, "journal/lines"))
    plan = planned(instance, resumable(instance, second, dry=True), journal.job)
    assert ([step.state for step in plan.steps], plan.begins) == ([FINISHED, LEFT, FINISHED], False)
    with pytest.raises(NotResumable, match=f"Nothing was changed; `pipeline-assets resume {second}` continues the run"):
        planned(instance, resumable(instance, second, dry=True), journal.job, recompute=["journal/count"])
    assert resume(instance, second, journal.job).success
    assert sorted(journal.values()[1]) == [1, 2, 3]


def test_what_newer_runs_have_put_into_other_partitions_of_a_range_stays(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    numbers = dict.fromkeys("abc", 1)
    job = gathering_job(numbers)
    window = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}
    run = job.execute_in_process(instance=instance, tags=window).run_id
    numbers["a"] = 5
    assert job.execute_in_process(instance=instance, partition_key="a").success
    numbers["a"] = 1
    roll_back(instance, job, Asked(UNDO, run, partition="b"))
    assert not planned(instance, resumable(instance, run, dry=True), job).begins
    assert resume(instance, run, job).success
    assert values(tables.child("range", "rows"), "n") == [1, 1, 5]


def test_what_was_merged_is_not_merged_again_by_a_refresh_nor_by_a_resume(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """The rows that were made from what is undone would stay, and could not be told apart any more."""
    merge = {"merge_type": "upsert", "predicate": "s.n = t.n", "source_alias": "s", "target_alias": "t"}
    journal = Journal(instance, tables, mode="merge", merge_config=merge)
    journal.run(1)
    second = journal.run(2)
    done = roll_back(instance, journal.job, Asked(UNDO, second, "journal/said"))
    refused = refresh(instance, journal.job, done.id, ["journal/said"])
    assert (refused.runs, refused.success, journal.values()) == ([], False, ([1], [1, 2], [2]))
    assert f"`pipeline-assets rollback --undo {second} --stage journal/lines` takes out" in refused.failure
    plan = planned(instance, resumable(instance, second, dry=True), journal.job)
    assert [step.state for step in plan.steps] == [LEFT, FINISHED, FINISHED]
    roll_back(instance, journal.job, Asked(UNDO, second, "journal/lines"))
    assert journal.values()[1] == [1]


def test_a_run_that_was_undone_and_made_again_is_a_state_to_go_back_to(shop: Shop) -> None:
    shop.run(1)
    second = shop.run(2)
    shop.undo(second)
    shop.tell(2)
    again = resume(shop.instance, second, shop.job)
    assert again.success
    shop.run(3)
    roll_back(shop.instance, shop.job, Asked(TO, second))
    assert shop.values() == {"a": 2, "b": 2, "c": 2}
