"""What storages say, in the texts that delta-rs, polars, obstore, and pyarrow make of it.

None of them hands over a status or an error number, and delta-rs and polars raise a plain OSError for most of it.
"""

import re

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    DamagedTable,
    MissingTable,
    NetworkError,
    PermissionDenied,
    SchemaError,
    ServiceUnavailable,
    StorageConflict,
    Throttled,
    UnsupportedTable,
)
from pipeline_assets.policy.http_failures import kind_of_status
from pipeline_assets.policy.os_failures import number_of, of_number
from pipeline_assets.policy.verdict import Finding, Kind, Verdict, named

_COLOUR = re.compile(r"\x1b\[\d*m")
_STORE = re.compile(r"Generic (\w+) error")
_STATUS = re.compile(r"non-2xx status code\W*(\d{3})\b")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_NUMBER = re.compile(r"os error (\d+)|Os \{\s*code: (\d+)")
_CERTIFICATE = re.compile(r"invalid peer certificate|InvalidCertificate\(")
_AWS = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d{3})\))?")

# S3 and Azure give some refusals a status that means something else by itself.
_CODES: dict[str, Kind] = {
    "SlowDown": Throttled,
    "ServerBusy": Throttled,
    "RequestLimitExceeded": Throttled,
    "RequestTimeout": ServiceUnavailable,
    "ExpiredToken": PermissionDenied,
    "InvalidToken": PermissionDenied,
}
# pyarrow's own names for what an S3 server said; those that are not here are followed by the status.
_AWS_NAMES: dict[str, Kind] = {
    "NETWORK_CONNECTION": NetworkError,
    "REQUEST_TIMEOUT": ServiceUnavailable,
    "SERVICE_UNAVAILABLE": ServiceUnavailable,
    "INTERNAL_FAILURE": ServiceUnavailable,
    "SLOW_DOWN": Throttled,
    "THROTTLING": Throttled,
    "ACCESS_DENIED": PermissionDenied,
    "INVALID_ACCESS_KEY_ID": PermissionDenied,
    "SIGNATURE_DOES_NOT_MATCH": PermissionDenied,
    "NO_SUCH_BUCKET": MissingTable,
    "NO_SUCH_KEY": MissingTable,
    "RESOURCE_NOT_FOUND": MissingTable,
}
_NETWORK = (
    "operation timed out",
    "dns error",
    "connection closed before message completed",
    "error decoding response body",
    "request or response body error",
    "error reading a body from connection",
    "error sending request",
)
_DELTA: dict[str, Kind] = {
    "Invalid data found": BadData,
    "MERGE matched a target row with multiple source rows": BadData,
    "Schema error": SchemaError,
    "not the same as the specified end version": MissingTable,
    "No table metadata or protocol found": DamagedTable,
    "Json error": DamagedTable,
    "Unsupported": UnsupportedTable,
    "append-only": UnsupportedTable,
}


def storage_text(error: BaseException) -> Finding:
    """What the text tells of a storage: a status, an error number, a broken connection. None: it tells nothing."""
    text = _COLOUR.sub("", str(error))
    store = _STORE.search(text)
    name = store[1] if store and store[1] != "LocalFileSystem" else ""
    status, number = _STATUS.search(text), _NUMBER.search(text)
    if status:
        code = _CODE.search(text)
        kind = _CODES.get(code[1]) if code else None
        said = f"{name or 'storage'} {status[1]}" + (f" {code[1]}" if code and kind else "")
        return Verdict(kind or kind_of_status(int(status[1])), said)
    if _CERTIFICATE.search(text):
        return Verdict(ConfigurationError, _from(name, "certificate refused"))
    if number:
        met = of_number(int(number[1] or number[2]))
        return Verdict(met.kind, _from(name, met.said))
    # A stage may say "timed out" of anything; the storages name themselves.
    broken = next((words for words in _NETWORK if words in text), None) if store else None
    return Verdict(NetworkError, _from(name, broken)) if broken else _aws(text)


def _from(store: str, said: str) -> str:
    return f"{store}: {said}" if store else said


def _aws(text: str) -> Verdict | None:
    found = _AWS.search(text)
    if found is None:
        return None
    if found[2]:
        return Verdict(kind_of_status(int(found[2])), f"S3 {found[2]}")
    kind = _AWS_NAMES.get(found[1])
    return Verdict(kind, f"S3 {found[1]}") if kind else None


def operating_system(error: BaseException) -> Finding:
    """For OSError: its number; the text where another library made it without one."""
    number = number_of(error)
    return storage_text(error) if number is None else of_number(number)


def delta(error: BaseException) -> Finding:
    """For DeltaError, whose text says where it comes from."""
    found = storage_text(error)
    if found:
        return found
    kind = next((kind for words, kind in _DELTA.items() if words in str(error)), None)
    return named(kind, error) if kind else None


def commit(error: BaseException) -> Finding:
    """For CommitFailedError: another writer's commit, unless the table does not take such commits at all."""
    return delta(error) or named(StorageConflict, error)
