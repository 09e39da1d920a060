"""What the environment says: where the tables lie, and where Dagster's home is."""

import os
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline_assets.errors import ConfigurationError
from pipeline_assets.io.storage_config import LocalConfig, S3Config
from pipeline_assets.io_manager import DeltaCheckpointIOManager

ROOT = "PIPELINE_ASSETS_ROOT"
HOME = "DAGSTER_HOME"
WINDOW = "PIPELINE_ASSETS_ROLLBACK_WINDOW"
WINDOW_DAYS = 7.0


def project_root() -> Path:
    """The folder of `dagster.yaml`: DAGSTER_HOME, else the nearest one from the working directory upwards, else this one."""
    home = os.environ.get(HOME)
    if home:
        return Path(home)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "dagster.yaml").is_file()), here)


def tables_root() -> str:
    """Where the tables lie: PIPELINE_ASSETS_ROOT, else `data/` beside `dagster.yaml`."""
    return os.environ.get(ROOT) or str(project_root() / "data")


def rollback_window() -> timedelta:
    """How far back a rollback shall be able to go: PIPELINE_ASSETS_ROLLBACK_WINDOW, in days. Raises ConfigurationError."""
    said = os.environ.get(WINDOW) or str(WINDOW_DAYS)
    try:
        days = timedelta(days=float(said))
    except (ValueError, OverflowError):
        days = timedelta(days=-1)
    if days < timedelta():
        raise ConfigurationError(
            f"{WINDOW}={said!r} is no number of days. Nothing was changed; export {WINDOW}={WINDOW_DAYS:g}, or another."
        )
    return days


def source_folder() -> Path:
    """Where data that was read from elsewhere is kept, parsed; on this machine also where the tables are not."""
    root = tables_root()
    return Path(root) / "source" if "://" not in root else project_root() / "data" / "source"


def io_manager() -> DeltaCheckpointIOManager:
    """The IO manager for the environment. An object store's keys and endpoint come from its usual variables (AWS_…)."""
    root = tables_root()
    storage = S3Config() if root.startswith("s3://") else LocalConfig()
    return DeltaCheckpointIOManager(root_uri=root, storage_options=storage)


def quiet(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration whose console says what a person needs, unless it says what it shall say itself."""
    return {"loggers": {"console": {"config": {"log_level": "INFO"}}}, **run_config}


def warn_without_home() -> None:
    """Say it where Dagster would use a temporary instance, which forgets the checkpoint log when the process ends."""
    if not os.environ.get(HOME):
        warnings.warn(
            f"{HOME} is not set, so Dagster forgets the checkpoint log when this process ends. "
            f"export {HOME}={project_root()}",
            stacklevel=2,
        )
