"""An op's output is a value of its run: whoever else writes to its table, the run reads its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import log_of
from pipeline_assets.recovery.resume import resume
from pipeline_assets_tests.io_manager.running import rows, run
from pipeline_assets_tests.recovery.test_foreign import clean_up_the_log


class Number(dg.Config):
    n: int


class Using:
    """A job of two ops: `make` a number, `use` it. between: called once, when `use` has not begun."""

    def __init__(self, root: Path) -> None:
        self.broken, self.seen = False, list[Any]()

        @dg.op
        def make(config: Number) -> pl.DataFrame:
            return pl.DataFrame({"n": [config.n]})

        @dg.op(out=dg.Out(dg.Nothing))
        def use(made: pl.DataFrame) -> None:
            if self.broken:
                raise ValueError
            self.seen.append(made["n"].to_list())

        @dg.graph
        def using() -> None:
            use(make())

        io = DeltaCheckpointIOManager(root_uri=str(root))
        self.job = using.to_job(resource_defs={"io_manager": io}, executor_def=dg.in_process_executor)

    def run(self, instance: dg.DagsterInstance, n: int, hook: Any = None) -> dg.ExecuteInProcessResult:
        config = {"ops": {"make": {"config": {"n": n}}}}
        job = self.job if hook is None else self.job.with_hooks({hook})
        return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


def once(act: Callable[[], object]) -> Any:
    """A hook that acts when the first step has succeeded."""
    todo = [act]

    @dg.success_hook
    def hook(_: Any) -> None:
        if todo:
            todo.pop()()

    return hook


def test_an_op_s_table_is_written_again_when_its_log_was_cleaned_up(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    using = Using(tmp_path)
    assert using.run(instance, 1).success
    clean_up_the_log(Location.of(str(tmp_path / "public" / "result")))
    log_of.cache_clear()
    assert using.run(instance, 2).success
    assert using.seen == [[1], [2]]


def test_a_run_uses_what_it_made_also_when_another_has_made_something_since(
    instance: dg.DagsterInstance, root: Path
) -> None:
    using = Using(root)
    first = using.run(instance, 1, once(lambda: using.run(instance, 2)))
    assert first.success
    assert using.seen == [[2], [1]]


def test_an_older_run_that_is_resumed_uses_what_it_made(instance: dg.DagsterInstance, root: Path) -> None:
    using = Using(root)
    using.broken = True
    first = using.run(instance, 1)
    using.broken = False
    assert using.run(instance, 2).success
    assert resume(instance, first.run_id, using.job).success
    assert using.seen == [[2], [1]]


def test_the_inner_ops_of_a_partitioned_graph_do_not_mix_their_partitions(
    instance: dg.DagsterInstance, root: Path
) -> None:
    """All inner outputs are called `result` and lie in one table, with other columns each time."""
    keys = dg.StaticPartitionsDefinition(["a", "b"])
    todo = [lambda: materialize("b")]

    @dg.op
    def inner(context: dg.OpExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"inner": [context.partition_key]})

    @dg.op
    def middle(made: pl.DataFrame) -> pl.DataFrame:
        if todo:
            todo.pop()()
        return made.select(middle="inner")

    @dg.op
    def outer(made: pl.DataFrame) -> pl.DataFrame:
        return made.select(key="middle", n=1)

    @dg.graph_asset(partitions_def=keys, metadata={"partition_expr": "key"})
    def whole() -> pl.DataFrame:
        return outer(middle(inner()))

    def materialize(key: str) -> None:
        run(instance, root, [whole], key)

    materialize("a")
    assert rows(root, "whole") == [("a", 1), ("b", 1)]
