"""Environments of their own for the peers and for what makes the data, in .benchmarks/, made with uv when first asked for."""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".benchmarks"
PACKAGES = {
    "dagster_deltalake": ("dagster-deltalake-polars==0.29.27", "polars==2.1.0", "deltalake==1.6.6"),
    "dagster_polars": ("dagster-polars[deltalake]==0.27.12",),
    "dagster_delta": ("dagster-delta[polars]==0.5.9",),
    "tpch": ("tpchgen-cli==4.0.0",),
}


def python(name: str) -> Path:
    """The interpreter of an environment."""
    place = FOLDER / name
    if not (place / "made").exists():
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        install = [uv, "pip", "install", "--quiet", "--system-certs", "--python", place, *PACKAGES[name]]
        subprocess.run(install, check=True)
        (place / "made").touch()
    return place / "bin" / "python"


def lineitem(scale: int) -> Path:
    """TPC-H's lineitem at a scale as one Parquet file: 6 million rows at scale 1."""
    folder = FOLDER / f"tpch-{scale}"
    if not (folder / "lineitem.parquet").exists():
        made = FOLDER / f"tpch-{scale}.tmp"
        generator = python("tpch").parent / "tpchgen-cli"
        chosen = ["--scale-factor", str(scale), "--tables", "lineitem", "--output-dir", made, "--quiet"]
        subprocess.run([generator, "parquet", *chosen], check=True)
        made.rename(folder)
    return folder / "lineitem.parquet"
