"""A storage that takes no more, real: a small tmpfs that is full, and one that is mounted read-only."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from pipeline_assets_tests.io_manager.running import failure, parquet, rows, run, version


@contextmanager
def mounted(folder: Path, size: str = "4m") -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
    mount = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small(root: Path) -> Iterator[Path]:
    """A root for tables with 4 MB of room."""
    with mounted(root):
        yield root


def numbers(count: int) -> dg.AssetsDefinition:
    @dg.asset(name="table")
    def table() -> pl.LazyFrame:
        return pl.LazyFrame({"n": range(count)}).with_columns(text=pl.col("n").hash().cast(pl.String))

    return table


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))


def read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


@pytest.mark.parametrize("act", [fill, read_only])
def test_nothing_is_written_and_what_was_there_stays(
    instance: dg.DagsterInstance, small: Path, act: Callable[[Path], None]
) -> None:
    run(instance, small, [numbers(10)])
    before = rows(small, "table"), version(small, "table"), parquet(small, "table")
    act(small)
    said = failure(run(instance, small, [numbers(200_000)], ok=False))
    assert "StorageRefused: table was not written" in said
    assert "pipeline-assets resume --last" in said
    assert (rows(small, "table"), version(small, "table"), parquet(small, "table")) == before


def test_when_there_is_room_again_the_same_run_can_be_made(instance: dg.DagsterInstance, small: Path) -> None:
    fill(small)
    assert "StorageRefused" in failure(run(instance, small, [numbers(1000)], ok=False))
    (small / "filler").unlink()
    run(instance, small, [numbers(1000)])
    assert len(rows(small, "table")) == 1000


def test_a_file_that_the_stage_may_not_read_is_its_own_error(instance: dg.DagsterInstance, root: Path) -> None:
    @dg.asset
    def table() -> pl.LazyFrame:
        raise PermissionError("/etc/secret")

    said = failure(run(instance, root, [table], ok=False))
    assert "PermissionError" in said
    assert "StorageRefused" not in said
