"""Stop attempts at every point, give them up in every way, continue them, and look whether any commits.

    python -m pipeline_assets_tests.campaigns.zombies --cases 500 --seed 1

Prints each case and what its zombie said, then a table of points by ways; ends with 1 where anything was wrong.
"""

import argparse
import functools
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from pipeline_assets_tests.campaigns.pauses import POINTS
from pipeline_assets_tests.campaigns.zombie_case import COMBINATIONS, Case, Ground
from pipeline_assets_tests.recovery.children import PROJECT

FOLDER = "ZOMBIES_FOLDER"
"""Where all cases lie."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case. wrong: the traceback of what must not be."""

    number: int
    case: Case
    said: str = ""
    wrong: str = ""


def run(seed: int, number: int) -> Outcome:
    """One case, in one of the processes that share them."""
    case = Case.seeded(seed, number)
    try:
        return Outcome(number, case, said=case.run(_ground()))
    except Exception:  # noqa: BLE001  a campaign counts what goes wrong, and goes on
        return Outcome(number, case, wrong=traceback.format_exc())


@functools.cache
def _ground() -> Ground:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # of the runs in this process; all that they say is in the event log
    return Ground(Path(tempfile.mkdtemp(prefix="zombies-", dir=os.environ[FOLDER])))


class Campaign:
    """What came of all cases."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self.places: Counter[tuple[str, str]] = Counter()
        self.wrong = 0

    def note(self, one: Outcome) -> None:
        """Print and count it."""
        self.places[one.case.point, one.case.way] += 1
        self.said[one.said or "WRONG"] += 1
        self.wrong += bool(one.wrong)
        print(
            f"{one.number:4} {one.case}: {one.said}" if one.said else f"WRONG {one.number} {one.case}:\n{one.wrong}",
            flush=True,
        )

    def table(self) -> str:
        """Cases by point and way."""
        ways = list(dict.fromkeys(way for _, way in COMBINATIONS))
        rows = [[point, *(str(self.places[point, way] or "-") for way in ways)] for point in POINTS]
        widths = [max(len(text) for text in column) for column in zip(["", *ways], *rows, strict=True)]
        return "\n".join(
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
            for row in [["", *ways], *rows]
        )


def main() -> int:
    """The campaign that the command line asks for; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=len(COMBINATIONS))
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    parser.add_argument("--only", type=int, help="one case, by its number")
    asked = parser.parse_args()
    commit = subprocess.check_output(["git", "-C", str(PROJECT), "rev-parse", "HEAD"], text=True).strip()
    print(f"commit {commit}, {' '.join(sys.argv[1:])}", flush=True)
    folder = tempfile.mkdtemp(prefix="zombies-")
    os.environ.update({"PIPELINE_ASSETS_NO_BACKOFF": "1", FOLDER: folder})
    began, campaign = time.monotonic(), Campaign()
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn")) as pool:
        numbers = range(asked.cases) if asked.only is None else [asked.only]
        for done in as_completed([pool.submit(run, asked.seed, number) for number in numbers]):
            campaign.note(done.result())
    print(f"\n{sum(campaign.places.values())} cases, {time.monotonic() - began:.0f} s\n\n{campaign.table()}")
    print("\nwhat the zombies said:")
    for said, count in campaign.said.most_common():
        print(f"  {count:4} {said}")
    print(f"wrong: {campaign.wrong}")
    if not campaign.wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
