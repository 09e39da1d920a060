"""dagster-deltalake's configuration classes, without the rest of it.

The package's `__init__` imports pyarrow.dataset, and that pandas where there is one: half a second for every process of
every run. Its `config` module alone, under its own name, is what a later `import dagster_deltalake` finds and uses, so
the classes are the same whoever imports them.
"""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

PACKAGE = "dagster_deltalake"
CONFIG = f"{PACKAGE}.config"


def _load() -> None:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    path = Path(found.submodule_search_locations[0], "config.py")
    spec = importlib.util.spec_from_file_location(CONFIG, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[CONFIG] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if TYPE_CHECKING:
    from dagster_deltalake.config import AzureConfig, ClientConfig, GcsConfig, LocalConfig, S3Config
else:
    if CONFIG not in sys.modules:
        _load()
    _config = sys.modules[CONFIG]
    AzureConfig, ClientConfig, GcsConfig = _config.AzureConfig, _config.ClientConfig, _config.GcsConfig
    LocalConfig, S3Config = _config.LocalConfig, _config.S3Config

__all__ = ["AzureConfig", "ClientConfig", "GcsConfig", "LocalConfig", "S3Config"]
