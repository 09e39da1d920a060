"""What the benchmarks share: contenders in processes of their own, taken in turns, medians, a table."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parents[1]
Numbers = dict[str, float]
Contender = Callable[..., Numbers]
DATABASES = "import dagster; dagster.DagsterInstance.get()"
"""Makes them, where none are: once in the life of a DAGSTER_HOME."""


def in_turns(
    script: str, contenders: Sequence[str], times: int, arguments: Sequence[str], pythons: Mapping[str, Path]
) -> dict[str, list[Numbers]]:
    """Run `script contender …` so often for each, A B A B; each prints one JSON object of numbers as its last line.

    `process (s)` and `peak (GB)` are those of the whole process: interpreter, imports and all. Dagster's databases are there.
    """
    found: dict[str, list[Numbers]] = {name: [] for name in contenders}
    for _ in range(times):
        for name in contenders:
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(_one(script, name, folder, arguments, pythons.get(name, Path(sys.executable))))
            print(f"  {name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def _one(script: str, name: str, folder: str, arguments: Sequence[str], python: Path) -> Numbers:
    Path(folder, "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    environment = {**os.environ, "DAGSTER_HOME": folder, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'benchmarks'}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([python, "-c", DATABASES], env=environment, cwd=folder, capture_output=True, check=True)
    said = Path(folder, "said")
    with said.open("w") as out, Path(folder, "errors").open("w") as errors:
        began = time.perf_counter()
        child = subprocess.Popen(
            [python, script, name, folder, *arguments], env=environment, cwd=folder, stdout=out, stderr=errors
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
    if status:
        sys.exit(f"{name} failed:\n{Path(folder, 'errors').read_text()[-3000:]}")
    numbers: Numbers = json.loads(said.read_text().splitlines()[-1])
    return {**numbers, "process (s)": seconds, "peak (GB)": usage.ru_maxrss / 1024**2}


def medians(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Numbers]:
    """For each contender the median of each number."""
    return {name: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for name, runs in found.items()}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The numbers as Markdown."""
    keys = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(keys)} |", f"|---|{'---|' * len(keys)}"]
    lines += [f"| {name} | {' | '.join(f'{numbers[key]:.3f}' for key in keys)} |" for name, numbers in found.items()]
    return "\n".join(lines)


def conditions(times: int) -> str:
    """With what, and on what, it was run."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("dagster", "deltalake", "polars"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores, {memory:.0f} GiB, load "
        f"{os.getloadavg()[0]:.1f} before; medians of {times}, in turns"
    )


def main(
    script: str,
    contenders: Mapping[str, Contender],
    verdict: Callable[[dict[str, Numbers]], str],
    times: int,
    arguments: Sequence[str] = (),
    pythons: Callable[[], Mapping[str, Path]] = dict,
) -> None:
    """Without a contender's name on the command line: all of them and the verdict. With one: that contender.

    arguments: passed on to each. pythons: the interpreters of those that have one of their own.
    """
    if len(sys.argv) > 2 and sys.argv[1] in contenders:
        print(json.dumps(contenders[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
        return
    before = conditions(times)
    found = medians(in_turns(script, list(contenders), times, arguments, pythons()))
    print(f"{before}\n\n{table(found)}\n\n{verdict(found)}")
