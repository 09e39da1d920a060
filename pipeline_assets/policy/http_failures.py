"""What an HTTP status means, and how urllib, requests, and httpx hand it over."""

import re
import ssl
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline_assets.errors import (
    ConfigurationError,
    MissingTable,
    NetworkError,
    PermissionDenied,
    ProgrammingError,
    ServiceUnavailable,
    StorageConflict,
    StorageRefused,
    Throttled,
)
from pipeline_assets.policy.verdict import Finding, Kind, Verdict, named

_KINDS: dict[int, Kind] = {
    401: PermissionDenied,
    403: PermissionDenied,
    404: MissingTable,
    407: PermissionDenied,
    408: ServiceUnavailable,
    409: StorageConflict,
    410: MissingTable,
    412: StorageConflict,
    423: StorageConflict,
    425: ServiceUnavailable,
    429: Throttled,
    451: PermissionDenied,
    501: ConfigurationError,  # the server will not have learned the method by then
    505: ConfigurationError,
    507: StorageRefused,
}


def kind_of_status(status: int) -> Kind:
    """The class of a status: what is not listed is the server's fault from 500 on, and the request's below."""
    return _KINDS.get(status, ServiceUnavailable if status >= 500 else ProgrammingError)


def of_status(status: int, header: Callable[[str], str | None] | None = None) -> Verdict:
    """What an answer means. header: gives a header of it by name.

    A refusal that names a time to come back is a rate limit; some services say 403 for that.
    """
    kind, wait = kind_of_status(status), seconds_asked_for(header) if header else None
    if status == 403 and wait is not None:
        kind = Throttled
    return Verdict(kind, f"HTTP {status}", wait)


def seconds_asked_for(header: Callable[[str], str | None]) -> float | None:
    """What Retry-After asks for: seconds, or a date, which is counted from the answer's own, as clocks differ."""
    said = (header("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", said):
        return float(said)
    until = _moment(said)
    if until is None:
        return None
    since = _moment(header("Date") or "") or datetime.now(timezone.utc)
    return max(0.0, (until - since).total_seconds())


def _moment(said: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(said)
    except (TypeError, ValueError):  # Python 3.10 raises the former
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def urllib_status(error: BaseException) -> Finding:
    """For urllib.error.HTTPError, which is the answer itself."""
    status, headers = getattr(error, "code", None), getattr(error, "headers", None)
    return of_status(status, headers.get if headers else None) if isinstance(status, int) else None


def response_status(error: BaseException) -> Finding:
    """For the exceptions of requests and httpx that carry the answer; None without one."""
    response: Any = getattr(error, "response", None)
    if response is None:  # not "falsy", which is what requests calls an answer of 400 and more
        return None
    return of_status(response.status_code, response.headers.get)


def exhausted(error: BaseException) -> Finding:
    """For the exceptions of requests and urllib3 that end their own retries: the last status, or what they met."""
    found = re.search(r"too many (\d{3}) error responses", str(error))
    if found:
        return of_status(int(found[1]))
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, BaseException) else named(NetworkError, error)


def url_error(error: BaseException) -> Finding:
    """For urllib.error.URLError: what it wraps; a text alone speaks of the URL."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return reason
    return error.__cause__ or named(ConfigurationError, error)


def connection(error: BaseException) -> Finding:
    """A connection that failed: for good if it was the certificate that was refused, else for now."""
    return _certificate(error) or named(NetworkError, error)


def _certificate(error: BaseException) -> Verdict | None:
    """The refusal of a certificate among the exceptions that this one was made from."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, ssl.SSLCertVerificationError):
            why = getattr(one, "verify_message", " ".join(map(str, one.args)))  # OpenSSL's, where it was that
            return Verdict(ConfigurationError, f"certificate refused: {why}")
        todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return None
