"""What a resume will leave as it is, because a newer chain has been there: the protocol's rules, asked beforehand."""

import time
from collections.abc import Iterable
from dataclasses import replace

from dagster import AssetKey, DagsterInstance, JobDefinition
from dagster._core.definitions.partitions.context import partition_loading_context

from pipeline_assets.chains import began
from pipeline_assets.delta.choose import choose_state
from pipeline_assets.delta.decide import Attempt, Facts, Keep, Mode, Pin, Rival, decide
from pipeline_assets.delta.states import made_by, states
from pipeline_assets.delta.table import Live
from pipeline_assets.io import pins
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.step_outputs import Written
from pipeline_assets.recovery.freshness import Looking
from pipeline_assets.recovery.plan import LEFT, Kept, Plan


def forecast(instance: DagsterInstance, plan: Plan, job: JobDefinition) -> Plan:
    """The plan, whose steps that are left say what they will keep.

    A forecast: the attempt decides by what it finds then, and by the inputs that it reads then.
    """
    asking = _Asking(instance, plan, job)
    steps = []
    with partition_loading_context(dynamic_partitions_store=instance):
        for step in plan.steps:
            keeps = asking.kept_by(step.written) if step.state == LEFT else []
            steps.append(replace(step, keeps=tuple(keeps)))
    return replace(plan, steps=steps)


class _Asking:
    """The tables, and what was said of them so far, step by step in their order."""

    def __init__(self, instance: DagsterInstance, plan: Plan, job: JobDefinition) -> None:
        self._instance, self._chain = instance, plan.chain
        self._since = began(instance, plan.chain)
        self._looking = Looking(instance, job)
        self._written: set[tuple[str, str]] = set()
        """Outputs and partitions that will be written."""

    def kept_by(self, written: Iterable[Written]) -> list[Kept]:
        """What a step will keep; the steps are asked in their order."""
        found = []
        for one in written:
            table = self._looking.table(one.output.name)
            for key in one.keys:
                live = table.live(one.output.name, key) if table is not None else None
                if table is not None and live is not None and self._keeps(one.output, key, live):
                    assert live.part is not None
                    found.append(Kept(one.output.name, key, live.version, live.part.chain))
                else:
                    self._written.add((one.output.name, key))
        return found

    def _keeps(self, output: Output, key: str, live: Live) -> bool:
        part = live.part
        if part is None or part.chain == self._chain.first or output.mode is not Mode.OVERWRITE:
            return False
        mine = {name: self._pin(output, key, name, pin) for name, pin in part.pins.items()}
        undone = any(self._looking.read_undone(output, key, part, name) for name in part.pins)
        rival = Rival(part.name(output.name, key), live.version, part.pins, undone)
        attempt = Attempt(self._chain.number, int(time.time() * 1000), mine, output.mode, self._since)
        return isinstance(decide(Facts(rivals=[rival]), attempt), Keep)

    def _pin(self, output: Output, key: str, name: str, theirs: Pin) -> Pin:
        """At which version the attempt will read an input."""
        table = self._looking.table(name)
        if table is None or not table.is_ours or table.id != theirs.table_id:
            seen = pins.observed(self._instance, self._chain, AssetKey(name.split("/")), theirs.table_id)
            return seen or theirs
        keys = self._looking.keys_read(output, key, name)
        if any((name, one) in self._written for one in keys):
            return Pin(table.id, table.version + 1)
        undone = table.undone()
        own = {
            one: names
            for one, (_, part) in made_by(table, name, keys, self._chain.first).items()
            if (names := frozenset({part.name(name, one)}) - undone)
        }
        state = choose_state(states(table, name, keys), own, undone)
        return Pin(table.id, state.version) if state is not None else theirs
