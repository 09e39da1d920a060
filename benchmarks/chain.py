"""(a) A chain of four stages over TPC-H's lineitem, against the same by hand and with other IO managers.

`python benchmarks/chain.py [SCALE]` (1 without). All columns into a table; two computed columns; what was shipped by a day;
a summary by flag and status. Each stage reads the table of the one before.
"""

import datetime as dt
import sys
from pathlib import Path
from typing import Any

from environments import lineitem, python
from measure import Numbers, main

PEERS = ("dagster_deltalake", "dagster_polars", "dagster_delta")
STAGES = ("lineitem", "priced", "shipped", "summary")


def priced(frame: Any) -> Any:
    import polars as pl

    discounted = pl.col("l_extendedprice") * (1 - pl.col("l_discount"))
    return frame.with_columns(revenue=discounted, charge=discounted * (1 + pl.col("l_tax")))


def shipped(frame: Any) -> Any:
    import polars as pl

    return frame.filter(pl.col("l_shipdate") <= dt.date(1998, 9, 2))


def summary(frame: Any) -> Any:
    import polars as pl

    sums = pl.col("l_quantity", "l_extendedprice", "revenue", "charge").sum()
    return frame.group_by("l_returnflag", "l_linestatus").agg(sums, rows=pl.len())


def source(scale: str) -> Any:
    """With decimals as numbers: not all of the peers write decimals."""
    import polars as pl
    import polars.selectors as cs

    return pl.scan_parquet(lineitem(int(scale))).with_columns(cs.decimal().cast(pl.Float64))


def by_hand(root: Path, scale: str) -> Numbers:
    """Polars and delta-rs, as its documentation has it."""
    import polars as pl

    frame = source(scale)
    for name, step in zip(STAGES, (lambda one: one, priced, shipped, summary), strict=True):
        step(frame).sink_delta(str(root / name), mode="overwrite")
        frame = pl.scan_delta(str(root / name))
    return {}


def with_dagster(io_manager: Any, scale: str, **metadata: Any) -> Numbers:
    import dagster as dg
    import polars as pl

    def stage(name: str, step: Any, *ins: str) -> Any:
        if not ins:

            @dg.asset(name=name, metadata=metadata)
            def first() -> pl.LazyFrame:
                return source(scale)

            return first

        @dg.asset(name=name, ins={"frame": dg.AssetIn(ins[0])}, metadata=metadata)
        def later(frame: pl.LazyFrame) -> pl.LazyFrame:
            return step(frame)

        return later

    assets = [stage(STAGES[0], None)]
    for before, name, step in zip(STAGES, STAGES[1:], (priced, shipped, summary), strict=False):
        assets.append(stage(name, step, before))
    job = dg.Definitions(
        assets,
        jobs=[dg.define_asset_job("all")],
        resources={"io_manager": io_manager},
        executor=dg.in_process_executor,
    ).resolve_job_def("all")
    with dg.DagsterInstance.get() as instance:
        quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
        assert job.execute_in_process(instance=instance, run_config=quiet).success
    return {}


def ours(root: Path, scale: str) -> Numbers:
    from pipeline_assets import DeltaCheckpointIOManager

    return with_dagster(DeltaCheckpointIOManager(root_uri=str(root / "tables")), scale)


def dagster_deltalake(root: Path, scale: str) -> Numbers:
    from dagster_deltalake import LocalConfig
    from dagster_deltalake_polars import DeltaLakePolarsIOManager

    return with_dagster(DeltaLakePolarsIOManager(root_uri=str(root), storage_options=LocalConfig()), scale)


def dagster_polars(root: Path, scale: str) -> Numbers:
    from dagster_polars import PolarsDeltaIOManager

    return with_dagster(PolarsDeltaIOManager(base_dir=str(root)), scale, mode="overwrite")


def dagster_delta(root: Path, scale: str) -> Numbers:
    from dagster_delta import LocalConfig
    from dagster_delta.io_manager.polars import DeltaLakePolarsIOManager

    return with_dagster(DeltaLakePolarsIOManager(root_uri=str(root), storage_options=LocalConfig()), scale)


def verdict(found: dict[str, Numbers]) -> str:
    lines = []
    for name in found:
        if name != "ours":
            seconds, memory = (found["ours"][key] / found[name][key] for key in ("process (s)", "peak (GB)"))
            lines.append(f"- of {name}: {seconds:.2f} × the time, {memory:.2f} × the memory")
    return "\n".join(
        ["Ours is", *lines, "", "Targets: of by_hand 0.7 and 0.5, of dagster_deltalake 0.2 of the memory."]
    )


if __name__ == "__main__":
    contenders = {
        "ours": ours,
        "by_hand": by_hand,
        "dagster_deltalake": dagster_deltalake,
        "dagster_polars": dagster_polars,
        "dagster_delta": dagster_delta,
    }
    chosen = sys.argv[1] if len(sys.argv) == 2 else "1"
    if len(sys.argv) <= 2:
        lineitem(int(chosen))
    if chosen != "1":
        contenders = {name: contenders[name] for name in ("ours", "by_hand")}
    main(
        __file__,
        contenders,
        verdict,
        times=3,
        arguments=[chosen],
        pythons=lambda: {name: python(name) for name in PEERS if name in contenders},
    )
