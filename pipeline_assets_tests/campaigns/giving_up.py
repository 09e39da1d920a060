"""How an attempt is given up while its process is stopped: what others do meanwhile, with Dagster's own calls and ours."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import dagster as dg
from dagster import DagsterEvent, DagsterEventType, DagsterRun
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._core.execution.plan.objects import StepRetryData
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster_shared.error import SerializableErrorInfo

from pipeline_assets.chains import chain_of
from pipeline_assets.delta import restore as rollbacks
from pipeline_assets.delta.commit import Deadline
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.partitions import OneOf, Partition
from pipeline_assets.delta.restore import Rollback, Target
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.recovery.resume import resumable, resume
from pipeline_assets.step_starts import step_starts
from pipeline_assets_tests.campaigns.pauses import STAGE
from pipeline_assets_tests.campaigns.zombie import SECONDS, Work, Zombie, job_of, wait_for
from pipeline_assets_tests.recovery.evidence import elsewhere, messages

OUTPUT, STEP = f"z/{STAGE}", f"z__{STAGE}"
MODE_OF = {"overwrite": Mode.OVERWRITE, "partitions": Mode.OVERWRITE, "append": Mode.APPEND, "merge": Mode.MERGE}


class Wrong(Exception):
    """Something that must not be."""


def location_of(work: Work) -> Location:
    """Where the stage's table lies, or is to lie."""
    return Location.of(str(work.root / "z" / STAGE))


def table_of(work: Work) -> Table:
    """The stage's table, through a fresh handle."""
    table = open_table(location_of(work))
    if table is None:
        raise Wrong("there is no table")
    return table


def continue_chain(zombie: Zombie, who: str) -> None:
    """`pipeline-assets resume RUN --gone`, to its end."""
    elsewhere(zombie.instance, zombie.run_id)
    run = resumable(zombie.instance, zombie.run_id, gone=True)
    done = resume(zombie.instance, run.run_id, job_of(replace(zombie.work, who=who, timeout=None)))
    if not done.success:
        raise Wrong(f"the resume failed: {messages(zombie.instance, str(done.run_id))[-3000:]}")


def resumed(zombie: Zombie) -> None:
    """Somebody takes the run for dead, and resumes it."""
    continue_chain(zombie, "winner")


def retried(zombie: Zombie) -> None:
    """The executor takes the step's process for dead, and starts the step again in the same run.

    As an executor with a container a step does that no longer sees its container (`check_step_health`): it reports
    STEP_UP_FOR_RETRY, and another process executes the step with the retries that are known.
    """
    instance, run = zombie.instance, _run_of(zombie)
    error = SerializableErrorInfo(f"Step {STEP} failed health check: its container is not seen any more", [], None)
    event = DagsterEvent(
        event_type_value=DagsterEventType.STEP_UP_FOR_RETRY.value,
        job_name=run.job_name,
        step_key=STEP,
        event_specific_data=StepRetryData(error=error),
        message=f"Execution of step {STEP} failed and has requested a retry.",
    )
    instance.report_dagster_event(event, run.run_id, logging.ERROR)
    job = InMemoryJob(job_of(replace(zombie.work, who="winner", timeout=None)))
    known = KnownExecutionState(previous_retry_attempts={STEP: 1})
    plan = create_execution_plan(job, step_keys_to_execute=[STEP], known_state=known, tags=run.tags)
    events = list(execute_plan_iterator(plan, job, run, instance, retry_mode=RetryMode.DEFERRED))
    if not any(one.is_step_success for one in events):
        raise Wrong("the later attempt failed")


def timed_out(zombie: Zombie) -> None:
    """Its time is up; nobody does anything."""
    end = time.monotonic() + (zombie.work.timeout or 0)  # from the pause on, so surely later than the attempt's own end
    wait_for(lambda: time.monotonic() > end, "time stands still")


def killed_by_the_watcher(zombie: Zombie) -> None:
    """Its time is up in a process that is watched: that is ended although it is stopped."""
    if (status := zombie.ended()) != -9:
        raise Wrong(f"the process that is watched ended with {status}")
    wait_for(lambda: _run_of(zombie).is_finished, "the run of the process that was ended does not end")


def cancelled(zombie: Zombie) -> None:
    """The run is marked cancelled; no process hears of it."""
    zombie.instance.report_run_canceled(_run_of(zombie), "Cancelled by hand.")


def failed(zombie: Zombie) -> None:
    """The run is marked failed."""
    zombie.instance.report_run_failed(_run_of(zombie), "Marked failed by hand.")


def undone(zombie: Zombie) -> None:
    """Its chain commits by a resume, and is rolled back."""
    continue_chain(zombie, "undone")
    roll_back(zombie)


def undone_before(zombie: Zombie) -> None:
    """Its chain is rolled back before it has written anything to the table."""
    _made_by_somebody(zombie)
    roll_back(zombie)


def lifted(zombie: Zombie) -> None:
    """A rollback of its chain holds the table and lifts the hold: its fence stays."""
    _made_by_somebody(zombie)
    roll_back(zombie, lift=True)


WAYS: dict[str, Callable[[Zombie], None]] = {
    "resumed": resumed,
    "retried": retried,
    "timed out": timed_out,
    "timed out, watched": killed_by_the_watcher,
    "cancelled": cancelled,
    "marked failed": failed,
    "undone": undone,
    "undone, nothing written": undone_before,
    "rollback lifted": lifted,
}
WATCHED = "timed out, watched"
TIMED = {"timed out", WATCHED}
ENDS_BY_LOG = {"cancelled", "marked failed", "timed out"}
"""Where nothing in the table tells that the attempt was given up."""


def write_beside(zombie: Zombie, key: str | None) -> None:
    """Another chain writes the stage."""
    job = job_of(replace(zombie.work, who="other", key=key, timeout=None))
    done = job.execute_in_process(
        instance=zombie.instance, partition_key=key, asset_selection=[dg.AssetKey(["z", STAGE])], raise_on_error=False
    )
    if not done.success:
        raise Wrong("another chain's write failed")


def roll_back(zombie: Zombie, *, lift: bool = False) -> None:
    """Hold, with a fence above all attempts of the chain, then restore what was there before; or lift the hold."""
    table, key, deadline = table_of(zombie.work), zombie.work.key or WHOLE, Deadline(SECONDS)
    chain = chain_of(zombie.instance, _run_of(zombie))
    made = [(version, record.parts[key]) for version, record in table.records(OUTPUT) if key in record.parts]
    mine = tuple(part.name(OUTPUT, key) for _, part in made if part is not None and part.chain == chain.first)
    before = next(((version, part) for version, part in made if part and part.chain != chain.first), (None, None))
    partition = Partition(key, {"color": OneOf((key,))} if zombie.work.mode == "partitions" else {})
    target = Target(partition, mine[0], mine, *before) if mine else Target(partition, None)
    plan = Rollback(7, OUTPUT, [target], {chain.number: _fence(zombie)}, MODE_OF[zombie.work.mode])
    if not rollbacks.hold(table, plan, deadline):
        raise Wrong("the rollback could not hold the table")
    (rollbacks.lift if lift else rollbacks.restore)(table, plan, deadline)


def _fence(zombie: Zombie) -> int:
    """Above every attempt of the chain, and at least now."""
    runs = [run.run_id for run in zombie.instance.get_runs() if zombie.run_id in (run.run_id, run.parent_run_id)]
    starts = [moment for run_id in runs for moment in step_starts(zombie.instance, run_id, STEP)]
    return max([int(time.time() * 1000), *(moment + len(starts) for moment in starts)])


def _made_by_somebody(zombie: Zombie) -> None:
    """A table that is not there cannot be rolled back."""
    if open_table(location_of(zombie.work)) is None:
        write_beside(zombie, zombie.work.key)


def _run_of(zombie: Zombie) -> DagsterRun:
    run = zombie.instance.get_run_by_id(zombie.run_id)
    if run is None:
        raise Wrong("the zombie's run is not in the instance")
    return run
