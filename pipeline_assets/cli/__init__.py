"""`pipeline-assets`, the command line. Exit status: 0 done, 1 the pipeline failed, 2 wrong usage, 3 refused."""

import click

from pipeline_assets.cli.adopt import adopt_command
from pipeline_assets.cli.doctor import doctor_command
from pipeline_assets.cli.history import history_command
from pipeline_assets.cli.resume import resume_command
from pipeline_assets.cli.rollback import rollback_command
from pipeline_assets.cli.run import run_command
from pipeline_assets.cli.status import status_command


@click.group()
@click.version_option(package_name="pipeline-assets")
def cli() -> None:
    """Pipelines of Delta tables that survive failure."""


cli.add_command(run_command)
cli.add_command(resume_command)
cli.add_command(adopt_command)
cli.add_command(rollback_command)
cli.add_command(status_command)
cli.add_command(history_command)
cli.add_command(doctor_command)


def main() -> None:
    """The console script."""
    cli.main(prog_name="pipeline-assets")
