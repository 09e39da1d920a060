"""Which attempt of a step is which."""

from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.chains import BEGINS_TAG, attempt_of, chain_of, parent_tags
from pipeline_assets.step_starts import heard, listen, step_starts


def test_an_attempt_keeps_its_number_when_a_later_one_has_begun(instance: dg.DagsterInstance, root: Path) -> None:
    """A process that was stopped before it asked for its number, and asks when its step was started again."""

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
        if context.retry_number < 2:
            raise ConnectionResetError
        return pl.DataFrame({"n": [1]})

    io = DeltaCheckpointIOManager(root_uri=str(root))
    result = dg.materialize([numbers], resources={"io_manager": io}, instance=instance)
    starts = step_starts(instance, result.run_id, "numbers")
    attempts = [attempt_of(instance, result.dagster_run, "numbers", nth) for nth in (1, 2, 3)]
    assert [one.number for one in attempts] == starts
    assert len(set(starts)) == 3


def test_what_a_process_heard_of_a_steps_attempts_is_what_the_event_log_says(
    instance: dg.DagsterInstance, root: Path
) -> None:
    seen: list[tuple[list[int] | None, list[int]]] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
        nth = context.retry_number + 1
        told = step_starts(context.instance, context.run.run_id, "numbers")
        seen.append((heard(context.instance, context.run.run_id, "numbers", nth), told))
        if nth < 3:
            raise ConnectionResetError
        return pl.DataFrame({"n": [1]})

    io = DeltaCheckpointIOManager(root_uri=str(root))
    run = dg.materialize([numbers], resources={"io_manager": io}, instance=instance)
    assert [len(told) for _, told in seen] == [1, 2, 3]
    assert all(own == told for own, told in seen)
    assert heard(instance, run.run_id, "numbers", 1) is None, "a run that is over is forgotten"


def test_a_process_that_did_not_hear_a_steps_first_start_asks_the_event_log(instance: dg.DagsterInstance) -> None:
    """As a process does that a step is retried in, after the process of its first attempt died."""

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
    def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
        if context.retry_number == 0:
            listen(context.instance, context.run.run_id)
            raise ConnectionResetError
        assert heard(context.instance, context.run.run_id, "numbers", 2) is None
        return pl.DataFrame({"n": [1]})

    @dg.io_manager
    def nothing() -> dg.IOManager:
        return dg.InMemoryIOManager()

    assert dg.materialize([numbers], resources={"io_manager": nothing}, instance=instance).success


def test_a_run_that_is_said_to_begin_a_chain_begins_one_though_nothing_succeeded_before(
    instance: dg.DagsterInstance,
) -> None:
    """What its parent committed without an event is to be made again, too. What re-executes it inherits the tag in vain."""

    @dg.op
    def numbers() -> int:
        return 1

    job = dg.GraphDefinition(name="numbers_job", node_defs=[numbers]).to_job()

    def child(parent: dg.DagsterRun, tags: dict[str, str]) -> dg.DagsterRun:
        tags = {**parent_tags(parent), **tags}
        run_id = instance.create_run_for_job(
            job, tags=tags, parent_run_id=parent.run_id, root_run_id=parent.run_id
        ).run_id
        return instance.get_run_by_id(run_id)

    first = instance.create_run_for_job(job)
    begins = child(first, {BEGINS_TAG: first.run_id})
    assert chain_of(instance, child(first, {})).first == first.run_id
    assert chain_of(instance, begins).runs == (begins.run_id,)
    assert chain_of(instance, child(begins, {BEGINS_TAG: first.run_id})).first == begins.run_id
