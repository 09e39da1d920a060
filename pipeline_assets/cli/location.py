"""Which code location a command speaks of."""

import sys
from pathlib import Path
from typing import Any

import tomli
from dagster._cli.workspace.cli_target import get_repository_python_origin_from_cli_opts
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.definitions.repository_definition import RepositoryDefinition
from dagster._core.origin import JobPythonOrigin
from dagster._utils.hosted_user_process import recon_job_from_origin, recon_repository_from_origin
from dagster_shared.cli import PythonPointerOpts

from pipeline_assets.settings import project_root

DEFAULT = "pipeline_assets.definitions"


def module_of(asked: str | None) -> str:
    """The module asked for, else the one of `[tool.dagster]` in pyproject.toml, else the package's own."""
    if asked:
        return asked
    for folder in (Path.cwd(), project_root()):
        found = _tool_dagster(folder / "pyproject.toml").get("module_name")
        if found:
            return str(found)
    return DEFAULT


class CodeLocation:
    """A code location by its module; loaded when it is first asked."""

    def __init__(self, module: str | None) -> None:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        self.module = module_of(module)
        self.origin = get_repository_python_origin_from_cli_opts(PythonPointerOpts(module_name=self.module))
        self.repository: ReconstructableRepository = recon_repository_from_origin(self.origin)

    def definition(self) -> RepositoryDefinition:
        """All definitions of the location."""
        return self.repository.get_definition()

    def job(self, name: str) -> ReconstructableJob:
        """A job by name, also one that Dagster made for a selection of assets."""
        return recon_job_from_origin(JobPythonOrigin(name, repository_origin=self.origin))


def _tool_dagster(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        found: dict[str, Any] = tomli.load(file).get("tool", {}).get("dagster", {})
    return found
