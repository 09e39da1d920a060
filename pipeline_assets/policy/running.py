"""An attempt of a stage that is at work in this process."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRun

from pipeline_assets.delta.names import first_to_last
from pipeline_assets.errors import describe
from pipeline_assets.io.steps import Step
from pipeline_assets.policy.clock import Clock
from pipeline_assets.policy.policies import Policy, policy_of

_ENDS = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}
_RUN_ENDS = {DagsterEventType.PIPELINE_SUCCESS, DagsterEventType.PIPELINE_FAILURE, DagsterEventType.PIPELINE_CANCELED}


@dataclass(eq=False)
class Running:
    """One attempt of a stage: its policy, its clock, and what an IO manager tells of it.

    tables: where its outputs lie, by the output's name. step: what it has read, once it has begun. give_up: called when
    the attempt is given up while this process lives on; forbids it to commit. disarm: nobody need watch it any more.
    """

    policy: Policy
    clock: Clock
    instance: DagsterInstance
    run: DagsterRun
    step_key: str
    partitions: Sequence[str] = ()
    tables: dict[str, str] = field(default_factory=dict)
    started: bool = False
    step: Step | None = None
    give_up: Callable[[], None] = lambda: None
    disarm: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        """The stage, as messages name it, with its partitions."""
        return describe(", ".join(self.tables) or self.step_key, first_to_last(self.partitions))

    def stop(self) -> None:
        """The attempt is over."""
        self.clock.stop()
        if self.disarm is not None:
            self.disarm()
            self.disarm = None


_attempts: "weakref.WeakKeyDictionary[Any, Running]" = weakref.WeakKeyDictionary()
_by_run: dict[tuple[int, str], "weakref.WeakSet[Running]"] = {}


def running_of(step_context: Any) -> Running | None:
    """The attempt that a Dagster step context belongs to, begun now if it is new; None where it is no stage's."""
    if step_context is None:
        return None
    found = _attempts.get(step_context)
    if found is None and (policy := policy_of(step_context)) is not None:
        instance, run = step_context.instance, step_context.dagster_run
        found = Running(policy, Clock(policy.timeout), instance, run, step_context.step.key)
        _attempts[step_context] = found
        _stop_at_the_end(found)
    return found


def _stop_at_the_end(attempt: Running) -> None:
    """Of an attempt that ends well only Dagster's event tells."""
    known = id(attempt.instance), attempt.run.run_id
    if known in _by_run:
        _by_run[known].add(attempt)
        return
    of_run = _by_run[known] = weakref.WeakSet([attempt])

    def heard(entry: Any) -> None:
        event = entry.dagster_event
        if event is not None and event.event_type in _RUN_ENDS:
            _by_run.pop(known, None)
        if event is None or event.event_type not in _ENDS:
            return
        for one in list(of_run):
            if one.step_key == event.step_key:
                of_run.discard(one)
                one.stop()

    attempt.instance.add_event_listener(attempt.run.run_id, heard)
