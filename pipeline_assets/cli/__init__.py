"""`pipeline-assets`, the command line. Exit status: 0 done, 1 the pipeline failed, 2 wrong usage, 3 refused."""

import gc
from importlib import import_module

import click
from typing_extensions import override

VERBS = ("run", "resume", "adopt", "rollback", "status", "history", "doctor")


class Verbs(click.Group):
    """Commands of which only the one that is wanted is loaded: each brings what the others do not need."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), f"{cmd_name}_command")
        return command


@click.group(cls=Verbs)
@click.version_option(package_name="pipeline-assets")
def cli() -> None:
    """Pipelines of Delta tables that survive failure."""


def main() -> None:
    """The console script."""
    try:
        cli.main(prog_name="pipeline-assets")
    finally:
        gc.freeze()  # else Python looks for garbage in all that was imported before it ends, for half a second
