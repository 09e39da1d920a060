"""`pipeline-assets doctor`: what is wrong with the instance, the storage and the tables, and how to mend it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace

import click
from dagster import DagsterInstance
from sqlalchemy.exc import SQLAlchemyError

from pipeline_assets.cli.location import CodeLocation, instance, module_of
from pipeline_assets.cli.refusals import DONE, FAILED, printing_to_stderr, refusing
from pipeline_assets.cli.shown import document, show
from pipeline_assets.errors import ConfigurationError
from pipeline_assets.policy.commands import located, named_by
from pipeline_assets.recovery.doctor import ERROR, OK, WARNING, Finding
from pipeline_assets.recovery.doctor.instance import daemon, databases, runs
from pipeline_assets.recovery.doctor.storage import home, storage
from pipeline_assets.recovery.doctor.tables import table_of
from pipeline_assets.recovery.tables import outputs_of, roots_of
from pipeline_assets.settings import HOME, WINDOW, project_root, rollback_window


@click.command("doctor")
@click.option("-m", "--module", help="The code location; by default that of pyproject.toml.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@refusing
def doctor_command(module: str | None, as_json: bool) -> int:
    """Look at configuration, storage, tables and daemon: what is wrong, and how to mend it.

    Nothing is changed. Exit status 1 where there is an error.
    """
    with printing_to_stderr(as_json):
        found = [replace(one, said=located(one.said, module)) for one in _findings(module)]
    if as_json:
        click.echo(document({"findings": [asdict(one) for one in found]}))
    else:
        show(
            ("", "severity", "what", "finding"),
            [("", one.severity, one.check, f"{one.culprit}: {one.said}") for one in found],
        )
        for one in found:
            if one.mend is not None:
                click.echo(f"To mend {one.check} of {one.culprit}: {one.mend}")
        counts = {severity: sum(one.severity == severity for one in found) for severity in (ERROR, WARNING, OK)}
        click.echo(", ".join(f"{count} {severity}" for severity, count in counts.items()))
    return FAILED if any(one.severity == ERROR for one in found) else DONE


def _findings(module: str | None) -> Iterator[Finding]:
    yield home(os.environ.get(HOME), str(project_root()))
    more = named_by(module)
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(instance())
            of_instance = [*databases(opened), daemon(opened), *runs(opened, module)]
        except (ConfigurationError, SQLAlchemyError) as error:
            yield Finding(ERROR, "instance", os.environ.get(HOME) or str(project_root()), str(error), f"look at {HOME}")
            return
        yield from of_instance
        yield from _of_location(opened, module, more)


def _of_location(opened: DagsterInstance, module: str | None, more: str) -> Iterator[Finding]:
    try:
        location = CodeLocation(module)
        window = rollback_window()
    except ConfigurationError as error:
        culprit = WINDOW if WINDOW in str(error) else _named(module)
        yield Finding(ERROR, "code location", culprit, str(error), "mend it; `dagster definitions validate` says more")
        return
    if not location.repository.has_implicit_global_asset_job_def():
        yield Finding(
            OK, "code location", location.module, "no assets, only jobs of ops, whose tables are not looked at"
        )
        return
    outputs = outputs_of(opened, location.repository.get_implicit_global_asset_job_def())
    yield Finding(OK, "code location", location.module, f"{len(outputs)} stages")
    for root in roots_of(outputs.values()):
        found = list(storage(root, more))
        yield from found
        if found[0].severity != ERROR:
            for output in outputs.values():
                if output.settings.root == root:
                    yield from table_of(output, window, more)


def _named(module: str | None) -> str:
    try:
        return module_of(module)
    except ConfigurationError:
        return "-m MODULE"
