"""Run three stages on an S3 server behind a proxy that misbehaves, and look whether anything shows.

    python -m pipeline_assets_tests.campaigns.flaky_store --seed 1 --runs 60 [--rate 0.05]

Each run has a table root of its own, which is empty; every third one is followed by another run on the same tables, whose
first commits replace rows. Prints what each run met and how many attempts its stages had; ends with 1 where anything was
wrong: rows, a table written twice, a commit without its event, a failure without its event, too many attempts, a red run.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import dagster as dg

from pipeline_assets.policy.policies import NO_BACKOFF
from pipeline_assets_tests.conftest import INSTANCE
from pipeline_assets_tests.flaky import Fault, Flaky, flaky
from pipeline_assets_tests.io_manager.running import failure
from pipeline_assets_tests.recovery.children import PROJECT
from pipeline_assets_tests.seaweed import S3, seaweed
from pipeline_assets_tests.stage import unsteady

AGAIN_EVERY = 3


class Campaign:
    """What came of the runs so far."""

    def __init__(self, server: S3, instance: dg.DagsterInstance, seed: int, rate: float) -> None:
        self.server, self.instance, self.seed, self.rate = server, instance, seed, rate
        self.met: Counter[Fault] = Counter()
        self.attempts: Counter[int] = Counter()
        self.classes: Counter[str] = Counter()
        self.runs = self.wrong = self.passed = 0

    def case(self, number: int) -> None:
        """One or two runs on an empty root."""
        server = self.server.under(f"case-{number}")
        with flaky(server, self.seed * 100_000 + number) as proxy:
            for times in range(1, 2 + (number % AGAIN_EVERY == 0)):
                proxy.misbehave(rate=self.rate)
                self._run(f"{number}.{times}", proxy, server, times)
            self.met += proxy.met
            self.passed += proxy.passed

    def _run(self, name: str, proxy: Flaky, server: S3, times: int) -> None:
        before, began = proxy.met, time.monotonic()
        result = unsteady.run(self.instance, proxy.s3)
        seconds = time.monotonic() - began
        proxy.heal()
        self.runs += 1
        had = list(unsteady.attempts(self.instance, result.run_id).values())
        self.attempts.update(had)
        for told in unsteady.failures(self.instance, result.run_id).values():
            self.classes.update(str(one["stage/error_class"]) for one in told)
        faults = sum((proxy.met - before).values())
        print(f"{self.runs:4} case {name}: {faults} faults, attempts {had}, {seconds:.1f} s", flush=True)
        try:
            assert result.success, failure(result)
            unsteady.refuse_wrong_tables(self.instance, server, times)
            unsteady.refuse_untold_failures(self.instance, result.run_id, unsteady.MAX_RETRIES)
        except Exception:  # noqa: BLE001  a campaign counts what goes wrong, and goes on
            self.wrong += 1
            print(f"WRONG case {name}:\n{traceback.format_exc()}", flush=True)

    def sum_up(self) -> None:
        """Print the counts."""
        print(f"\n{self.runs} runs, {self.passed} requests passed, {sum(self.met.values())} met a fault:")
        for fault, count in sorted(self.met.items(), key=lambda item: item[0].value):
            print(f"  {count:5} {fault.value}")
        print("attempts that a stage had:")
        for attempts, count in sorted(self.attempts.items()):
            print(f"  {count:5} × {attempts}")
        print("classes of the attempts that failed:")
        for kind, count in sorted(self.classes.items()):
            print(f"  {count:5} {kind}")
        print(f"wrong: {self.wrong}")


def main() -> int:
    """The campaign that the command line asks for; 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.05)
    asked = parser.parse_args()
    commit = subprocess.check_output(["git", "-C", str(PROJECT), "rev-parse", "HEAD"], text=True).strip()
    print(f"commit {commit}, {' '.join(sys.argv[1:])}", flush=True)
    os.environ[NO_BACKOFF] = "1"
    logging.disable(logging.CRITICAL)  # hundreds of failures are meant
    folder = Path(tempfile.mkdtemp(prefix="flaky-"))
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE)
    with seaweed(folder / "s3") as server, dg.DagsterInstance.from_config(str(home)) as instance:
        campaign = Campaign(server, instance, asked.seed, asked.rate)
        number = 0
        while campaign.runs < asked.runs:
            campaign.case(number)
            number += 1
        campaign.sum_up()
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
