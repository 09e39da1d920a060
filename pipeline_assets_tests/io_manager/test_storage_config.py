"""The configuration classes are dagster-deltalake's own, and cost little."""

import subprocess
import sys

import pytest


def said(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "order",
    [
        "import pipeline_assets.io.storage_config, dagster_deltalake",
        "import dagster_deltalake, pipeline_assets.io.storage_config",
    ],
)
def test_the_classes_are_the_same_whoever_comes_first(order: str) -> None:
    same = "print(pipeline_assets.io.storage_config.LocalConfig is dagster_deltalake.LocalConfig)"
    assert said(f"{order}; {same}") == "True"


def test_importing_the_library_does_not_load_pandas() -> None:
    assert said("import sys, pipeline_assets; print('pandas' in sys.modules, 'pyarrow.dataset' in sys.modules)") == (
        "False False"
    )
