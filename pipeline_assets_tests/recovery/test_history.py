"""What `history` says: checkpoints and rollback points, newest first, and what can be gone back to."""

import shutil

import dagster as dg
import pytest
from deltalake import DeltaTable

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.adopt import adopt
from pipeline_assets.recovery.history import History, history
from pipeline_assets.recovery.resume import resume
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.recovery.commanding import Parts, command, said
from pipeline_assets_tests.recovery.rolling import Shop


@pytest.fixture
def shop(instance: dg.DagsterInstance, tables: Location) -> Shop:
    return Shop(instance, tables, skip=True)


def of(shop: Shop, stage: str | None = None, limit: int = 50) -> History:
    return history(shop.instance, shop.defs.get_repository_def(), "shop", stage, limit=limit)


def states(found: History) -> list[tuple[int, str, bool]]:
    points = [(one.event.checkpoint, one) for one in found.lines]
    return [(point.version, one.state, one.restorable) for point, one in points if point is not None]


def test_each_checkpoint_is_live_replaced_undone_or_gone(shop: Shop) -> None:
    first, second = shop.run(1), shop.run(2)
    assert states(of(shop, "a")) == [(1, "live", True), (0, "replaced", True)]
    assert [(one.run, one.restorable) for one in of(shop).points] == [(second, True), (first, True)]
    shop.undo(second)
    assert states(of(shop, "shop/a")) == [(3, "live", True), (1, "undone", False), (0, "replaced", True)]
    assert [one.event.flags for one in of(shop, "a").lines] == [("restored",), (), ()]
    assert [(one.run, set(one.versions.values())) for one in of(shop).points] == [(first, {0})]
    shop.undo(first)
    assert states(of(shop, "a"))[0] == (5, "nothing", False)
    assert [one.state for one in of(shop, "a").lines].count("live") == 0
    assert of(shop).points == []


def test_what_was_vacuumed_cannot_be_gone_back_to_and_says_which_file(shop: Shop) -> None:
    for value in (1, 2):
        shop.run(value)
    table = DeltaTable(shop.places()[0].uri)
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    replaced = of(shop, "a").lines[1]
    assert (replaced.state, replaced.restorable) == ("replaced", False)
    assert replaced.why is not None
    assert replaced.why.startswith("its file part-")
    assert replaced.why.endswith(".parquet was vacuumed")
    assert [one.restorable for one in of(shop).points] == [True, False]
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
    DeltaTable(table.table_uri).create_checkpoint()
    DeltaTable(table.table_uri).cleanup_metadata()
    assert [one.why for one in of(shop, "a").lines] == [None, "the log of version 0 was cleaned up"]


def test_a_version_that_was_compacted_before_its_files_were_vacuumed_can_be_gone_back_to(shop: Shop) -> None:
    shop.run(1)
    place = shop.places()[0].uri
    DeltaTable(place).optimize.z_order(["value"])
    DeltaTable(place).vacuum(0, dry_run=False, enforce_retention_duration=False)
    shop.run(2)
    assert [(state, restorable) for _, state, restorable in states(of(shop, "a"))] == [
        ("live", True),
        ("replaced", True),
    ]
    shop.back_to(of(shop).points[1].run)
    assert shop.values()["a"] == 1


def test_a_table_that_is_gone_says_so_of_its_checkpoints(shop: Shop) -> None:
    shop.run(1)
    shutil.rmtree(shop.places()[0].uri)
    assert [(one.state, one.why) for one in of(shop, "a").lines] == [("gone", "its Delta table is not there any more")]


def test_the_document_says_of_each_checkpoint_what_it_was_made_from(shop: Shop) -> None:
    first = shop.run(1)
    shop.instance.delete_run(first)
    adopt(shop.instance, shop.defs.get_repository_def(), "shop/b")
    second = shop.run(1, "c")
    found = said("history", "shop", "--limit", "2")
    newest, before = found["checkpoints"]
    assert (newest["stage"], newest["run"], newest["inputs"], newest["rows"]) == ("shop/c", second, {"shop/b": 0}, 1)
    assert (before["stage"], before["run"], before["chain"], before["flags"]) == ("shop/b", None, first, ["adopted"])
    assert found["more"] is False
    text, number = (str, type(None)), (int, type(None))
    types = {"stage": str, "partition": text, "version": int, "table_id": str, "at": str, "run": text, "chain": text}
    types |= {"attempt": int, "rows": number, "rows_in": int, "rows_quarantined": int, "rows_dropped": int}  # type: ignore[dict-item]
    types |= {"engine": str, "inputs": dict, "flags": list, "state": str, "restorable": bool, "why": text}
    for one in found["checkpoints"]:
        assert one.keys() == types.keys()
        assert all(isinstance(one[name], kind) for name, kind in types.items())


def test_a_rollback_point_is_there_whichever_stage_is_asked_for_and_only_where_all_of_it_is_shown(shop: Shop) -> None:
    shop.broken = "c"
    failed = shop.run(1)
    shop.broken = ""
    resumed = resume(shop.instance, failed, shop.job).run_id
    assert [[point.run for point in of(shop, name).points] for name in "abc"] == [[resumed]] * 3
    found = history(shop.instance, shop.defs.get_repository_def(), "shop", limit=2)
    assert (len(found.lines), found.points, found.more) == (2, [], True)


def test_of_a_rollback_point_with_many_partitions_the_first_are_named(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_assets.cli.history.MOST", 2)
    run = shop.run(1)
    done = command("history", "shop")
    assert f"shop/c version 0, shop/b version 0, and 1 more; `pipeline-assets rollback --to {run}" in done.stdout
    assert said("history", "shop")["rollback_points"][0]["versions"] == {f"shop/{name}": 0 for name in "abc"}


def test_a_run_that_skipped_says_whose_version_it_left(shop: Shop) -> None:
    shop.run(1)
    shop.computed.clear()
    run = shop.job.execute_in_process(
        instance=shop.instance, asset_selection=[dg.AssetKey(["shop", "b"])], raise_on_error=False
    ).run_id
    newest = of(shop, "b").lines[0]
    assert (shop.computed, newest.event.run, newest.event.flags, newest.state) == ([], run, ("skipped",), "live")
    done = command("history", "shop", "b")
    assert done.stdout.splitlines()[1].split("  ")[1] == "live, skipped"


def test_a_partition_is_asked_for_alone_and_pages_go_on_where_the_limit_ends(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    parts = Parts(instance, io_manager())
    for key in ("x", "y", "x"):
        parts.run(key, "first")
    repository = parts.repository
    alone = history(instance, repository, "parts", "first", "x")
    assert ([one.event.partition for one in alone.lines], alone.more) == (["x", "x"], False)
    two = history(instance, repository, "parts", "first", limit=2)
    assert ([one.event.partition for one in two.lines], two.more) == (["x", "y"], True)
    with pytest.raises(Exception, match="No checkpoint of parts has partition z"):
        history(instance, repository, "parts", partition="z")
