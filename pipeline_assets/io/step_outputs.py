"""The outputs of a step that go into tables of ours, and how an attempt at the step begins."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dagster._core.execution.plan.outputs import StepOutputHandle

from pipeline_assets import faults
from pipeline_assets.io.beginning import begin
from pipeline_assets.io.outputs import Output, Settings, of_output, partition_keys
from pipeline_assets.io.steps import Step, step_of


@dataclass(frozen=True)
class Written:
    """An output of a step that goes into a table of ours, with the partition keys that the step writes.

    output_name: as the step names it.
    """

    output: Output
    keys: Sequence[str]
    output_name: str = ""


def handles_of(step_context: Any) -> list[StepOutputHandle]:
    """All outputs of the step; none where a value is written or loaded by hand."""
    if step_context is None:
        return []
    step = step_context.step
    return [StepOutputHandle(step.key, output.name) for output in step.step_outputs]


def stored_by(step_context: Any) -> list[StepOutputHandle]:
    """The selected outputs of the step that are no results of checks."""
    selected, step = step_context.selected_output_names, step_context.step
    outputs = [one for one in step.step_outputs if one.properties.asset_check_key is None and one.name in selected]
    return [StepOutputHandle(step.key, one.name) for one in outputs]


_written: "weakref.WeakKeyDictionary[Any, list[Written]]" = weakref.WeakKeyDictionary()


def written_by(step_context: Any) -> list[Written]:
    """The selected outputs of the step that IO managers of ours write, this one's or another's. Raises ConfigurationError."""
    if step_context is None:
        return []
    if step_context not in _written:
        _written[step_context] = list(_ours(step_context))
    return _written[step_context]


def _ours(step_context: Any) -> Iterator[Written]:
    for handle in stored_by(step_context):
        settings = getattr(step_context.get_io_manager(handle), "settings", None)
        if isinstance(settings, Settings):
            context = step_context.get_output_context(handle)
            yield Written(of_output(context, settings), partition_keys(context), handle.output_name)


def begun(step_context: Any) -> Step:
    """The attempt that the context belongs to, with all earlier ones of its chain given up. Raises GivenUp."""
    step = step_of(step_context)
    if step.begun:
        return step
    again = step.attempt.again or faults.is_set()
    outputs = written_by(step_context) if again else []
    begin(step, [(one.output, one.keys) for one in outputs])
    for one in outputs:
        faults.crash("before_compute", one.output.name, step.attempt.chain.first, ",".join(one.keys))
    return step
