"""(e) From the command to the first stage's first line, against the same with Dagster's own file-system IO manager.

`python benchmarks/first_line.py`
"""

import subprocess
import sys
import time
from pathlib import Path

from measure import Numbers, main

CODE = """
import time
import dagster as dg
import polars as pl
{imports}

@dg.asset
def first() -> pl.DataFrame:
    print("FIRST", time.time(), flush=True)
    return pl.DataFrame({{"n": [1]}})

defs = dg.Definitions([first], resources={{"io_manager": {io}}}, executor=dg.in_process_executor)
"""


def seconds(root: Path, imports: str, io: str) -> Numbers:
    (root / "place.py").write_text(CODE.format(imports=imports, io=io))
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "place", "--select", "*"]
    subprocess.run(command, cwd=root, capture_output=True, check=True)  # compiles, and makes Dagster's databases
    began = time.time()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("FIRST"))
    return {"seconds": float(line.split()[1]) - began}


def ours(root: Path) -> Numbers:
    return seconds(
        root, "from pipeline_assets import DeltaCheckpointIOManager", 'DeltaCheckpointIOManager(root_uri="tables")'
    )


def file_system(root: Path) -> Numbers:
    return seconds(root, "", 'dg.FilesystemIOManager(base_dir="files")')


def verdict(found: dict[str, Numbers]) -> str:
    added = found["ours"]["seconds"] - found["file_system"]["seconds"]
    return f"added {added:.2f} s (target 0.3)"


if __name__ == "__main__":
    main(__file__, {"ours": ours, "file_system": file_system}, verdict, times=5)
