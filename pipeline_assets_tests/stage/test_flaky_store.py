"""A flaky object store: runs end right and within their attempts. A real S3 server, behind a proxy that misbehaves."""

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from pipeline_assets.delta.probe import refuse_without_conditional_put
from pipeline_assets_tests.flaky import Fault, Flaky, flaky
from pipeline_assets_tests.io_manager.running import failure
from pipeline_assets_tests.recovery import evidence
from pipeline_assets_tests.seaweed import S3
from pipeline_assets_tests.stage import unsteady

COMMITS = r"squares/_delta_log/\d+\.json$"
FILES = r"squares/part-.*\.parquet$"


@pytest.fixture
def proxy(s3: S3) -> Iterator[Flaky]:
    """The proxy before this test's S3."""
    refuse_without_conditional_put.cache_clear()
    with flaky(s3) as opened:
        yield opened


def refuse_anything_wrong(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult, s3: S3) -> None:
    assert result.success, failure(result)
    unsteady.refuse_wrong_tables(instance, s3)
    unsteady.refuse_untold_failures(instance, result.run_id, unsteady.MAX_RETRIES)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_on_a_flaky_store_ends_right_and_within_its_attempts(
    seed: int, s3: S3, instance: dg.DagsterInstance
) -> None:
    with flaky(s3, seed) as proxy:
        proxy.misbehave(rate=0.06)
        result = unsteady.run(instance, proxy.s3)
        assert proxy.met
    refuse_anything_wrong(instance, result, s3)


@pytest.mark.parametrize("fault", [Fault.SLOW_DOWN, Fault.INTERNAL, Fault.DROPPED_BEFORE, Fault.ANSWER_CUT])
def test_a_store_that_never_answers_well_fails_the_stage_after_its_last_attempt(
    fault: Fault, proxy: Flaky, instance: dg.DagsterInstance
) -> None:
    proxy.misbehave(fault)
    result = unsteady.run(instance, proxy.s3, unsteady.stages(max_retries=2))
    assert not result.success
    assert unsteady.attempts(instance, result.run_id) == {"unsteady__numbers": 3}
    assert "unsteady/numbers failed, attempt 3 of 3 was the last: transient, S3" in failure(result)
    told = unsteady.failures(instance, result.run_id)["unsteady__numbers"]
    assert [one["stage/attempt"] for one in told] == [1, 2, 3]
    assert sum(proxy.met.values()) <= 3 * 2 * 3  # what is tried of an attempt, twice; and not again and again


def test_a_first_attempt_that_is_refused_is_followed_by_another(
    proxy: Flaky, s3: S3, instance: dg.DagsterInstance
) -> None:
    proxy.misbehave(Fault.SLOW_DOWN, methods=["PUT"], keys=COMMITS, times=2)
    result = unsteady.run(instance, proxy.s3)
    assert unsteady.attempts(instance, result.run_id)["unsteady__squares"] == 2
    (told,) = unsteady.failures(instance, result.run_id)["unsteady__squares"]
    assert told["said"] == "unsteady/squares: attempt 2 of 9 in 0 s: transient, S3 503 SlowDown"
    assert told["stage/error_class"] == "Throttled"
    refuse_anything_wrong(instance, result, s3)


@pytest.mark.parametrize("fault", [Fault.DROPPED_AFTER, Fault.ANSWER_CUT])
@pytest.mark.parametrize("table_is_there", [False, True])
def test_a_commit_whose_answer_was_lost_stands_and_is_not_doubled(
    fault: Fault, table_is_there: bool, proxy: Flaky, s3: S3, instance: dg.DagsterInstance
) -> None:
    if table_is_there:
        assert unsteady.run(instance, proxy.s3).success
    proxy.misbehave(fault, methods=["PUT"], keys=COMMITS, times=1)
    result = unsteady.run(instance, proxy.s3)
    assert result.success, failure(result)
    assert proxy.met[fault] == 1
    assert unsteady.attempts(instance, result.run_id)["unsteady__squares"] == 1
    squares = unsteady.tables(s3)["squares"]
    evidence.all_lawful(instance, [squares])
    assert [one[3] for one in evidence.writes(squares)] == list(range(1 + table_is_there))


def test_nor_is_one_that_nobody_could_ask_about_until_the_next_attempt(
    proxy: Flaky, s3: S3, instance: dg.DagsterInstance
) -> None:
    """The answer is lost, and so is the next question, whether the commit stands."""
    proxy.misbehave(Fault.SLOW_DOWN, methods=["GET", "HEAD"], keys=COMMITS, times=2)
    proxy.misbehave(Fault.DROPPED_AFTER, methods=["PUT"], keys=COMMITS, times=2)
    result = unsteady.run(instance, proxy.s3)
    refuse_anything_wrong(instance, result, s3)


def test_a_data_file_that_arrived_in_half_is_no_part_of_the_table(
    proxy: Flaky, s3: S3, instance: dg.DagsterInstance
) -> None:
    proxy.misbehave(Fault.REQUEST_CUT, methods=["PUT"], keys=FILES, times=20)
    result = unsteady.run(instance, proxy.s3)
    assert result.success, failure(result)
    assert proxy.met[Fault.REQUEST_CUT] == 20
    assert unsteady.attempts(instance, result.run_id)["unsteady__squares"] > 1
    refuse_anything_wrong(instance, result, s3)


def test_wrong_keys_are_not_tried_again(proxy: Flaky, instance: dg.DagsterInstance) -> None:
    result = unsteady.run(instance, replace(proxy.s3, secret_key="wrong"))  # noqa: S106  it is
    assert not result.success
    assert unsteady.attempts(instance, result.run_id) == {"unsteady__numbers": 1}
    assert "unsteady/numbers failed, it is not tried again: permanent, storage 403" in failure(result)


def test_a_probe_whose_answer_was_lost_is_right_nevertheless(
    proxy: Flaky, s3: S3, instance: dg.DagsterInstance
) -> None:
    proxy.misbehave(Fault.DROPPED_AFTER, methods=["PUT"], keys="_probe/", times=1)
    proxy.misbehave(Fault.SLOW_DOWN, methods=["DELETE", "POST"], times=2)
    result = unsteady.run(instance, proxy.s3)
    assert result.success, failure(result)
    assert unsteady.attempts(instance, result.run_id)["unsteady__numbers"] == 1
