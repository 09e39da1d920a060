"""Which run continues which, and which attempt of a step this is. Knows Dagster's runs, not Delta.

A run chain is a run and the runs that continue it from failure. A run continues its parent's chain when it has a
parent and executes only steps that did not succeed in the chain, or when our planner says so; every other
re-execution begins a chain of its own (DESIGN 4.7).
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import dagster as dg
from dagster import DagsterEventType, DagsterInstance, DagsterRun

from pipeline_assets.delta.record import chain_id
from pipeline_assets.step_starts import STARTS, heard, moment_of, newest_first, step_starts

CONTINUES_TAG = "pipeline_assets/continues"
"""Set by our planner: the id of the run that this one continues. A re-execution inherits it, and has another parent."""
BEGINS_TAG = "pipeline_assets/begins_after"
"""Set by our planner: the id of the parent of a run that begins a chain of its own, whatever it executes."""
_ENDS = {
    DagsterEventType.PIPELINE_FAILURE: "has failed already",
    DagsterEventType.PIPELINE_CANCELED: "was cancelled",
    DagsterEventType.PIPELINE_CANCELING: "is being cancelled",
    DagsterEventType.PIPELINE_SUCCESS: "has ended already",
}


@dataclass(frozen=True)
class Chain:
    """A run chain as one of its runs sees it: the run ids from the first to that run."""

    runs: tuple[str, ...]

    @property
    def first(self) -> str:
        """The id of the chain's first run."""
        return self.runs[0]

    @cached_property
    def number(self) -> int:
        """Its identity in the tables' logs."""
        return chain_id(self.first)


@dataclass(frozen=True)
class Attempt:
    """One execution of a step by a run.

    nth: 1 for the step's first in this run. number: when it began, ms; more than those of all attempts of the chain
    before it; asked of the event log when it is wanted. again: whether the chain has tried the step, or may have, before.
    since: when the chain began (ms), of a continuing run. detached: no instance knows of it.
    """

    chain: Chain
    run_id: str
    step_key: str
    nth: int
    numbered: Callable[[], int]
    detached: bool = False
    since: int | None = None

    @cached_property
    def number(self) -> int:
        """See above."""
        return self.numbered()

    @property
    def again(self) -> bool:
        """Whether this is a retry, or a continuing run."""
        return self.nth > 1 or len(self.chain.runs) > 1


def chain_of(instance: DagsterInstance, run: DagsterRun) -> Chain:
    """The chain of a run up to it."""
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id is not None else None
    if parent is None:
        return Chain((run.run_id,))
    before = chain_of(instance, parent)
    return Chain((*before.runs, run.run_id)) if _continues(instance, run, before) else Chain((run.run_id,))


def attempt_of(instance: DagsterInstance, run: DagsterRun, step_key: str, nth: int) -> Attempt:
    """The n-th attempt of a step by a run."""
    chain = chain_of(instance, run)

    def numbered() -> int:
        number = 0
        for run_id in chain.runs:
            own = heard(instance, run_id, step_key, nth) if run_id == run.run_id else None
            found = own or step_starts(instance, run_id, step_key, to_the_first=True)
            number = _numbered(found[:nth] if run_id == run.run_id else found, number)
        return number

    return Attempt(
        chain, run.run_id, step_key, nth, numbered, since=began(instance, chain) if len(chain.runs) > 1 else None
    )


def _numbered(moments: Iterable[int], before: int) -> int:
    """The number of the last of some attempts (PROTOCOL.md, "What is known"): its moment, and more than those before it."""
    for moment in moments:
        before = max(moment, before + 1)
    return before


def began(instance: DagsterInstance, chain: Chain) -> int | None:
    """When a chain's first run began (ms); None where it was deleted."""
    first = instance.get_run_record_by_id(chain.first)
    return int((first.start_time or first.create_timestamp.timestamp()) * 1000) if first is not None else None


def ended_at(instance: DagsterInstance, runs: Iterable[DagsterRun]) -> float:
    """When the last of some runs ended (s since 1970); 0 where none has, or was deleted."""
    records = (instance.get_run_record_by_id(run.run_id) for run in runs)
    return max((record.end_time for record in records if record is not None and record.end_time), default=0.0)


def detached(step_key: str) -> Attempt:
    """An attempt that no instance knows of: a chain of its own, beginning now."""
    run_id = str(uuid.uuid4())
    now = int(time.time() * 1000)
    return Attempt(Chain((run_id,)), run_id, step_key, 1, lambda: now, detached=True)


def why_stopped(instance: DagsterInstance, attempt: Attempt) -> str | None:
    """Why the event log says that an attempt is over: its run has ended, or a later one of the step has begun.

    One query: a run's status is changed by an event, and an attempt that a run made has begun with one.
    """
    if attempt.detached:
        return None
    begun = 0
    for entry in newest_first(instance, attempt.run_id, STARTS | set(_ENDS)):
        kind = entry.get_dagster_event().event_type
        if kind in _ENDS:
            return f"run {attempt.run_id} {_ENDS[kind]}"
        begun += entry.step_key == attempt.step_key
        if begun > attempt.nth:
            return f"a later attempt of step {attempt.step_key} has begun in run {attempt.run_id}"
    return None if begun else f"run {attempt.run_id} was deleted"


def why_followed(instance: DagsterInstance, attempt: Attempt) -> str | None:
    """Whether a run that continues this one has begun the step; asked where no table can tell, before it is created."""
    for run in _descendants(instance, attempt.run_id):
        if (
            step_starts(instance, run.run_id, attempt.step_key, any_will_do=True)
            and attempt.run_id in chain_of(instance, run).runs
        ):
            return f"run {run.run_id} continues run {attempt.run_id} and has begun step {attempt.step_key}"
    return None


def _descendants(instance: DagsterInstance, run_id: str) -> Iterator[DagsterRun]:
    for run in instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id})):
        yield run
        yield from _descendants(instance, run.run_id)


def runs_of(instance: DagsterInstance, run: DagsterRun) -> list[DagsterRun]:
    """All runs of the chain that a run belongs to, the first one first; a run may have been continued more than once."""
    chain = chain_of(instance, run)
    first = instance.get_run_by_id(chain.first)
    if first is None:
        return [run]
    later = _descendants(instance, chain.first)
    return [first, *(one for one in later if chain_of(instance, one).first == chain.first)]


def newest_attempt(instance: DagsterInstance, runs: Sequence[DagsterRun]) -> int:
    """The highest number of an attempt by the runs of a chain that the event log knows of, 0 for none."""
    starts: dict[str, dict[str, list[int]]] = {}
    for run in runs:
        of_run = starts.setdefault(run.run_id, {})
        for entry in newest_first(instance, run.run_id, STARTS):
            of_run.setdefault(entry.step_key or "", []).insert(0, moment_of(entry))
    highest = 0
    for run in runs:
        numbers: dict[str, int] = {}
        for run_id in chain_of(instance, run).runs:
            for step, moments in starts.get(run_id, {}).items():
                numbers[step] = _numbered(moments, numbers.get(step, 0))
        highest = max(highest, *numbers.values(), 0)
    return highest


def _continues(instance: DagsterInstance, run: DagsterRun, chain: Chain) -> bool:
    """Whether a run continues the chain of its parent: our planner says so, or it repeats nothing that succeeded there."""
    if run.tags.get(BEGINS_TAG) == chain.runs[-1]:
        return False
    return run.tags.get(CONTINUES_TAG) == chain.runs[-1] or not succeeded(instance, chain) & steps_of(instance, run)


def succeeded(instance: DagsterInstance, chain: Chain) -> set[str]:
    """Keys of the steps that succeeded in a chain."""
    return {
        entry.step_key
        for run_id in chain.runs
        for entry in instance.all_logs(run_id, of_type=DagsterEventType.STEP_SUCCESS)
        if entry.step_key
    }


def steps_of(instance: DagsterInstance, run: DagsterRun) -> set[str]:
    """Keys of the steps that a run executes."""
    if run.step_keys_to_execute:
        return set(run.step_keys_to_execute)
    if run.execution_plan_snapshot_id is None:
        return set()
    return set(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)


def parent_tags(run: DagsterRun) -> Mapping[str, str]:
    """The tags that make a new run the child of this one."""
    return {"dagster/parent_run_id": run.run_id, "dagster/root_run_id": run.root_run_id or run.run_id}
