"""A process that continues runs at a sign, as fast as it can.

`python -m pipeline_assets_tests.recovery.claiming FOLDER ROUNDS` leaves `FOLDER/ready-N-PID`, waits for `FOLDER/go-N`,
continues the run whose id stands there, and leaves `FOLDER/said-N-PID`: the new run's id, or `refused` and why.
"""

import os
import sys
import time
from pathlib import Path

import dagster as dg

from pipeline_assets.recovery.resume import NotResumable, created
from pipeline_assets_tests.recovery import story


def main(folder: Path, rounds: int) -> None:
    """All rounds."""
    job = story.job()
    with dg.DagsterInstance.get() as instance:
        for number in range(rounds):
            (folder / f"ready-{number}-{os.getpid()}").touch()
            go = folder / f"go-{number}"
            while not go.exists():
                time.sleep(0.001)
            try:
                made = created(instance, go.read_text(), job).run
                said = made.run_id if made is not None else "nothing"
            except NotResumable as refusal:
                said = f"refused: {refusal}"
            (folder / f"part-{os.getpid()}").write_text(said)
            (folder / f"part-{os.getpid()}").rename(folder / f"said-{number}-{os.getpid()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
