"""A code location with a stage that says much to its executor, which stands still, and then keeps the GIL."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator

import dagster as dg
import polars as pl

from pipeline_assets import stage
from pipeline_assets.settings import io_manager
from pipeline_assets_tests.stage.slow import begin

SIZE = "LOUD_SIZE"


@stage(outs={"said": dg.AssetOut(), "unsaid": dg.AssetOut()}, timeout=3, max_retries=3, min_retry_interval=0.1)
def loud() -> Iterator[dg.Output[pl.DataFrame]]:
    """One output with so many bytes of metadata, the other one never."""
    executor = multiprocessing.parent_process()
    assert executor is not None
    assert executor.pid is not None
    os.kill(executor.pid, signal.SIGSTOP)
    begin()
    metadata = {"text": "." * int(os.environ[SIZE])}
    yield dg.Output(pl.DataFrame({"n": [1]}), output_name="said", metadata=metadata)
    sum(itertools.repeat(1, 10**12))


loud_job = dg.define_asset_job("loud_job", executor_def=dg.multiprocess_executor)
defs = dg.Definitions(assets=[loud], jobs=[loud_job], resources={"io_manager": io_manager()})
