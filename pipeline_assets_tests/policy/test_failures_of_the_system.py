"""Error numbers, made by the operating system itself."""

import errno
import io
import os
import resource
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from obstore.store import LocalStore

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    MissingTable,
    NetworkError,
    PermissionDenied,
    ProgrammingError,
    ServiceUnavailable,
    StorageRefused,
)
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets_tests.io_manager.test_storage_refuses import mounted
from pipeline_assets_tests.policy.failing import free_port, judged, raised, saying

FRAME = pl.DataFrame({"n": range(100_000)})
FULL = Verdict(StorageRefused, "disk full (ENOSPC)")
READ_ONLY = Verdict(PermissionDenied, "read-only file system (EROFS)")


def write(path: str | Path, data: bytes = b"x") -> None:
    Path(path).write_bytes(data)


def ways(folder: Path) -> dict[str, Callable[[], object]]:
    """How files are written, each by another library."""
    return {
        "python": lambda: write(folder / "bytes", bytes(1 << 20)),
        "polars": lambda: FRAME.lazy().sink_parquet(folder / "lazy.parquet"),
        "pyarrow": lambda: pq.write_table(FRAME.to_arrow(), folder / "arrow.parquet"),
        "deltalake": lambda: write_deltalake(str(folder / "table"), FRAME.to_arrow()),
        "obstore": lambda: obstore.put(LocalStore(str(folder)), "object", bytes(1 << 20)),
    }


WAYS = sorted(ways(Path()))


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_is_transient(tmp_path: Path, way: str) -> None:
    with mounted(tmp_path / "small", "64k"):
        assert judged(ways(tmp_path / "small")[way]) == FULL


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_is_mounted_read_only_is_permanent(tmp_path: Path, way: str) -> None:
    with mounted(tmp_path / "small", "64k"):
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "small"], check=True)
        assert judged(ways(tmp_path / "small")[way]) == READ_ONLY


def test_so_is_a_full_device() -> None:
    # By Python alone: pyarrow removes what it could not write, the machine's device, too.
    assert judged(lambda: write("/dev/full")) == FULL


@contextmanager
def nobody() -> Iterator[None]:
    """Not root, to whom nothing is forbidden."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_what_is_forbidden_is_permanent(tmp_path: Path) -> None:
    write(tmp_path / "secret")
    (tmp_path / "secret").chmod(0)
    with nobody():
        assert judged((tmp_path / "secret").read_bytes) == Verdict(PermissionDenied, "permission denied (EACCES)")
        assert judged(lambda: os.setuid(1)) == Verdict(PermissionDenied, "operation not permitted (EPERM)")


def test_a_process_that_is_out_of_files_may_have_some_later() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        verdict = judged(lambda: os.open("/dev/null", os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert verdict == Verdict(ServiceUnavailable, "too many open files (EMFILE)")


def test_a_disk_that_stumbles_may_go_on_later() -> None:
    # The first page of a process's memory, which nothing is mapped to.
    def peek() -> None:
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.read(1)

    assert judged(peek) == Verdict(ServiceUnavailable, "input/output error (EIO)")


def test_what_would_block_may_be_had_later() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    assert judged(lambda: os.read(reading, 1)).kind is ServiceUnavailable
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("read", [pl.read_parquet, pl.read_csv, pq.read_table, Path.read_bytes])
def test_a_file_that_is_not_there_is_missing(tmp_path: Path, read: Callable[[Path], object]) -> None:
    assert judged(lambda: read(tmp_path / "none")).kind is MissingTable


def test_a_path_that_cannot_be_is_a_wrong_configuration(tmp_path: Path) -> None:
    write(tmp_path / "file")
    assert judged(lambda: write(tmp_path)).kind is ConfigurationError
    assert judged(lambda: write(tmp_path / "file" / "below")).kind is ConfigurationError


def test_a_number_that_is_not_listed_is_a_mistake(tmp_path: Path) -> None:
    assert judged(tmp_path.mkdir) == Verdict(ProgrammingError, "file exists (EEXIST)")
    assert judged(lambda: io.BytesIO().fileno()).kind is ProgrammingError


def test_a_certificate_that_is_refused_is_permanent_also_where_no_openssl_says_why() -> None:
    found = classify(ssl.SSLCertVerificationError("pinned to another one"))
    assert (found.kind, found.said) == (ConfigurationError, "certificate refused: pinned to another one")


def test_a_port_that_nobody_listens_on_is_the_network_s() -> None:
    verdict = judged(lambda: socket.create_connection(("127.0.0.1", free_port())))
    assert verdict == Verdict(NetworkError, "connection refused (ECONNREFUSED)")


def test_so_is_a_name_that_is_not_resolved() -> None:
    error = raised(lambda: socket.create_connection(("nowhere.invalid", 80)))
    assert isinstance(error, socket.gaierror)
    assert classify(error) == Verdict(NetworkError, "gaierror")


def test_so_is_a_pipe_that_broke() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert judged(lambda: os.write(writing, b"x")) == Verdict(NetworkError, "broken pipe (EPIPE)")
    os.close(writing)


def test_so_is_a_far_end_that_falls_silent() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=0.01) as client,
    ):
        assert judged(lambda: client.recv(1)) == Verdict(NetworkError, "TimeoutError")


def test_so_is_one_that_does_not_speak_tls() -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            error = raised(lambda: ssl.create_default_context().wrap_socket(client, server_hostname=host))
    assert isinstance(error, ssl.SSLError)
    assert classify(error).kind is NetworkError


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.EBUSY, errno.ENOLCK])
def test_what_cannot_be_had_here_is_transient_by_its_number(number: int) -> None:
    assert classify(OSError(number, os.strerror(number))).transient


def test_a_panic_of_a_rust_library_is_a_mistake() -> None:
    error = raised(lambda: pl.repeat("x", 2**62, eager=True))
    assert isinstance(error, pl.exceptions.PanicException)
    assert classify(error) == Verdict(ProgrammingError, "PanicException")


def test_unless_it_is_a_storage_s() -> None:
    error = pl.exceptions.PanicException("called `unwrap()`: No space left on device (os error 28)")
    assert classify(error) == FULL


def test_a_parquet_file_that_is_none_is_bad_data(tmp_path: Path) -> None:
    write(tmp_path / "text.parquet", b"this is no Parquet")
    assert judged(lambda: pl.read_parquet(tmp_path / "text.parquet")).kind is BadData
    assert judged(lambda: pq.read_table(tmp_path / "text.parquet")).kind is BadData
    assert judged(lambda: pa.ipc.open_file(tmp_path / "text.parquet")).kind is BadData
