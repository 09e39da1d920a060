"""The rollback table: a fold of small rows, one rollback at a time, and a lock that a dead owner does not keep."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.rollback_store import (
    DONE,
    HOLDING,
    LIFTING,
    MANY_FILES,
    RESTORING,
    SECONDS,
    AtWork,
    Fold,
    Owner,
    Store,
)
from pipeline_assets_tests.recovery.children import run


def test_what_is_read_of_no_table_is_nothing_and_makes_none(root: Path) -> None:
    assert Store(Location.of(str(root))).read() == Fold()
    assert os.listdir(root) == []


def test_a_plan_is_written_down_moved_on_and_read_by_another(root: Path) -> None:
    store = Store(Location.of(str(root)))
    stored = store.begin({"any": ["plan", 2**60]})
    assert store.advance(stored.id, HOLDING, RESTORING)
    assert store.advance(stored.id, HOLDING, RESTORING), "done already"
    assert not store.advance(stored.id, HOLDING, LIFTING), "another was first"
    found = Store(Location.of(str(root))).read()
    assert found.open == found.plans[stored.id]
    assert (found.plans[stored.id].state, found.plans[stored.id].plan) == (RESTORING, {"any": ["plan", 2**60]})
    with pytest.raises(AtWork, match=f"Rollback {stored.id} is not at its end"):
        store.begin({})
    store.advance(stored.id, RESTORING, DONE)
    assert store.begin({}).id > stored.id


def test_a_lock_is_its_owners_until_it_is_given_back(root: Path) -> None:
    store = Store(Location.of(str(root)))
    with store.locked("the first"):
        with pytest.raises(AtWork, match=r"the first is at work .* Nothing was changed"), store.locked("the second"):
            pass
        owner = store.read().owner
        assert owner is not None
        assert owner.what == "the first"
    with store.locked("the second"):
        pass
    assert store.read().owner is None


def test_a_lock_is_taken_over_from_a_dead_process_at_once(root: Path) -> None:
    dies = f"""
import os, signal
from pipeline_assets.delta.location import Location
from pipeline_assets.recovery.rollback_store import Store
with Store(Location.of({str(root)!r})).locked("who dies"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    os.environ.setdefault("DAGSTER_HOME", str(root))
    assert run(["-c", dies]).returncode < 0
    store = Store(Location.of(str(root)))
    owner = store.read().owner
    assert owner is not None
    assert owner.what == "who dies"
    with store.locked("who lives"):
        pass


def test_of_another_host_the_heartbeat_tells() -> None:
    far, me, now = replace(Owner("far"), host="elsewhere"), Owner("me"), time.time() * 1000
    assert not Fold(far, int(now)).free_for(me)
    assert Fold(far, int(now - SECONDS * 1000 - 1)).free_for(me)
    assert not Fold(replace(Owner("here")), int(now)).free_for(me)
    assert Fold(replace(Owner("here"), boot="an earlier one"), int(now)).free_for(me)


def test_many_rows_become_one_file_and_say_the_same(root: Path) -> None:
    store = Store(Location.of(str(root)))
    for _ in range(MANY_FILES // 2):
        store.advance(store.begin({}).id, HOLDING, DONE)
    before = store.read()
    with store.locked("tidying"):
        pass
    after = store.read()
    assert (after.plans, after.owner) == (before.plans, None)
    fresh = [path for path in Path(store.location.uri).rglob("*.parquet") if "checkpoint" not in path.name]
    assert len(fresh) > MANY_FILES
