"""Several outputs of one step: each is committed once, all are made from the same, or from something newer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.recovery.resume import resume
from pipeline_assets_tests.io_manager.running import rows, run, told, version


class Counted:
    """A source of numbers, each of which is a version of its table."""

    def __init__(self, name: str) -> None:
        self.made = 0

        @dg.asset(name=name)
        def numbers() -> pl.DataFrame:
            self.made += 1
            return pl.DataFrame({"n": [self.made]})

        self.asset = numbers


class Pair:
    """Two outputs of two inputs. between: called once, when the first is committed and the second is not."""

    def __init__(self) -> None:
        self.broken, self.computed, self.between = False, 0, lambda: None

        @dg.multi_asset(
            outs={"left": dg.AssetOut(is_required=False), "right": dg.AssetOut(is_required=False)}, can_subset=True
        )
        def pair(context: dg.AssetExecutionContext, x: pl.DataFrame, y: pl.DataFrame) -> Iterator[Any]:
            if self.broken:
                raise ValueError
            self.computed += 1
            made = pl.DataFrame({"x": x["n"], "y": y["n"]})
            for name in sorted(context.op_execution_context.selected_output_names):
                yield dg.Output(made, name)
                between, self.between = self.between, lambda: None
                between()

        self.asset = pair


def test_outputs_that_others_wrote_from_other_inputs_are_made_from_the_newest_of_both(
    instance: dg.DagsterInstance, root: Path
) -> None:
    """`right` is another run's, made from an older x and a newer y, when `left` is committed: neither may win."""
    x, y, pair = Counted("x"), Counted("y"), Pair()
    assets = [x.asset, y.asset, pair.asset]
    job = dg.Definitions(
        assets,
        resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(root))},
        jobs=[dg.define_asset_job("old", selection=["x", "right"]), dg.define_asset_job("y_alone", selection=["y"])],
        executor=dg.in_process_executor,
    ).resolve_job_def
    run(instance, root, assets, selection="y")
    pair.broken = True
    old = job("old").execute_in_process(instance=instance, raise_on_error=False)
    pair.broken = False

    def others_are_faster() -> None:
        assert job("y_alone").execute_in_process(instance=instance).success
        assert resume(instance, old.run_id, job("old")).success

    pair.between = others_are_faster
    result = run(instance, root, [x.asset, y.asset, pair.asset], selection=["x", "left", "right"])

    assert rows(root, "right") == [(2, 2)]
    assert told(result, "right")[None]["checkpoint/inputs"] == {"x": 1, "y": 1}
    assert (version(root, "left"), pair.computed) == (0, 3)
    assert told(result, "left")[None]["checkpoint/adopted"] is True
