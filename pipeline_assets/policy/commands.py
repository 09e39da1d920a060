"""The commands that texts name: which one continues a run, and of which code location it is.

Whoever raises an error does not know the code location; who shows its text does, and completes the commands in it.
"""

import re
import shlex

from dagster import DagsterRun
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

_COMMAND = re.compile(r"`((?:pipeline-assets [a-z]+|dagster asset materialize)\b[^`]*)`")


def named_by(module: str | None) -> str:
    """What a command says of the code location, where it is to be named: ` -m MODULE`, or nothing."""
    return f" -m {module}" if module else ""


def to_resume(run_id: str, module: str | None = None, *, option: str = "") -> str:
    """What continues a run."""
    return f"pipeline-assets resume {run_id}{option and f' {option}'}{named_by(module)}"


def to_begin(run: DagsterRun) -> str:
    """What starts a run of the same stages anew; nothing where no command does (a run of `dg.materialize`)."""
    keys = sorted(key.to_user_string() for key in run.asset_selection or ())
    if not run.job_name.startswith("__"):
        chosen = " or ".join(f'key:"{key}"' for key in keys)
        command = f"pipeline-assets run {run.job_name}" + (f" --select {shlex.quote(chosen)}" if keys else "")
        return command + _partitions_of(run, "--from {} --to {}")
    if not keys:
        return ""
    return f"dagster asset materialize --select {','.join(keys)}" + _partitions_of(run, "--partition-range {}...{}")


def _partitions_of(run: DagsterRun, window: str) -> str:
    start, end = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if start is not None and end is not None:
        return f" {window.format(shlex.quote(start), shlex.quote(end))}"
    key = run.tags.get(PARTITION_NAME_TAG)
    return "" if key is None else f" --partition {shlex.quote(key)}"


def module_of(run: DagsterRun) -> str | None:
    """The module of a run's code location, where it is known by one."""
    pointer = run.job_code_origin.repository_origin.code_pointer if run.job_code_origin is not None else None
    return pointer.module if isinstance(pointer, ModuleCodePointer) else None


def located(text: str, module: str | None) -> str:
    """A text whose commands, between backticks, all name the code location."""

    def complete(found: re.Match[str]) -> str:
        command = found[1]
        return f"`{command}`" if " -m " in command else f"`{command}{named_by(module)}`"

    return _COMMAND.sub(complete, text)
