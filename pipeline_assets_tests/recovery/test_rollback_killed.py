"""A rollback that dies by SIGKILL after any of its commits is continued to the end; two at once, and others beside it."""

import os
import shutil
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from deltalake import DeltaTable

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.restorable import NotRestorable, TargetGone
from pipeline_assets.errors import GivenUp, PipelineAssetsError
from pipeline_assets.recovery.owed import owed
from pipeline_assets.recovery.refresh import refresh
from pipeline_assets.recovery.rollback import continue_, roll_back
from pipeline_assets.recovery.rollback_plan import UNDO, Asked
from pipeline_assets.recovery.rollback_planning import NothingToUndo
from pipeline_assets.recovery.rollback_store import LIFTED, RESTORING, Store
from pipeline_assets_tests.recovery import evidence, gathering
from pipeline_assets_tests.recovery.children import KILLED
from pipeline_assets_tests.recovery.rolling import Shop, shown, told, values
from pipeline_assets_tests.recovery.rolling_processes import REFUSED, days, end, rollback

COMMITS = 11
"""Lock, plan, three holds, all are held, three restores, the end, the lock given back."""


class Prepared:
    """Two runs of the shop, made once, copied for each test."""

    def __init__(self, folder: Path, blank_home: Path) -> None:
        self.folder = folder
        shutil.copytree(blank_home, folder / "home")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_HOME", str(folder / "home"))
            patch.setenv("PIPELINE_ASSETS_ROOT", str(folder / "tables"))
            with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
                shop = Shop(instance, Location.of(str(folder / "tables")))
                self.first, self.second = shop.run(1), shop.run(2)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, blank_home: Path) -> Prepared:
    return Prepared(tmp_path_factory.mktemp("two_runs"), blank_home)


@pytest.fixture
def shop(prepared: Prepared, home: Path, tables: Location) -> Shop:
    shutil.copytree(prepared.folder / "home", home, dirs_exist_ok=True)
    shutil.copytree(prepared.folder / "tables", tables.uri, dirs_exist_ok=True)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield Shop(opened, tables)


def restores(table: Location) -> int:
    return [entry.record["kind"] for entry in evidence.entries(table) if entry.record].count("restore")


def at_the_target(shop: Shop) -> None:
    """Every table is back, once, and told once; nothing is held, nothing is open."""
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert [restores(place) for place in shop.places()] == [1, 1, 1]
    assert [shown(place)["holds"] for place in shop.places()] == [{}, {}, {}]
    for stage in "abc":
        versions = Counter(event["delta/version"] for event in evidence.events(shop.instance, f"shop/{stage}"))
        assert max(versions.values()) == 1
        assert evidence.events(shop.instance, f"shop/{stage}")[0]["checkpoint/restored"] is True
    assert Store(shop.tables).read().open is None


def finish(shop: Shop, run: str) -> None:
    """What a person does who finds it half done."""
    if Store(shop.tables).read().open is not None:
        continue_(shop.instance, shop.job)
        return
    try:
        shop.undo(run)
    except NothingToUndo:
        return


@pytest.mark.parametrize("number", range(1, COMMITS + 1))
def test_a_rollback_that_is_killed_after_any_commit_is_ended(number: int, shop: Shop, prepared: Prepared) -> None:
    before = [shown(place) for place in shop.places()]
    died = rollback("--undo", prepared.second, "--yes", crash=f"rollback:{number}")
    assert end(died) == KILLED
    if number < 7:
        assert [{**shown(place), "holds": {}} for place in shop.places()] == before
    finish(shop, prepared.second)
    at_the_target(shop)


def test_one_that_is_not_killed_makes_so_many_commits(shop: Shop, prepared: Prepared) -> None:
    assert end(rollback("--undo", prepared.second, "--yes", crash=f"rollback:{COMMITS + 1}")) == 0
    at_the_target(shop)
    assert not Path(os.environ["DAGSTER_HOME"], "pipeline_assets_crashes").exists()


def test_what_others_wrote_since_a_crash_is_seen_and_it_is_planned_again(shop: Shop, prepared: Prepared) -> None:
    """The first table is held; the others move on before all are: what is there then stays."""
    assert end(rollback("--undo", prepared.second, "--yes", crash="rollback:3")) == KILLED
    shop.run(3, "b", "c")
    done = continue_(shop.instance, shop.job)
    states = {one.stage: [entry.state for entry in one.entries] for one in done.plan.tables}
    assert states == {"shop/a": ["live"], "shop/b": ["replaced"], "shop/c": ["replaced"]}
    assert shop.values() == {"a": 1, "b": 2, "c": 2}
    plans = Store(shop.tables).read().plans
    assert [one.state for number, one in plans.items() if number != done.id] == [LIFTED]
    assert [shown(place)["holds"] for place in shop.places()] == [{}, {}, {}]


def test_of_two_rollbacks_at_once_one_does_it_and_the_other_is_refused(shop: Shop, prepared: Prepared) -> None:
    both = [rollback("--undo", prepared.second, "--yes") for _ in range(2)]
    assert sorted(end(one) for one in both) == [0, REFUSED]
    at_the_target(shop)


def test_while_a_rollback_is_open_no_other_begins(shop: Shop, prepared: Prepared) -> None:
    assert end(rollback("--undo", prepared.second, "--yes", crash="rollback:5")) == KILLED
    with pytest.raises(PipelineAssetsError, match=r"is not at its end .*pipeline-assets rollback --continue"):
        shop.undo(prepared.first)
    assert end(rollback("--continue")) == 0
    at_the_target(shop)
    assert end(rollback("--continue")) == REFUSED


def test_a_run_that_writes_other_partitions_meanwhile_is_not_disturbed(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    rows = gathering.definitions().resolve_job_def("rows_job")
    undone, *others = gathering.KEYS
    first = rows.execute_in_process(instance=instance, partition_key=undone).run_id
    beside = days(*others)
    place = tables.child("days", "rows")
    while len(values(place, "day")) < 2:
        assert beside.is_alive()
    roll_back(instance, rows, Asked(UNDO, first))
    assert end(beside) == 0
    assert values(place, "day") == sorted(others)
    evidence.all_lawful(instance, [place])


def test_a_day_is_undone_while_other_days_gather_and_is_as_if_it_had_never_been(
    instance: dg.DagsterInstance, tables: Location
) -> None:
    """Whatever the others had read when it went: none of them ends red, and none is missing."""
    job = gathering.definitions().resolve_job_def("days_job")
    undone, *others = gathering.KEYS[:5]
    first = job.execute_in_process(instance=instance, partition_key=undone).run_id
    beside = days(*others, job="days_job")
    gathered = tables.child("days", "all_days")
    while len(values(gathered, "day")) < 2:
        assert beside.is_alive()
    done = roll_back(instance, job, Asked(UNDO, first))
    stages = [one.stage for one in done.plan.tables]
    assert refresh(instance, job, done.id, stages).success
    assert end(beside) == 0
    assert refresh(instance, job, done.id, stages).left == []
    assert values(gathered, "day") == sorted(others)
    assert evidence.rows(tables.child("days", "counted"))["days"].to_list() == [len(others)]
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


def test_a_zombie_of_an_undone_run_cannot_commit(instance: dg.DagsterInstance, tables: Location) -> None:
    """Its process was taken for dead by a person's word, and goes on."""

    def undo(run: str) -> None:
        evidence.elsewhere(instance, run)
        shop.undo(run, gone=True)

    shop = Shop(instance, tables)
    shop.run(1)
    shop.meanwhile = undo
    second = shop.run(2)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert shop.instance.get_run_by_id(second).is_failure
    assert GivenUp.__name__ in evidence.messages(instance, second)
    shop.meanwhile = lambda _: None
    told().write_text("3")
    shop.run(3)
    assert shop.values() == {"a": 3, "b": 3, "c": 3}


def lose(shop: Shop, stage: str) -> Path:
    """Take the file away that a stage's table had at version 0; where it is now."""
    place = shop.tables.child("shop", stage)
    (path,) = DeltaTable(place.uri, version=0).file_uris()
    return Path(path).rename(Path(shop.tables.uri, f"lost-{stage}.parquet"))


def test_where_a_target_goes_before_any_table_is_back_all_is_lifted(shop: Shop, prepared: Prepared) -> None:
    before = [shown(place) for place in shop.places()]
    assert end(rollback("--undo", prepared.second, "--yes", crash="rollback:6")) == KILLED
    lose(shop, "b")
    with pytest.raises(NotRestorable, match=r"was vacuumed\. Nothing in it was changed"):
        continue_(shop.instance, shop.job)
    assert [shown(place) for place in shop.places()] == before
    fold = Store(shop.tables).read()
    assert (fold.open, fold.owner) == (None, None)
    shop.run(3)
    assert shop.values() == {"a": 3, "b": 3, "c": 3}


def test_one_that_was_lifted_is_never_restored_by_whoever_comes_late(shop: Shop, prepared: Prepared) -> None:
    """The first table was lifted, and who did it died before it could say so."""
    assert end(rollback("--undo", prepared.second, "--yes", crash="rollback:6")) == KILLED
    file = lose(shop, "b")
    assert end(rollback("--continue", crash="rollback:2")) == KILLED
    assert Store(shop.tables).read().open.state == RESTORING
    file.rename(DeltaTable(shop.places()[1].uri, version=0).file_uris()[0])
    done = continue_(shop.instance, shop.job)
    assert shop.values() == {"a": 1, "b": 1, "c": 1}
    assert [one.state for number, one in Store(shop.tables).read().plans.items() if number != done.id] == [LIFTED]
    assert [restores(place) for place in shop.places()] == [1, 1, 1]


def test_where_a_target_goes_when_tables_are_back_a_person_says_how_it_ends(shop: Shop, prepared: Prepared) -> None:
    assert end(rollback("--undo", prepared.second, "--yes", crash="rollback:7")) == KILLED
    lose(shop, "b")
    for _ in range(2):
        with pytest.raises(
            TargetGone, match=r"(?s)was vacuumed while rollback .* others are back already.*--overwrite"
        ):
            continue_(shop.instance, shop.job)
    assert shop.values() == {"a": 1, "b": 2, "c": 2}
    continue_(shop.instance, shop.job, overwrite=True)
    assert shop.values() == {"a": 1, "b": None, "c": 1}
    assert [(one.stage, one.why) for one in owed(shop.instance, shop.job)] == [
        ("shop/b", "behind"),
        ("shop/c", "behind"),
    ]
    assert [shown(place)["holds"] for place in shop.places()] == [{}, {}, {}]


def test_a_file_that_is_brought_back_ends_it_as_planned(shop: Shop, prepared: Prepared) -> None:
    assert end(rollback("--undo", prepared.second, "--yes", crash="rollback:7")) == KILLED
    file = lose(shop, "c")
    with pytest.raises(TargetGone):
        continue_(shop.instance, shop.job)
    file.rename(DeltaTable(shop.places()[2].uri, version=0).file_uris()[0])
    continue_(shop.instance, shop.job)
    at_the_target(shop)
