"""What object stores refuse, as delta-rs, polars, obstore, and pyarrow tell it; retries of their own are switched off."""

import json
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, TableNotFoundError
from obstore.store import LocalStore, S3Store
from pyarrow import fs

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    DamagedTable,
    MissingTable,
    NetworkError,
    PermissionDenied,
    PipelineAssetsError,
    ProgrammingError,
    SchemaError,
    ServiceUnavailable,
    StorageConflict,
    StorageRefused,
    Throttled,
    UnsupportedTable,
)
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets_tests.policy.failing import answering, free_port, judged, raised
from pipeline_assets_tests.seaweed import BUCKET, REGION, S3

ROWS = pa.table({"n": [1]})
NOWHERE = S3("", "key", "secret", "tables")
SHORT = timedelta(seconds=1)


def options(s3: S3, url: str | None = None) -> dict[str, str]:
    """By default delta-rs tries ten times, for 180 s at most; polars eight times, for 30 s."""
    patience = {"max_retries": "0", "retry_timeout": "1s", "timeout": "1s"}
    return {**s3.storage_options, **patience, **({"AWS_ENDPOINT_URL": url} if url else {})}


def with_deltalake(s3: S3, url: str | None) -> object:
    return DeltaTable(f"{s3.uri}/table", storage_options=options(s3, url))


def with_a_delta_write(s3: S3, url: str | None) -> object:
    return write_deltalake(f"{s3.uri}/table", ROWS, storage_options=options(s3, url))


def with_polars(s3: S3, url: str | None) -> object:
    patience = {"max_retries": 0, "retry_timeout_ms": 1000}
    return pl.scan_parquet(
        f"{s3.uri}/table", storage_options={**s3.storage_options, "AWS_ENDPOINT_URL": url, **patience}
    ).collect()


def with_obstore(s3: S3, url: str | None) -> object:
    store = S3Store(
        BUCKET,
        endpoint=url or s3.endpoint,
        access_key_id=s3.access_key,
        secret_access_key=s3.secret_key,
        region=REGION,
        client_options={"allow_http": True, "timeout": SHORT},
        retry_config={"max_retries": 0, "retry_timeout": SHORT},
    )
    return obstore.get(store, "table").bytes()


def with_pyarrow(s3: S3, url: str | None) -> object:
    files = fs.S3FileSystem(
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        endpoint_override=url or s3.endpoint,
        region=REGION,
        connect_timeout=1,
        request_timeout=1,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    with files.open_output_stream(f"{BUCKET}/table") as file:
        return file.write(b"1")


Ask = Callable[[S3, str | None], object]
RUST: list[Ask] = [with_deltalake, with_a_delta_write, with_polars, with_obstore]
every_rust_client = pytest.mark.parametrize("ask", RUST)
every_client = pytest.mark.parametrize("ask", [*RUST, with_pyarrow])


def xml(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>No.</Message></Error>'.encode()


@every_rust_client
@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (503, "SlowDown", Throttled, "503 SlowDown"),
        (503, "ServiceUnavailable", ServiceUnavailable, "503"),
        (500, "InternalError", ServiceUnavailable, "500"),
        (429, "TooManyRequests", Throttled, "429"),
        (408, "RequestTimeout", ServiceUnavailable, "408 RequestTimeout"),
        (400, "RequestTimeout", ServiceUnavailable, "400 RequestTimeout"),
        (400, "ExpiredToken", PermissionDenied, "400 ExpiredToken"),
        (400, "InvalidArgument", ProgrammingError, "400"),
        (401, "Unauthorized", PermissionDenied, "401"),
        (403, "AccessDenied", PermissionDenied, "403"),
        (404, "NoSuchBucket", MissingTable, "404"),
        (507, "InsufficientStorage", StorageRefused, "507"),
    ],
)
def test_a_refusal_is_judged_by_its_status_and_code(
    ask: Ask, status: int, code: str, kind: type[PipelineAssetsError], said: str
) -> None:
    if (ask, status) in {(with_deltalake, 404), (with_a_delta_write, 404)}:
        return  # delta-rs takes that for a folder without a table, or one to make
    with answering(status, body=xml(code)) as url:
        verdict = judged(lambda: ask(NOWHERE, url))
    assert (verdict.kind, verdict.said.partition(" ")[2]) == (kind, said)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", Throttled),
        (500, "InternalError", ServiceUnavailable),
        (418, "Teapot", ProgrammingError),
        (429, "TooManyRequests", Throttled),
        (403, "AccessDenied", PermissionDenied),
        (404, "NoSuchBucket", MissingTable),
    ],
)
def test_so_is_one_that_pyarrow_tells_in_its_own_words(status: int, code: str, kind: type[PipelineAssetsError]) -> None:
    with answering(status, body=xml(code)) as url:
        assert judged(lambda: with_pyarrow(NOWHERE, url)).kind is kind


@every_client
def test_a_store_that_is_not_there_is_the_network_s(ask: Ask) -> None:
    assert judged(lambda: ask(NOWHERE, f"http://127.0.0.1:{free_port()}")).kind is NetworkError


@every_rust_client
def test_so_is_one_whose_name_is_not_resolved(ask: Ask) -> None:
    assert judged(lambda: ask(NOWHERE, "http://nowhere.invalid")).kind is NetworkError


@pytest.mark.parametrize("ask", [with_deltalake, with_obstore])
def test_so_is_one_that_is_silent(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert judged(lambda: ask(NOWHERE, url)).kind is NetworkError


@pytest.mark.parametrize(
    ("ask", "status"),
    [*((ask, 503) for ask in RUST), *((ask, 200) for ask in RUST if ask is not with_polars), (with_polars, 206)],
)
def test_so_is_one_whose_answer_is_cut_off(ask: Ask, status: int) -> None:
    length = {"Content-Length": "1000", **({"Content-Range": "bytes 0-999/1000"} if status == 206 else {})}
    headers = {"Connection": "close", "Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT", "ETag": '"1"'}
    with answering(status, {**length, **headers}, body=b"half") as url:
        verdict = judged(lambda: ask(NOWHERE, url))
    assert verdict.transient, verdict


@pytest.mark.parametrize("ask", [with_deltalake, with_obstore])
def test_so_is_one_that_does_not_speak_tls(ask: Ask) -> None:
    with answering(200) as url:
        assert judged(lambda: ask(NOWHERE, url.replace("http:", "https:"))).kind is NetworkError


@every_rust_client
def test_a_certificate_that_is_refused_is_permanent(ask: Ask, self_signed: str) -> None:
    assert judged(lambda: ask(NOWHERE, self_signed)) == Verdict(ConfigurationError, "S3: certificate refused")


@every_client
def test_wrong_credentials_are_permanent(s3: S3, ask: Ask) -> None:
    wrong = S3(s3.endpoint, s3.access_key, "wrong", s3.prefix)
    assert judged(lambda: ask(wrong, s3.endpoint)).kind is PermissionDenied


def test_a_bucket_that_is_not_there_is_missing(s3: S3) -> None:
    error = raised(lambda: DeltaTable("s3://none/table", storage_options=options(s3)))
    assert classify(error) == Verdict(MissingTable, "S3 404")


@pytest.mark.parametrize("ask", [with_deltalake, with_polars, with_obstore])
def test_so_is_an_object(s3: S3, ask: Ask) -> None:
    assert judged(lambda: ask(s3.under(f"{s3.prefix}/none"), s3.endpoint)).kind is MissingTable


def test_a_version_that_another_writer_created_is_a_conflict(s3: S3) -> None:
    store = S3Store(
        BUCKET,
        endpoint=s3.endpoint,
        access_key_id=s3.access_key,
        secret_access_key=s3.secret_key,
        region=REGION,
        client_options={"allow_http": True},
    )
    put = lambda: obstore.put(store, f"{s3.prefix}/version", b"1", mode="create")  # noqa: E731
    put()
    assert judged(put) == Verdict(StorageConflict, "AlreadyExistsError")


def test_an_option_that_obstore_does_not_know_is_a_wrong_configuration() -> None:
    assert judged(lambda: S3Store("bucket", nonsense="1")).kind is ConfigurationError  # type: ignore[call-arg]


def test_what_obstore_says_of_a_folder(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    obstore.put(store, "one", b"1")
    assert judged(lambda: obstore.put(store, "one", b"1", mode="create")).kind is StorageConflict
    assert judged(lambda: obstore.get(store, "one", options={"if_match": "other"})).kind is StorageConflict
    assert judged(lambda: obstore.get(store, "one", options={"if_none_match": "*"})).kind is ProgrammingError
    assert judged(lambda: obstore.get(store, "none")).kind is MissingTable


@pytest.fixture
def table(tmp_path: Path) -> str:
    write_deltalake(str(tmp_path / "table"), ROWS)
    return str(tmp_path / "table")


def test_a_commit_that_another_overtook_is_a_conflict(table: str) -> None:
    first, second = DeltaTable(table), DeltaTable(table)
    first.delete()
    error = raised(second.delete)
    assert isinstance(error, CommitFailedError)
    assert classify(error) == Verdict(StorageConflict, "CommitFailedError")


def test_one_that_the_table_does_not_take_is_none(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "logbook"), ROWS, configuration={"delta.appendOnly": "true"})
    error = raised(DeltaTable(str(tmp_path / "logbook")).delete)
    assert isinstance(error, CommitFailedError)
    assert classify(error) == Verdict(UnsupportedTable, "CommitFailedError")


def test_a_table_that_is_not_there_is_missing(tmp_path: Path, table: str) -> None:
    error = raised(lambda: DeltaTable(str(tmp_path)))
    assert isinstance(error, TableNotFoundError)
    assert classify(error).kind is MissingTable
    assert judged(lambda: DeltaTable(table, version=9)).kind is MissingTable


def test_a_table_of_which_a_file_is_gone_is_missing(table: str) -> None:
    for file in Path(table).glob("*.parquet"):
        file.unlink()
    assert judged(lambda: DeltaTable(table).to_pyarrow_table()).kind is MissingTable
    assert judged(lambda: DeltaTable(table).delete("n > 0")).kind is MissingTable
    assert judged(lambda: pl.scan_delta(table).collect()).kind is MissingTable


def test_a_log_that_is_no_json_is_damaged(table: str) -> None:
    Path(table, "_delta_log", f"{0:020}.json").write_text("{no json")
    assert judged(lambda: DeltaTable(table)).kind is DamagedTable
    assert classify(DeltaProtocolError("Invalid JSON in log")).kind is DamagedTable


def test_a_table_of_a_later_protocol_is_unsupported(table: str) -> None:
    protocol = {"protocol": {"minReaderVersion": 99, "minWriterVersion": 99}}
    Path(table, "_delta_log", f"{1:020}.json").write_text(json.dumps(protocol) + "\n")
    assert judged(lambda: DeltaTable(table).to_pyarrow_table()).kind is UnsupportedTable


def test_columns_that_are_not_the_table_s_are_a_wrong_schema(table: str) -> None:
    assert judged(lambda: write_deltalake(table, pa.table({"m": [1]}), mode="append")).kind is SchemaError
    assert judged(lambda: DeltaTable(table).delete("m = 1")).kind is SchemaError


def test_rows_that_a_constraint_refuses_are_bad_data(table: str) -> None:
    assert judged(lambda: DeltaTable(table).alter.add_constraint({"many": "n > 5"})).kind is BadData


def test_rows_that_a_merge_cannot_tell_apart_are_bad_data(table: str) -> None:
    twice = pa.table({"n": [1, 1]})
    merge = DeltaTable(table).merge(twice, "s.n = t.n", source_alias="s", target_alias="t").when_matched_update_all()
    assert judged(merge.execute).kind is BadData


def test_what_deltalake_says_of_anything_else_is_a_mistake(table: str) -> None:
    error = raised(lambda: write_deltalake(table, ROWS))
    assert isinstance(error, DeltaError)
    assert classify(error) == Verdict(ProgrammingError, "DeltaError")
    assert judged(lambda: DeltaTable(table).delete("n = = 1")).kind is ProgrammingError


def test_a_stage_that_speaks_of_a_time_out_is_no_storage() -> None:
    assert not classify(OSError("the operation timed out while error sending request")).transient


def test_the_server_s_thread_ends_with_its_block() -> None:
    before = threading.active_count()
    with answering(200):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
