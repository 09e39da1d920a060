"""How a command ends when something is refused: the text on stderr, status 3, or 1 where the pipeline failed."""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click

from pipeline_assets.errors import PipelineAssetsError

DONE, FAILED, REFUSED = 0, 1, 3


def refusing(command: Callable[..., int]) -> Callable[..., None]:
    """Turn an error of this package into its text and status 3."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            status = command(*args, **kwargs)
        except PipelineAssetsError as error:
            if kwargs.get("as_json"):
                click.echo(json.dumps({"refused": type(error).__name__, "why": str(error)}))
            else:
                click.echo(f"Refused: {error}", err=True)
            status = REFUSED
        sys.exit(status)

    return run
