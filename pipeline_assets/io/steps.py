"""What one attempt of a step knows: who it is, what it read, what its outputs have committed already."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster import DagsterInstance
from deltalake import DeltaTable

from pipeline_assets.chains import Attempt, attempt_of, detached
from pipeline_assets.delta.decide import Pin
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.table import Table
from pipeline_assets.io.outputs import Output
from pipeline_assets.processes import beat, mark_place


class ComputeAgain(Exception):
    """What was computed may not be written, and is to be computed from other pins; not an error of the stage's."""

    def __init__(self, pins: Mapping[str, Pin], reason: str) -> None:
        self.pins, self.reason = dict(pins), reason
        super().__init__(reason)


@dataclass
class Read:
    """An input as the attempt reads it: from which table, at which pin, which partitions.

    kept_at: partitions that a foreign commit touched before the pin, read at their own checkpoint's version. ignored: all
    that one touched after their checkpoint, and the checkpoint's version. own_key: whether each partition that the step makes
    reads the one of its key. opened: the table at the version that is read.
    """

    output: Output
    table: Table
    pin: Pin
    partitions: list[Partition] = field(default_factory=list)
    kept_at: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    own_key: bool = False
    opened: DeltaTable | None = None

    @property
    def keys(self) -> list[str]:
        """The partition keys that are read."""
        return [one.key for one in self.partitions]


@dataclass(frozen=True)
class Outcome:
    """What became of one partition: the version and checkpoint that count, and the flag of its event."""

    version: int
    part: Part
    flag: str | None = None


@dataclass
class Step:
    """One attempt of a step.

    instance: None where there is no run (a value loaded by hand). told: for each input the pins from which the attempt is
    to compute, at least: what the outputs that are committed were made from, and what earlier attempts were told. settled:
    outputs (by name) that need not be computed, and what stands; tables: theirs. made_by: for a partition's key the code
    version, configuration and fingerprint that its checkpoint notes. still_wanted: raises where this process knows that
    the attempt may commit no more.
    """

    attempt: Attempt
    instance: DagsterInstance | None = None
    reads: dict[str, Read] = field(default_factory=dict)
    told: dict[str, set[Pin]] = field(default_factory=dict)
    begun: bool = False
    settled: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    made_by: Callable[[str], Mapping[str, Any]] | None = None
    still_wanted: Callable[[], None] = lambda: None

    @property
    def pins(self) -> dict[str, Pin]:
        """What was read, by the input's name."""
        return {name: read.pin for name, read in self.reads.items()}


_steps: "weakref.WeakKeyDictionary[Any, Step]" = weakref.WeakKeyDictionary()


def step_of(step_context: Any) -> Step:
    """The state of the step attempt that a Dagster context belongs to; the same object for the same attempt."""
    if step_context is None:
        return Step(detached(""))
    found = _steps.get(step_context)
    if found is None:
        nth = step_context.previous_attempt_count + 1
        instance: DagsterInstance = step_context.instance
        attempt = attempt_of(instance, step_context.dagster_run, step_context.step.key, nth)
        found = _steps[step_context] = Step(attempt, instance)
        if not attempt.detached:
            mark_place(instance, step_context.dagster_run)
            beat(step_context)
    return found
