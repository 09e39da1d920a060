"""What polars and pyarrow say of data, filelock of a lock, sqlite3 and SQLAlchemy of a database."""

import csv
import gzip
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import filelock
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import sqlalchemy as sa

from pipeline_assets.errors import (
    BadData,
    LockTimeout,
    MissingTable,
    NetworkError,
    PermissionDenied,
    PipelineAssetsError,
    ProgrammingError,
    SchemaError,
    ServiceUnavailable,
)
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets_tests.policy.failing import judged, raised

FRAME = pl.DataFrame({"n": [1], "list": [[1]], "struct": [{"a": 1}]})
SERIES = pl.Series([1])


@pytest.mark.parametrize(
    ("call", "said", "kind"),
    [
        (lambda: FRAME.select("m"), "ColumnNotFoundError", SchemaError),
        (lambda: FRAME.select(pl.col("struct").struct.field("b")), "StructFieldNotFoundError", SchemaError),
        (lambda: FRAME.select("n", pl.col("n")), "DuplicateError", SchemaError),
        (
            lambda: FRAME.vstack(pl.DataFrame({"n": ["x"], "list": [[1]], "struct": [{"a": 1}]})),
            "SchemaError",
            SchemaError,
        ),
        (lambda: pl.Series(["x"]).cast(pl.Int64), "InvalidOperationError", BadData),
        (lambda: pl.read_csv(b""), "NoDataError", BadData),
        (lambda: pl.read_csv(b"n\nx\n", schema={"n": pl.Int64}), "ComputeError", BadData),
        (lambda: FRAME.row(by_predicate=pl.col("n") > 1), "NoRowsReturnedError", BadData),
        (lambda: SERIES.gather([5]), "OutOfBoundsError", ProgrammingError),
        (lambda: pl.DataFrame({"a": [1], "b": [1, 2]}), "ShapeError", ProgrammingError),
        (lambda: pl.SQLContext().execute("select ="), "SQLInterfaceError", ProgrammingError),
    ],
)
def test_polars_on_data(call: Callable[[], object], said: str, kind: type[PipelineAssetsError]) -> None:
    assert judged(call) == Verdict(kind, said)


@pytest.mark.parametrize(
    ("call", "said", "kind"),
    [
        (lambda: pa.array(["x"]).cast(pa.int64()), "ArrowInvalid", BadData),
        (lambda: pa.array(["x", 1]), "ArrowTypeError", ProgrammingError),
        (lambda: pa.array([1]).cast(pa.struct([])), "ArrowNotImplementedError", ProgrammingError),
        (lambda: pa.compute.get_function("none"), "ArrowKeyError", ProgrammingError),
        (lambda: pa.allocate_buffer(2**62), "ArrowMemoryError", ProgrammingError),
    ],
)
def test_pyarrow_on_data(call: Callable[[], object], said: str, kind: type[PipelineAssetsError]) -> None:
    assert judged(call) == Verdict(kind, said)


@pytest.mark.parametrize("error", [pa.lib.ArrowCapacityError("?"), pa.lib.ArrowSerializationError("?")])
def test_what_arrow_cannot_hold_is_bad_data(error: BaseException) -> None:
    assert classify(error).kind is BadData


@pytest.mark.parametrize(
    "call",
    [
        lambda: gzip.decompress(b"no gzip"),
        lambda: zipfile.ZipFile("/dev/null"),
        lambda: list(csv.reader(["\0"], strict=True, quoting=csv.QUOTE_NONNUMERIC)),
        lambda: pydantic.TypeAdapter(int).validate_python("x"),
    ],
)
def test_what_the_readers_of_other_formats_refuse_is_bad_data(call: Callable[[], object]) -> None:
    assert judged(call).kind is BadData


def test_a_lock_that_is_not_given_back_is_transient(tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / "lock", is_singleton=False):
        verdict = judged(lambda: filelock.FileLock(tmp_path / "lock", is_singleton=False).acquire(timeout=0))
    assert verdict == Verdict(LockTimeout, "Timeout")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "database"
    connection = sqlite3.connect(path)
    connection.execute("create table numbers (n integer not null)")
    connection.execute("create table states (deadlock integer unique)")  # names are no reasons
    connection.close()
    return path


def with_sqlite3(path: str, statement: str) -> None:
    connection = sqlite3.connect(path, timeout=0, uri=True)
    try:
        connection.execute(statement)
    finally:
        connection.close()


def with_sqlalchemy(path: str, statement: str) -> None:
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path, timeout=0, uri=True))
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
    finally:
        engine.dispose()


every_way = pytest.mark.parametrize("run", [with_sqlite3, with_sqlalchemy])
Run = Callable[[str, str], None]


@every_way
def test_a_database_that_is_locked_is_transient(database: Path, run: Run) -> None:
    other = sqlite3.connect(database)
    other.execute("begin exclusive")
    verdict = judged(lambda: run(f"file:{database}", "insert into numbers values (1)"))
    other.close()
    assert verdict == Verdict(LockTimeout, "database: database is locked")


@every_way
@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("select * from none", MissingTable),
        ("selec 1", ProgrammingError),
        ("insert into numbers values (null)", BadData),
        ("insert into states select 1 union all select 1", BadData),
        ("select states.[gone away] from states", ProgrammingError),
    ],
)
def test_a_statement_that_is_refused_is_permanent(
    database: Path, run: Run, statement: str, kind: type[PipelineAssetsError]
) -> None:
    assert judged(lambda: run(f"file:{database}", statement)).kind is kind


@every_way
def test_so_is_a_database_that_may_only_be_read(database: Path, run: Run) -> None:
    verdict = judged(lambda: run(f"file:{database}?mode=ro", "insert into numbers values (1)"))
    assert verdict.kind is PermissionDenied


@every_way
def test_so_is_a_file_that_is_no_database(tmp_path: Path, run: Run) -> None:
    (tmp_path / "text").write_bytes(b"text" * 1000)
    assert judged(lambda: run(f"file:{tmp_path}/text", "select * from numbers")).kind is BadData
    assert judged(lambda: run(f"file:{tmp_path}/none/none", "select 1")).kind is MissingTable


def test_a_server_that_cannot_be_reached_is_the_network_s() -> None:
    def connect() -> sqlite3.Connection:
        raise sqlite3.OperationalError('connection to server at "127.0.0.1" failed: Connection refused')

    error = raised(sa.create_engine("sqlite://", creator=connect).connect)
    assert isinstance(error, sa.exc.OperationalError)
    assert classify(error).kind is NetworkError


def test_a_pool_without_a_free_connection_may_have_one_later() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01)
    with engine.connect():
        assert judged(engine.connect).kind is ServiceUnavailable
    engine.dispose()
