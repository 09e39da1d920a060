"""Which Dagster instance and which code location a command speaks of."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli
from dagster import DagsterInstance, DagsterInvariantViolationError
from dagster._cli.workspace.cli_target import get_repository_python_origin_from_cli_opts
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.errors import DagsterHomeNotSetError
from dagster._core.origin import JobPythonOrigin
from dagster._utils.hosted_user_process import recon_job_from_origin, recon_repository_from_origin
from dagster_shared.cli import PythonPointerOpts

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.recovery.code_location import ANY_ASSETS, EPHEMERAL
from pipeline_assets.settings import HOME, project_root


@contextmanager
def instance() -> Iterator[DagsterInstance]:
    """The Dagster instance of DAGSTER_HOME, else of the project. Raises ConfigurationError."""
    if not os.environ.get(HOME):
        if not (project_root() / "dagster.yaml").is_file():
            raise ConfigurationError(
                f"{HOME} is not set, and there is no dagster.yaml here or above, so it is not known which runs are meant. "
                f"Nothing was changed; export {HOME}=…"
            )
        os.environ[HOME] = str(project_root())
    try:
        opened = DagsterInstance.get()
    except (DagsterHomeNotSetError, DagsterInvariantViolationError) as error:
        raise ConfigurationError(
            f"There is no Dagster instance at {HOME}={os.environ[HOME]}: {error}. Nothing was changed."
        ) from error
    with opened:
        yield opened


def module_of(asked: str | None) -> str:
    """The module asked for, else the one of `[tool.dagster]` in pyproject.toml. Raises ConfigurationError."""
    if asked:
        return asked
    for folder in (Path.cwd(), project_root()):
        found = _tool_dagster(folder / "pyproject.toml").get("module_name")
        if found:
            return str(found)
    raise ConfigurationError(
        "It is not known which code location is meant. Nothing was changed; name it with -m MODULE, or as module_name "
        "under [tool.dagster] in pyproject.toml."
    )


class CodeLocation:
    """A code location by its module. Raises ConfigurationError where it cannot be loaded."""

    def __init__(self, module: str | None) -> None:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        self.module = module_of(module)
        try:
            self.origin = get_repository_python_origin_from_cli_opts(PythonPointerOpts(module_name=self.module))
            self.repository = recon_repository_from_origin(self.origin).get_definition()
        except Exception as error:  # whatever the module raises while it is imported
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigurationError(
                f"The code location {self.module} cannot be loaded ({why}). Nothing was changed; mend it, or name another "
                "with -m MODULE."
            ) from error

    def job(self, name: str) -> ReconstructableJob:
        """A job by name, also one that Dagster made for a selection of assets. Raises ConfigurationError."""
        wanted = ANY_ASSETS if name == EPHEMERAL else name
        if not self.repository.has_job(wanted):
            raise ConfigurationError(
                f"The code location {self.module} has no job {name}. Nothing was changed; name the run's own code location "
                "with -m MODULE."
            )
        return recon_job_from_origin(JobPythonOrigin(wanted, repository_origin=self.origin))


def _tool_dagster(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        found: dict[str, Any] = tomli.load(file).get("tool", {}).get("dagster", {})
    return found
