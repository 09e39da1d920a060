"""A run configuration from a file."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._check import CheckError

from pipeline_assets.errors import ConfigurationError


def run_configuration(path: str | None) -> Mapping[str, Any] | None:
    """A run configuration from a file of YAML or JSON. Raises ConfigurationError."""
    if path is None:
        return None
    try:
        return dg.config_from_files([path])
    except (dg.DagsterInvariantViolationError, CheckError) as error:
        raise ConfigurationError(
            f"The file {path} holds no run configuration ({str(error).splitlines()[0]}). Nothing was changed; mend it, or "
            "name another."
        ) from error
