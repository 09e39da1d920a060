"""What the shell completes: runs from the instance, stages and pipelines from what its event log has heard of.

No code is imported: a code location may take seconds, and completing is waited for. So what was never materialized, and an
asset group that is no prefix of keys, is not completed.
"""

from collections.abc import Callable, Iterable, Iterator

import click
from click.shell_completion import CompletionItem
from dagster import DagsterInstance, DagsterRun
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline_assets.cli.location import instance
from pipeline_assets.errors import PipelineAssetsError, describe

MOST = 200
"""So many of the newest runs, and stages, are completed."""


def runs(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of the newest runs, each with its job, partition and status."""
    return _beginning(typed, lambda opened: ((run.run_id, _of_run(run)) for run in opened.get_runs(limit=MOST)))


def stages(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Stages by their keys."""
    return _beginning(typed, lambda opened: ((name, None) for name in _keys(opened)))


def pipelines(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    """Prefixes of keys, and the jobs of the newest runs."""

    def known(opened: DagsterInstance) -> Iterator[tuple[str, None]]:
        yield from ((prefix, None) for name in _keys(opened) if (prefix := name.rpartition("/")[0]))
        yield from ((run.job_name, None) for run in opened.get_runs(limit=MOST) if not run.job_name.startswith("__"))

    return _beginning(typed, known)


def _beginning(
    typed: str, known: Callable[[DagsterInstance], Iterable[tuple[str, str | None]]]
) -> list[CompletionItem]:
    """What begins as typed; nothing where there is no instance, since nobody can be told."""
    try:
        with instance() as opened:
            found = {name: said for name, said in known(opened) if name.startswith(typed)}
    except PipelineAssetsError:
        return []
    return [CompletionItem(name, help=said) for name, said in found.items()]


def _keys(opened: DagsterInstance) -> list[str]:
    return [key.to_user_string() for key in opened.get_asset_keys(limit=MOST)]


def _of_run(run: DagsterRun) -> str:
    return f"{describe(run.job_name, run.tags.get(PARTITION_NAME_TAG))}, {run.status.value.lower()}"
