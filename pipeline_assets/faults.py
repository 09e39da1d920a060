"""Fault points: `PIPELINE_ASSETS_CRASH=<point>[:<stage>]` ends the process there with SIGKILL.

Once for each run chain, stage and partition, remembered in DAGSTER_HOME, so that the resumed run goes through.
`rollback:<n>` is after the n-th commit of a rollback, in its own table or a stage's.
"""

import hashlib
import os
import signal
import tempfile
from pathlib import Path

from pipeline_assets.errors import ConfigurationError

VARIABLE = "PIPELINE_ASSETS_CRASH"
ROLLBACK = "rollback"
POINTS = ("before_compute", "before_write", "after_commit", "after_event", ROLLBACK)


def is_set() -> bool:
    """Whether any crash is asked for. Raises ConfigurationError for a point that there is not."""
    asked = os.environ.get(VARIABLE)
    if asked and asked.partition(":")[0] not in POINTS:
        raise ConfigurationError(f"{VARIABLE}={asked} names no fault point; there are {', '.join(POINTS)}.")
    return bool(asked)


def armed(point: str, stage: str) -> bool:
    """Whether the environment asks for a crash at this point of this stage."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return False
    name, _, of_stage = asked.partition(":")
    return name == point and of_stage in ("", stage)


def crash(point: str, stage: str, chain: str, partition: str) -> None:
    """End this process, if that is asked for here and was not done yet for this chain, stage and partition."""
    if armed(point, stage) and _first_time(point, stage, chain, partition):
        os.kill(os.getpid(), signal.SIGKILL)


def _first_time(*what: str) -> bool:
    home = Path(os.environ.get("DAGSTER_HOME") or tempfile.gettempdir()) / "pipeline_assets_crashes"
    home.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b("\0".join(what).encode(), digest_size=16).hexdigest()
    try:
        descriptor = os.open(home / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    os.fsync(descriptor)
    os.close(descriptor)
    return True
