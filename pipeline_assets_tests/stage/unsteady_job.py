"""A code location of the stages in `unsteady.py`, on the store that the environment names, and with as little time."""

import os

from pipeline_assets_tests.seaweed import S3
from pipeline_assets_tests.stage.unsteady import definitions, stages

ENDPOINT, ACCESS_KEY, SECRET_KEY, PREFIX = "UNSTEADY_ENDPOINT", "UNSTEADY_KEY", "UNSTEADY_SECRET", "UNSTEADY_PREFIX"
SECONDS = "UNSTEADY_SECONDS"


def variables(s3: S3, seconds: float) -> dict[str, str]:
    """What a child process is to find in its environment."""
    known = {ENDPOINT: s3.endpoint, ACCESS_KEY: s3.access_key, SECRET_KEY: s3.secret_key, PREFIX: s3.prefix}
    return {**known, SECONDS: str(seconds)}


store = S3(*(os.environ.get(name, "") for name in (ENDPOINT, ACCESS_KEY, SECRET_KEY, PREFIX)))
slow_to_give_up = {"timeout": "60s", "storage_retries": None}
defs = definitions(store, stages(max_retries=0, timeout=float(os.environ.get(SECONDS, "60"))), **slow_to_give_up)
