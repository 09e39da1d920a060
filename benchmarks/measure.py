"""What the benchmarks share: contenders in processes of their own, taken in turns, medians, a table."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def in_turns(script: str, contenders: Sequence[str], times: int, *arguments: str) -> dict[str, list[dict[str, float]]]:
    """Run `script contender …` so often for each, A B A B; each prints one JSON object of numbers as its last line."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(times):
        for name in contenders:
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
                environment = {
                    **os.environ,
                    "DAGSTER_HOME": folder,
                    "PYTHONPATH": f"{PROJECT}:{PROJECT / 'benchmarks'}",
                }
                environment.pop("PYTHONDONTWRITEBYTECODE", None)
                done = subprocess.run(
                    [sys.executable, script, name, folder, *arguments],
                    env=environment, cwd=folder, capture_output=True, text=True, check=False,
                )  # fmt: skip
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def medians(found: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """For each contender the median of each number."""
    return {name: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for name, runs in found.items()}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The numbers as Markdown."""
    keys = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(keys)} |", f"|---|{'---|' * len(keys)}"]
    lines += [f"| {name} | {' | '.join(f'{numbers[key]:.3f}' for key in keys)} |" for name, numbers in found.items()]
    return "\n".join(lines)


def main(
    script: str, contenders: Mapping[str, Callable[..., dict[str, float]]], verdict: Callable[..., str], times: int
) -> None:
    """Without arguments: all contenders and the verdict. With one: that contender."""
    if len(sys.argv) > 1:
        print(json.dumps(contenders[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
        return
    found = medians(in_turns(script, list(contenders), times))
    print(f"load {os.getloadavg()[0]:.1f}, {times} times, medians\n\n{table(found)}\n\n{verdict(found)}")
