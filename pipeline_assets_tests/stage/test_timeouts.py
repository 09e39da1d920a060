"""Time-outs where the caller's process lives on: the stage raises at the next return to Python, and commits nothing."""

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable

from pipeline_assets import stage
from pipeline_assets.delta import names
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.table import open_table
from pipeline_assets.policy.children import MARK
from pipeline_assets.policy.clock import Clock, TimeIsUp
from pipeline_assets.processes import is_alive
from pipeline_assets_tests.io_manager.running import failure, rows, run
from pipeline_assets_tests.recovery import children
from pipeline_assets_tests.stage import caller

ONE = pl.DataFrame({"n": [1]})
LONG = 60


def in_time(instance: dg.DagsterInstance, root: Path, assets: list[dg.AssetsDefinition]) -> str:
    """What the run says that fails well before the long thing is over."""
    began = time.monotonic()
    result = run(instance, root, assets, ok=False)
    assert time.monotonic() - began < LONG / 2
    return failure(result)


def test_a_stage_that_sleeps_is_woken(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(timeout=0.3)
    def slow() -> pl.DataFrame:
        time.sleep(LONG)
        return ONE

    assert "slow failed, it is not tried again: permanent, timed out after 0.3 s" in in_time(instance, tmp_path, [slow])
    assert not (tmp_path / "public" / "slow").exists()


def test_a_stage_that_catches_every_exception_ends_too(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(timeout=0.3)
    def stubborn() -> pl.DataFrame:
        while True:
            with contextlib.suppress(Exception):  # as people do
                time.sleep(LONG)

    assert "timed out after 0.3 s" in in_time(instance, tmp_path, [stubborn])


def test_a_stage_is_judged_as_timed_out_also_where_polars_makes_the_exception_anew(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """Of what a function of the user's raised in an eager query."""

    @stage(timeout=0.3)
    def eager() -> pl.DataFrame:
        def slow(number: int) -> int:
            time.sleep(LONG)
            return number

        return ONE.with_columns(pl.col("n").map_elements(slow, return_dtype=pl.Int64))

    assert "eager failed, it is not tried again: permanent, timed out" in in_time(instance, tmp_path, [eager])


def test_a_stage_ends_too_where_python_throws_the_exception_away(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    class Deaf:
        def __del__(self) -> None:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                pass

    @stage(timeout=0.3)
    def tidy() -> pl.DataFrame:
        Deaf()
        time.sleep(LONG)
        return ONE

    assert "timed out after 0.3 s" in in_time(instance, tmp_path, [tidy])


def test_writing_counts(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    def slowly(frame: pl.DataFrame) -> pl.DataFrame:
        time.sleep(1)
        return frame

    @stage(timeout=0.3)
    def lazy() -> pl.LazyFrame:
        return ONE.lazy().map_batches(slowly)

    assert "timed out after 0.3 s" in in_time(instance, tmp_path, [lazy])
    assert not (tmp_path / "public" / "lazy" / "_delta_log").exists()


def test_a_generator_ends_in_its_middle(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(timeout=1, outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
    def both() -> Iterator[dg.Output[pl.DataFrame]]:
        yield dg.Output(ONE, output_name="left")
        time.sleep(LONG)
        yield dg.Output(ONE, output_name="right")

    assert "left, right failed, it is not tried again: permanent, timed out after 1 s" in in_time(
        instance, tmp_path, [both]
    )
    assert not (tmp_path / "public" / "right").exists()


@pytest.mark.parametrize("blocking", [False, True])
def test_a_coroutine_ends_whether_it_waits_or_blocks(
    blocking: bool, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @stage(timeout=0.3)
    async def slow() -> pl.DataFrame:
        if blocking:
            time.sleep(LONG)  # noqa: ASYNC251  as people write it
        await asyncio.sleep(LONG)
        return ONE

    assert "timed out after 0.3 s" in in_time(instance, tmp_path, [slow])


def test_an_asynchronous_generator_ends(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    async def numbers() -> AsyncIterator[int]:
        await asyncio.sleep(LONG)
        yield 1

    @stage(timeout=0.3)
    async def slow():  # type: ignore[no-untyped-def]  # noqa: ANN202  Dagster knows no AsyncIterator
        async for number in numbers():
            yield dg.Output(pl.DataFrame({"n": [number]}))

    assert "timed out after 0.3 s" in in_time(instance, tmp_path, [slow])


def test_in_another_thread_than_the_main_one_it_ends_as_well(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(timeout=0.3)
    def slow() -> pl.DataFrame:
        while True:
            time.sleep(0.01)

    said = []
    thread = threading.Thread(target=lambda: said.append(in_time(instance, tmp_path, [slow])))
    thread.start()
    thread.join()
    assert "timed out after 0.3 s" in said[0]


def of_a_caller(home: Path, how: str) -> dict[str, Any]:
    """What `caller` prints: in a process of its own, since pytest-xdist has threads in this one."""
    done = children.run(["-m", caller.__name__, str(home / "data"), how])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_child_processes_of_a_stage_end_with_it_and_others_do_not(home: Path) -> None:
    found = of_a_caller(home, "alone")
    assert "permanent, timed out after 2 s." in found["said"]
    assert found["alive"] == ["before", "pool's"]


def test_beside_other_threads_of_the_caller_no_process_is_ended_and_the_failure_says_so(home: Path) -> None:
    found = of_a_caller(home, "beside")
    assert found["alive"] == ["before", "orphan", "other thread's", "pool's", "stage's"]
    pids = ", ".join(map(str, sorted([found["pids"]["stage's"], found["pids"]["other thread's"]])))
    said = f"timed out after 2 s; processes that it, or another thread, began were left alone (pid {pids})"
    assert said in found["said"]


def test_an_attempt_in_an_attempt_leaves_the_mark_of_the_outer(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    marks = []

    @stage
    def inner() -> pl.DataFrame:
        marks.append(os.environ[MARK])
        return ONE

    @stage
    def outer() -> pl.DataFrame:
        before = os.environ[MARK]
        run(instance, tmp_path, [inner])
        marks.extend([before, os.environ[MARK]])
        return ONE

    run(instance, tmp_path, [outer])
    assert marks[0] != marks[1] == marks[2]
    assert MARK not in os.environ


def test_a_stage_that_may_be_tried_again_is_and_succeeds(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    calls = []

    @stage(timeout=2, retry_on_timeout=True, max_retries=1)
    def slow_at_first() -> pl.DataFrame:
        calls.append(1)
        if len(calls) == 1:
            time.sleep(LONG)
        return ONE

    run(instance, tmp_path, [slow_at_first])
    assert len(calls) == 2
    assert rows(tmp_path, "slow_at_first") == [(1,)]


def test_each_attempt_has_the_whole_time(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    calls = []

    @stage(timeout=3)
    def slow() -> pl.DataFrame:
        calls.append(1)
        time.sleep(1.8)
        if len(calls) == 1:
            raise ConnectionResetError
        return ONE

    run(instance, tmp_path, [slow])
    assert len(calls) == 2


def test_a_stage_that_is_quick_enough_is_not_disturbed_later(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    @stage(timeout=2)
    def quick() -> pl.DataFrame:
        return ONE

    @stage
    def after(quick: pl.DataFrame) -> pl.DataFrame:
        time.sleep(2.5)  # until long after the time of the first would have been up
        return quick

    run(instance, tmp_path, [quick, after])


def test_the_attempt_that_timed_out_is_fenced(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    slow = [False]

    @stage(timeout=2)
    def numbers() -> pl.DataFrame:
        time.sleep(LONG if slow[0] else 0)
        return ONE

    run(instance, tmp_path, [numbers])
    slow[0] = True
    result = run(instance, tmp_path, [numbers], ok=False)
    table = open_table(Location.of(str(tmp_path / "public" / "numbers")))
    assert table is not None
    began = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.STEP_START)[0].timestamp
    assert table.txns[names.fence(chain_id(result.run_id))] == int(began * 1000) + 1


def test_what_is_committed_when_the_time_is_up_stands_and_is_adopted_by_the_next_attempt(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    @stage(timeout=3, retry_on_timeout=True, max_retries=1, outs={"left": dg.AssetOut(), "right": dg.AssetOut()})
    def both(context: dg.AssetExecutionContext) -> Iterator[dg.Output[pl.DataFrame]]:
        yield dg.Output(ONE, output_name="left")
        time.sleep(0 if context.retry_number else LONG)
        yield dg.Output(ONE, output_name="right")

    run(instance, tmp_path, [both])
    history = DeltaTable(tmp_path / "public" / "left").history()
    assert [one["operationParameters"].get("checkpoint") for one in history].count("overwrite") == 1


def test_a_clock_rings_only_inside_what_it_guards() -> None:
    clock = Clock(0.05)
    end = time.monotonic() + 0.2
    while time.monotonic() < end:  # rings here, where Dagster may be storing an event
        pass
    with pytest.raises(TimeIsUp), clock.inside():
        pass


def test_a_clock_that_was_stopped_rings_no_more() -> None:
    clock = Clock(0.05)
    clock.stop()
    with clock.inside():
        time.sleep(0.2)
    assert not clock.rung
    assert is_alive(os.getpid(), time.time())


def test_a_stage_in_a_stage_leaves_the_outer_ones_time_to_the_outer(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    calls = []

    @stage(max_retries=2)
    def inner() -> pl.DataFrame:
        calls.append(1)
        time.sleep(LONG)
        return ONE

    @stage(timeout=2)
    def outer() -> pl.DataFrame:
        run(instance, tmp_path, [inner])
        return ONE

    assert "outer failed, it is not tried again: permanent, timed out after 2 s" in in_time(instance, tmp_path, [outer])
    assert calls == [1]


def test_a_stage_that_has_an_event_loop_of_its_own_ends(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    async def many() -> None:
        for _ in range(10 * LONG):
            await asyncio.sleep(0.1)

    @stage(timeout=0.5)
    def slow() -> pl.DataFrame:
        asyncio.run(many())
        return ONE

    assert "timed out after 0.5 s" in in_time(instance, tmp_path, [slow])
