"""Data files: where they lie, what becomes of those that no commit names."""

import datetime as dt
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.delta.commit import Proposal, try_commit, try_create
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.files import DataFile, Sink, attempt_of, delete_dead
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.partitions import Partition, Span
from pipeline_assets.delta.record import Part, Record, chain_id
from pipeline_assets.delta.schema import delta_schema
from pipeline_assets.delta.table import Table, open_table

RUN = "5a1e0f58-0000-4000-8000-000000000001"
START = dt.date(2013, 1, 1)
FRAME = pl.DataFrame({"day": [START, START, START + dt.timedelta(1)], "n": [1, 2, 3]})
DAY = Partition("2013-01-01", {"day": Span(START, START + dt.timedelta(1))})


def sink(folder: Path, attempt: int, frame: pl.DataFrame = FRAME, columns: tuple[str, ...] = ("day",)) -> Sink:
    return Sink(Location.of(str(folder)), delta_schema(frame.schema), columns, chain_id(RUN), attempt)


def committed(folder: Path, attempt: int) -> Table:
    """A table whose first version an attempt of the chain made."""
    files = sink(folder, attempt).write(FRAME.lazy())
    record = Record("write", "o", "", {DAY.key: Part(RUN, attempt)}, Mode.OVERWRITE)
    location = Location.of(str(folder))
    assert try_create(location, delta_schema(FRAME.schema), ["day"], Proposal(record, [file.add for file in files]))
    table = open_table(location)
    assert table is not None
    return table


def parquet(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}


def paths(files: list[DataFile]) -> set[str]:
    return {file.path for file in files}


def test_rows_lie_in_the_folder_of_their_value(tmp_path: Path) -> None:
    files = sink(tmp_path, 1).write(FRAME.lazy())
    assert {(file.path.split("/")[0], file.rows) for file in files} == {("day=2013-01-01", 2), ("day=2013-01-02", 1)}
    assert parquet(tmp_path) == paths(files)


def test_an_empty_frame_leaves_no_file(tmp_path: Path) -> None:
    assert sink(tmp_path, 1).write(FRAME.lazy().head(0)) == []
    assert parquet(tmp_path) == set()


def test_a_query_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def fail(_frame: pl.DataFrame) -> pl.DataFrame:
        raise RuntimeError

    begun = sink(tmp_path, 1)
    with pytest.raises((RuntimeError, pl.exceptions.PolarsError)):
        begun.write(pl.concat([FRAME.lazy(), FRAME.lazy().map_batches(fail, schema=FRAME.schema)]))
    assert parquet(tmp_path) == set()


def test_a_file_s_name_tells_who_wrote_it(tmp_path: Path) -> None:
    files = sink(tmp_path, 42).write(FRAME.lazy())
    assert {attempt_of(file.path.rsplit("/", 1)[-1]) for file in files} == {(chain_id(RUN), 42)}


@pytest.mark.parametrize("name", ["part-00000-c3f1-c000.snappy.parquet", "x.parquet", "part-x-y-z-a.parquet"])
def test_a_name_of_somebody_else_s_file_tells_nothing(name: str) -> None:
    assert attempt_of(name) is None


def test_files_of_an_attempt_that_was_given_up_are_deleted(tmp_path: Path) -> None:
    table = committed(tmp_path, 1)
    dead = sink(tmp_path, 2).write(FRAME.lazy())
    deleted = delete_dead(table, chain_id(RUN), 3, [DAY])
    assert set(deleted) == {path for path in paths(dead) if path.startswith("day=2013-01-01")}


def test_files_that_a_commit_names_are_never_deleted(tmp_path: Path) -> None:
    table = committed(tmp_path, 1)
    before = parquet(tmp_path)
    assert delete_dead(table, chain_id(RUN), 99, [DAY]) == []
    assert parquet(tmp_path) == before


def test_files_of_another_chain_or_a_later_attempt_are_left(tmp_path: Path) -> None:
    table = committed(tmp_path, 1)
    sink(tmp_path, 5).write(FRAME.lazy())
    assert delete_dead(table, chain_id(RUN), 5, [DAY]) == []
    assert delete_dead(table, chain_id(RUN) + 1, 99, [DAY]) == []


def test_a_stale_handle_cannot_commit(tmp_path: Path) -> None:
    table = committed(tmp_path, 1)
    stale = open_table(table.location)
    assert stale is not None
    assert try_commit(table, Proposal(Record("fence", "o", table.id), txns={"pa/fence/1": 1})) is not None
    assert try_commit(stale, Proposal(Record("fence", "o", table.id), txns={"pa/fence/1": 2})) is None
    fresh = open_table(table.location)
    assert fresh is not None
    assert fresh.txns["pa/fence/1"] == 1


def test_a_second_creator_gets_nothing(tmp_path: Path) -> None:
    table = committed(tmp_path, 1)
    assert try_create(table.location, table.schema, ["day"], Proposal(Record("create", "o", ""))) is None
