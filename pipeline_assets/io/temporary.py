"""Dagster instances that are gone after the run, with the checkpoint log."""

import weakref
from collections.abc import Mapping
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.storage.event_log import SqliteEventLogStorage

from pipeline_assets.io.outputs import Output
from pipeline_assets.io.steps import Outcome

TEMPORARY_HOME = ".tmp_dagster_home_"
"""What the folder's name begins with; Dagster's own constant is in its command line, which takes 30 ms to import."""
_warned: "weakref.WeakSet[DagsterInstance]" = weakref.WeakSet()


def warning_of(instance: DagsterInstance | None, output: Output, outcomes: Mapping[str, Outcome]) -> str:
    """What the log says, once for each instance, of an asset that was written with a temporary one; else nothing.

    In memory, as `dg.materialize` makes one, it is said where the table was there before: a test's tables are as short-lived.
    """
    if instance is None or output.asset_key is None or instance in _warned:
        return ""
    was_there = any(one.version > 0 for one in outcomes.values())
    if not (_is_of_command_line(instance) or (instance.is_ephemeral and was_there)):
        return ""
    _warned.add(instance)
    return (
        f"This run's events are in a temporary Dagster instance, and are gone when it ends; {output.location.uri} stays. "
        "No `pipeline-assets resume` or `pipeline-assets rollback` will know of it. Before the next run, set DAGSTER_HOME "
        "to the folder of dagster.yaml (`export DAGSTER_HOME=…`), or give `dg.materialize` an instance."
    )


def _is_of_command_line(instance: DagsterInstance) -> bool:
    """Whether one of Dagster's commands made it, without DAGSTER_HOME; a dagster.yaml may name a database that stays."""
    if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
        return False
    return Path(instance.root_directory).name.startswith(TEMPORARY_HOME)
