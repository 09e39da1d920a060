"""Where a run's tables lay, beside where the code location has them now: a relative root is another in another folder."""

import os
from collections.abc import Sequence

from dagster import DagsterEventType, DagsterInstance

from pipeline_assets.checkpoints import URI, checkpoint_of
from pipeline_assets.delta.table import Table
from pipeline_assets.io.outputs import Output


def elsewhere(instance: DagsterInstance, runs: Sequence[str], output: Output, table: Table | None) -> str | None:
    """Why what some runs wrote is not in the output's table, where they wrote another one at another place; else None.

    table: what is at the output's place now. A table that was moved has its id, and is the one that they wrote.
    """
    newest = _newest(instance, runs, output)
    if newest is None or is_there(newest[0], output) or (table is not None and table.id == newest[1]):
        return None
    there = newest[0]
    what = "there is no table" if table is None else "there is another one"
    return (
        f"Run {runs[-1]} has {output.name} at {there}, and the code location has it at {output.location.uri} now, where "
        f"{what}. Nothing was changed; {ways_back(there, output)} Where the tables were moved on purpose, bring that one to "
        "its new place as well, or start a new run."
    )


def is_there(uri: str, output: Output) -> bool:
    """Whether an event's URI is the place of the output's table, by whatever links."""
    here = output.location
    return uri == here.uri or (here.is_local and os.path.realpath(uri) == os.path.realpath(here.uri))


def ways_back(there: str, output: Output) -> str:
    """What makes the code location find a table again, as the end of a sentence."""
    folder = folder_of(there, output)
    if folder is not None:
        return f"run this in the folder {folder}, or make root_uri absolute."
    return "run this in the folder that it was run in, with the root_uri that it had, or make that absolute."


def folder_of(there: str, output: Output) -> str | None:
    """The folder in which the root, taken as relative to this one, leads to a table's place; None where there is none."""
    root, here = output.settings.root, output.location.uri
    below, relative = here.removeprefix(root.uri), os.path.relpath(root.uri)
    ending = f"/{relative}{below}"
    if not root.is_local or relative.startswith("..") or not there.endswith(ending):
        return None
    folder = there.removesuffix(ending)
    return folder if os.path.isdir(folder) else None


def _newest(instance: DagsterInstance, runs: Sequence[str], output: Output) -> tuple[str, str] | None:
    """Where the newest checkpoint that the runs tell of lies: the table's URI and its id."""
    for run_id in reversed(runs):
        for entry in reversed(instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)):
            event = entry.asset_materialization
            if event is None or event.asset_key != output.asset_key or URI not in event.metadata:
                continue
            if (checkpoint := checkpoint_of(event, 0)) is not None:
                return str(event.metadata[URI].value), checkpoint.table_id
    return None
