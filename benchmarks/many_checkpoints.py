"""Code locations with so many checkpoints that a benchmark of reading them means something, made in a minute.

One real run; its events and its commits are copied, with the names, versions and runs of others.
"""

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from deltalake import DeltaTable

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.delta.record import chain_id

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FIRST = "p00000"


def keys(count: int) -> list[str]:
    return [FIRST, *(f"p{number:05}" for number in range(1, count))]


def definitions(root: Path, stages: int, partitions: int) -> dg.Definitions:
    """`many/s00` → `many/s01` → …, each with so many partitions."""
    days = dg.StaticPartitionsDefinition(keys(partitions))
    return dg.Definitions(
        [_stage(number, days) for number in range(stages)],
        jobs=[dg.define_asset_job("many_job", selection=dg.AssetSelection.all())],
        resources={"io_manager": DeltaCheckpointIOManager(root_uri=str(root))},
        executor=dg.in_process_executor,
    )


def _stage(number: int, days: dg.StaticPartitionsDefinition) -> dg.AssetsDefinition:
    said: dict[str, Any] = {"key_prefix": "many", "name": f"s{number:02}", "partitions_def": days}
    said |= {"metadata": {"partition_expr": "day"}, "group_name": "many"}
    if number == 0:

        def first(context: dg.AssetExecutionContext) -> pl.DataFrame:
            return pl.DataFrame({"day": [context.partition_key], "n": [1]})

        return dg.asset(**said)(first)

    def next_(before: pl.LazyFrame) -> pl.LazyFrame:
        return before

    return dg.asset(**said, ins={"before": dg.AssetIn(["many", f"s{number - 1:02}"])})(next_)


def make(home: Path, root: Path, stages: int, partitions: int, rounds: int = 1) -> None:
    """A run a partition and round, each of which has committed every stage."""
    job = definitions(root, stages, partitions).resolve_job_def("many_job")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = job.execute_in_process(instance=instance, partition_key=FIRST, run_config=QUIET).run_id
    runs = [(key, str(uuid.uuid4())) for _ in range(rounds) for key in keys(partitions)][1:]
    _copy_rows(home / "history" / "runs.db", "runs", run, runs)
    _copy_rows(home / "history" / "runs" / "index.db", "event_logs", run, runs)
    ids: list[str] = []
    for number in range(stages):
        ids.append(_copy_commits(root / "many" / f"s{number:02}", run, runs, ids, partitions))


Runs = Sequence[tuple[str, str]]
"""Of version 1, 2, …: the partition, and the run that made it."""


def _copy_rows(path: Path, table: str, run: str, runs: Runs) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE run_id = ?", [run])]  # noqa: S608
        for version, (key, other) in enumerate(runs, 1):
            for row in rows:
                new = {name: _renamed(value, run, other, key, version) for name, value in row.items() if name != "id"}
                marks = ", ".join("?" * len(new))
                names = ", ".join(f'"{name}"' for name in new)
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(new.values()))  # noqa: S608


def _renamed(value: Any, run: str, other: str, key: str, version: int) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace(run, other).replace(FIRST, key)
    return value.replace('"value": 0}, "label": "delta/version"', f'"value": {version}}}, "label": "delta/version"')


def _copy_commits(table: Path, run: str, runs: Runs, before: Sequence[str], partitions: int) -> str:
    """The table's id. before: those of the tables that come before it in the chain."""
    log = table / "_delta_log"
    first = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    table_id: str = next(action["metaData"]["id"] for action in first if "metaData" in action)
    data = next((table / f"day={FIRST}").iterdir())
    for version, (key, other) in enumerate(runs, 1):
        folder = table / f"day={key}"
        folder.mkdir(exist_ok=True)
        os.link(data, folder / f"{version // partitions}-{data.name}")
        actions = list(_as_of(first, table_id, run, other, key, version, before, partitions))
        (log / f"{version:020}.json").write_text(
            "\n".join(json.dumps(one, separators=(",", ":")) for one in actions) + "\n"
        )
    DeltaTable(table, version=len(runs) // 10 * 10).create_checkpoint()
    return table_id


def _as_of(
    first: Sequence[dict[str, Any]],
    table_id: str,
    run: str,
    other: str,
    key: str,
    version: int,
    before: Sequence[str],
    partitions: int,
) -> Iterator[dict[str, Any]]:
    turn = version // partitions
    for action in json.loads(json.dumps(first).replace(run, other).replace(FIRST, key)):
        if "metaData" in action or "protocol" in action:
            continue
        if "add" in action:
            folder, name = action["add"]["path"].split("/")
            if turn:
                old = name if (turn, key) == (1, FIRST) else f"{turn - 1}-{name}"
                yield {"remove": {"path": f"{folder}/{old}", "dataChange": True, "deletionTimestamp": 0}}
            action["add"]["path"] = f"{folder}/{turn}-{name}"
        if "txn" in action:
            action["txn"]["version"] = version if action["txn"]["appId"].startswith("pa/data/") else chain_id(other)
        if "commitInfo" in action:
            record = action["commitInfo"]["pipelineAssets"]
            record["table"] = table_id
            if before:
                record["shared"]["pins"] = {f"many/s{len(before) - 1:02}": [before[-1], version]}
        yield action
