"""What servers answer, through urllib, http.client, requests, urllib3, and httpx."""

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
import requests
import requests.adapters
import urllib3

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    MissingTable,
    NetworkError,
    PermissionDenied,
    PipelineAssetsError,
    ProgrammingError,
    ServiceUnavailable,
    StorageConflict,
    StorageRefused,
    Throttled,
)
from pipeline_assets.policy.failures import Verdict, classify
from pipeline_assets_tests.policy.failing import answering, free_port, judged, raised, saying

Get = Callable[[str], object]


def with_urllib(url: str) -> object:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read()


def with_requests(url: str) -> object:
    answer = requests.get(url, timeout=5)
    answer.raise_for_status()
    return answer.json()


def with_httpx(url: str) -> object:
    return httpx.get(url, timeout=5).raise_for_status().json()


CLIENTS: list[Get] = [with_urllib, with_requests, with_httpx]
every_client = pytest.mark.parametrize("get", CLIENTS)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are this host's, whatever the machine's proxy."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@every_client
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProgrammingError),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, MissingTable),
        (408, ServiceUnavailable),
        (409, StorageConflict),
        (410, MissingTable),
        (422, ProgrammingError),
        (429, Throttled),
        (500, ServiceUnavailable),
        (501, ConfigurationError),
        (502, ServiceUnavailable),
        (503, ServiceUnavailable),
        (507, StorageRefused),
        (522, ServiceUnavailable),
    ],
)
def test_an_answer_is_judged_by_its_status(get: Get, status: int, kind: type[PipelineAssetsError]) -> None:
    with answering(status) as url:
        error = raised(lambda: get(url))
    assert classify(error) == Verdict(kind, f"HTTP {status}")
    close(error)


def close(error: BaseException) -> None:
    """An HTTPError of urllib is an open answer, too."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()


@every_client
@pytest.mark.parametrize(("status", "kind"), [(429, Throttled), (503, ServiceUnavailable), (403, Throttled)])
def test_the_seconds_that_it_asks_for_are_handed_on(get: Get, status: int, kind: type[PipelineAssetsError]) -> None:
    with answering(status, {"Retry-After": "17"}) as url:
        error = raised(lambda: get(url))
    assert classify(error) == Verdict(kind, f"HTTP {status}", 17.0)
    close(error)


def date(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


@every_client
@pytest.mark.parametrize(("seconds", "least", "most"), [(120, 118, 122), (-120, 0, 0)])
def test_a_date_that_it_asks_for_is_handed_on_as_seconds(get: Get, seconds: int, least: int, most: int) -> None:
    with answering(503, {"Retry-After": date(seconds)}) as url:
        error = raised(lambda: get(url))
    wait = classify(error).retry_after
    assert wait is not None
    assert least <= wait <= most
    close(error)


def test_a_date_is_counted_from_the_server_s_own_clock() -> None:
    answer = requests.Response()
    answer.status_code = 503
    answer.headers.update({"Date": "Mon, 05 Jan 2015 10:00:00 GMT", "Retry-After": "Mon, 05 Jan 2015 10:01:30 GMT"})
    assert judged(answer.raise_for_status).retry_after == 90


@pytest.mark.parametrize("said", ["soon", "-5", "", "nan", "1e400", "Mon, 99 Jan 2015 10:00:00 GMT"])
def test_what_is_neither_seconds_nor_a_date_is_not_handed_on(said: str) -> None:
    with answering(503, {"Retry-After": said}) as url:
        assert judged(lambda: with_requests(url)) == Verdict(ServiceUnavailable, "HTTP 503")


@every_client
def test_a_port_that_nobody_listens_on_is_the_network_s(get: Get) -> None:
    assert judged(lambda: get(f"http://127.0.0.1:{free_port()}")).kind is NetworkError


@every_client
def test_so_is_a_name_that_is_not_resolved(get: Get) -> None:
    assert judged(lambda: get("http://nowhere.invalid")).kind is NetworkError


@every_client
def test_so_is_a_server_that_hangs_up(get: Get) -> None:
    with saying(b"") as url:
        assert judged(lambda: get(url)).kind is NetworkError


@every_client
def test_so_is_an_answer_that_breaks_off(get: Get) -> None:
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") as url:
        assert judged(lambda: get(url)).kind is NetworkError


@every_client
def test_so_is_a_far_end_that_does_not_speak_tls(get: Get) -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert judged(lambda: get(url.replace("http:", "https:"))).kind is NetworkError


@every_client
def test_a_certificate_that_is_refused_is_permanent(get: Get, self_signed: str) -> None:
    verdict = judged(lambda: get(self_signed))
    assert (verdict.kind, verdict.said[:20]) == (ConfigurationError, "certificate refused:")


@pytest.mark.parametrize("get", CLIENTS[1:])
def test_an_address_that_cannot_be_is_a_wrong_configuration(get: Get) -> None:
    for url in ("gopher://127.0.0.1", "127.0.0.1/no/scheme"):
        assert judged(lambda url=url: get(url)).kind is ConfigurationError


def test_so_is_one_that_urllib_does_not_know() -> None:
    assert judged(lambda: with_urllib("gopher://127.0.0.1")).kind is ConfigurationError


@pytest.mark.parametrize("get", CLIENTS[1:])
def test_an_answer_that_is_no_json_is_bad_data(get: Get) -> None:
    with answering(200, body=b"<html>") as url:
        assert judged(lambda: get(url)).kind is BadData


@pytest.mark.parametrize("get", CLIENTS[1:])
def test_so_is_one_that_is_packed_wrongly(get: Get) -> None:
    with answering(200, {"Content-Encoding": "gzip"}, b"no gzip") as url:
        assert judged(lambda: get(url)).kind is BadData


@pytest.mark.parametrize(("status", "kind"), [(503, ServiceUnavailable), (429, Throttled)])
def test_retries_of_requests_own_end_with_the_last_status(status: int, kind: type[PipelineAssetsError]) -> None:
    retries = urllib3.Retry(total=1, status_forcelist=[status], backoff_factor=0)
    with answering(status) as url, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        error = raised(lambda: session.get(url, timeout=5))
    assert isinstance(error, requests.exceptions.RetryError)
    assert classify(error) == Verdict(kind, f"HTTP {status}")


def test_retries_of_urllib3_s_own_end_with_what_they_met() -> None:
    with urllib3.PoolManager() as pool:
        error = raised(lambda: pool.request("GET", f"http://127.0.0.1:{free_port()}", retries=0))
    assert isinstance(error, urllib3.exceptions.MaxRetryError)
    assert classify(error).kind is NetworkError


def test_a_server_that_is_slow_is_the_network_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert judged(lambda: requests.get(url, timeout=0.01)) == Verdict(NetworkError, "ReadTimeout")


def test_what_http_client_meets_by_itself() -> None:
    def get(url: str) -> bytes:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read()
        finally:
            connection.close()

    with saying(b"") as url:
        assert judged(lambda: get(url)) == Verdict(NetworkError, "RemoteDisconnected")
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") as url:
        assert judged(lambda: get(url)) == Verdict(NetworkError, "IncompleteRead")
    with saying(b"220 mail.example ESMTP\r\n") as url:
        assert judged(lambda: get(url)) == Verdict(NetworkError, "BadStatusLine")
    assert judged(lambda: http.client.HTTPConnection("127.0.0.1:port")) == Verdict(ConfigurationError, "InvalidURL")


def test_a_download_that_breaks_off_is_the_network_s(tmp_path: Path) -> None:
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") as url:
        verdict = judged(lambda: urllib.request.urlretrieve(url, tmp_path / "part"))
    assert verdict == Verdict(NetworkError, "ContentTooShortError")
