"""Which attempt of a step is which."""

from pathlib import Path

import dagster as dg
import polars as pl

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.chains import attempt_of, step_starts


def test_an_attempt_keeps_its_number_when_a_later_one_has_begun(instance: dg.DagsterInstance, root: Path) -> None:
    """A process that was stopped before it asked for its number, and asks when its step was started again."""

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def numbers(context: dg.AssetExecutionContext) -> pl.DataFrame:
        if context.retry_number < 2:
            raise ConnectionResetError
        return pl.DataFrame({"n": [1]})

    io = DeltaCheckpointIOManager(root_uri=str(root))
    result = dg.materialize([numbers], resources={"io_manager": io}, instance=instance)
    starts = step_starts(instance, result.run_id, "numbers")
    attempts = [attempt_of(instance, result.dagster_run, "numbers", nth) for nth in (1, 2, 3)]
    assert [one.number for one in attempts] == starts
    assert len(set(starts)) == 3
