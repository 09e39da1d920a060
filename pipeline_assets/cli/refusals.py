"""How a command ends when something is refused: the text on stderr, status 3; and what it may print."""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from pipeline_assets.errors import PipelineAssetsError
from pipeline_assets.policy.commands import located

DONE, FAILED, REFUSED = 0, 1, 3


def refusing(command: Callable[..., int]) -> Callable[..., None]:
    """Turn an error of this package into its text, whose commands name the code location, and status 3."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            status = command(*args, **kwargs)
        except PipelineAssetsError as error:
            why = located(str(error), kwargs.get("module"))
            if kwargs.get("as_json"):
                click.echo(json.dumps({"refused": type(error).__name__, "why": why}))
            else:
                click.echo(f"Refused: {why}", err=True)
            status = REFUSED
        sys.exit(status)

    return run


@contextmanager
def printing_to_stderr(wanted: bool) -> Iterator[None]:
    """What stages print, in this process and in those of steps, goes to stderr: stdout is one document's."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
