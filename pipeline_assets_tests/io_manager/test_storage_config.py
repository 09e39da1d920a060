"""The configuration classes are dagster-deltalake's own, and cost little."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.io.storage_config import ClientConfig, S3Config
from pipeline_assets_tests.seaweed import S3


def said(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "order",
    [
        "import pipeline_assets.io.storage_config, dagster_deltalake",
        "import dagster_deltalake, pipeline_assets.io.storage_config",
    ],
)
def test_the_classes_are_the_same_whoever_comes_first(order: str) -> None:
    same = "print(pipeline_assets.io.storage_config.LocalConfig is dagster_deltalake.LocalConfig)"
    assert said(f"{order}; {same}") == "True"


def test_importing_the_library_does_not_load_pandas() -> None:
    assert said("import sys, pipeline_assets; print('pandas' in sys.modules, 'pyarrow.dataset' in sys.modules)") == (
        "False False"
    )


WRITES_READS_COMPACTS = """
import sys, dagster as dg, polars as pl
from pipeline_assets import DeltaCheckpointIOManager
from pipeline_assets.delta.compaction import size_of
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.restorable import before
from pipeline_assets.delta.table import open_table

days = dg.StaticPartitionsDefinition(["a", "b"])

@dg.asset(partitions_def=days, metadata={"partition_expr": "day"})
def first(context) -> pl.LazyFrame:
    return pl.LazyFrame({"day": [context.partition_key], "n": [1]})

@dg.asset(partitions_def=days, metadata={"partition_expr": "day"})
def second(first: pl.LazyFrame) -> pl.DataFrame:
    return first.collect()

for day in ("a", "b", "a"):
    tables = DeltaCheckpointIOManager(root_uri=sys.argv[1])
    assert dg.materialize([first, second], partition_key=day, resources={"io_manager": tables}).success
table = open_table(Location.of(sys.argv[1] + "/public/second"))
assert size_of(table).files == 2
before(table, 0, [])
print('pandas' in sys.modules and hasattr(sys.modules['pandas'], 'DataFrame'))
"""


def test_writing_reading_and_looking_for_what_can_be_restored_do_not_load_pandas_either(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITES_READS_COMPACTS, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr


def options(**how: Any) -> dict[str, str]:
    """What the storage's clients are given."""
    manager = DeltaCheckpointIOManager(root_uri="s3://lake", storage_options=S3Config(imdsv1_fallback=False), **how)
    return manager.settings().root.options


def test_the_clients_of_an_object_store_give_up_in_time() -> None:
    assert options() == {"imdsv1_fallback": "false", "read_timeout": "120s", "retry_timeout": "30s"}


def test_how_long_and_how_often_they_try_may_be_said() -> None:
    said = options(storage_read_timeout=7.5, storage_retry_timeout=0, storage_retries=2)
    assert said == {"imdsv1_fallback": "false", "read_timeout": "7.5s", "retry_timeout": "0s", "max_retries": "2"}


def test_polars_is_given_numbers() -> None:
    manager = DeltaCheckpointIOManager(root_uri="s3://lake", storage_options=S3Config(), storage_retries=2)
    given = manager.settings().root.polars_options
    assert given is not None
    assert (given["max_retries"], given["retry_timeout_ms"]) == (2, 30_000)


def test_a_local_disk_is_given_nothing() -> None:
    root = DeltaCheckpointIOManager(root_uri="lake").settings().root
    assert (root.options, root.polars_options) == ({}, None)


def test_seconds_of_the_client_options_are_given_with_their_unit() -> None:
    given = options(client_options=ClientConfig(connect_timeout=5, pool_idle_timeout=9, timeout="2s", http1_only=True))
    wanted = {"connect_timeout": "5s", "pool_idle_timeout": "9s", "timeout": "2s", "http1_only": "true"}
    assert {name: given[name] for name in wanted} == wanted


def test_all_three_clients_take_what_they_are_given(s3: S3) -> None:
    client = ClientConfig(allow_http=True, connect_timeout=5, timeout="20s")
    manager = DeltaCheckpointIOManager(
        root_uri=s3.uri, storage_options=s3.config, client_options=client, storage_retries=3
    )

    @dg.asset
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset
    def copied(numbers: pl.LazyFrame) -> pl.LazyFrame:
        return numbers

    assert dg.materialize([numbers, copied], resources={"io_manager": manager}).success
