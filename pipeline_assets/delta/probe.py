"""Whether a store creates a file only once: what every commit rests on."""

import functools
import logging
import os
import tempfile
import time
import uuid
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from pipeline_assets.delta.location import RETRIES, RETRY_TIMEOUT, Location
from pipeline_assets.errors import ConfigurationError, UnsupportedTable

logger = logging.getLogger(__name__)

PROVIDERS = ("AWS_", "AZURE_", "GOOGLE_")
FOLDER = "_pipeline_assets_probe"
CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_url",
        "read_timeout",
        "timeout",
        "user_agent",
    }
)
"""Storage options that speak of the HTTP client (dagster-deltalake's `ClientConfig`, and one), which obstore takes apart."""


@functools.lru_cache(maxsize=64)
def refuse_without_conditional_put(root: Location) -> None:
    """Try, once a process and root, to create a file twice. Raises UnsupportedTable, ConfigurationError.

    A local file system links files, which fails where the name exists; an object store must honour `If-None-Match`.
    delta-rs itself would not tell: it looks before it creates, and only a race shows what the store does.
    """
    if root.is_local:
        return
    if root.options.get("allow_unsafe_rename", "").lower() == "true":
        raise ConfigurationError(
            f"{root.uri} is used with allow_unsafe_rename, by which two writers may both create a version. "
            "Nothing was written; remove the option."
        )
    store = _store(root)
    name = f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        for _ in range(2):  # the first is refused, too, where its answer was lost and the client repeated it
            obstore.put(store, name, b"", mode="create")
    except AlreadyExistsError:
        return
    finally:
        _delete(store, name)
    raise UnsupportedTable(
        table=root.uri,
        feature="no conditional put: its store let two writers create the same file",
        hint="Use a store that honours If-None-Match (S3, MinIO, R2, GCS, Azure), or a local disk.",
    )


def clock_ahead(root: Location) -> float | None:
    """By how many seconds a store's clock is ahead of this host's, to a second; None where a local root is not there yet.

    Writes a small object and removes it. Raises OSError, BaseError.
    """
    if root.is_local:
        return _local_clock_ahead(root.uri)
    store, name = _store(root), f"{FOLDER}/{uuid.uuid4().hex}"
    try:
        before = time.time()
        obstore.put(store, name, b"")
        after = time.time()
        return _ahead(obstore.head(store, name)["last_modified"].timestamp(), before, after)
    finally:
        _delete(store, name)


def _local_clock_ahead(folder: str) -> float | None:
    if not os.path.isdir(folder):
        return None
    before = time.time()
    with tempfile.NamedTemporaryFile(prefix=f"{FOLDER}-", dir=folder) as file:
        return _ahead(os.fstat(file.fileno()).st_mtime, before, time.time())


def _ahead(moment: float, before: float, after: float) -> float:
    """Stores tell whole seconds."""
    if moment > after:
        return moment - after
    return min(0.0, moment + 1.0 - before)


def _delete(store: Any, name: str) -> None:
    """Delete what is of no more use; where that fails, it is not what anybody waits for."""
    try:
        obstore.delete(store, name)
    except (BaseError, OSError) as error:
        logger.warning("%s was not deleted: %s", name, error)


def _store(root: Location) -> Any:
    config: dict[str, Any] = {}
    client: dict[str, Any] = {}
    retry: dict[str, Any] = {}
    for name, value in root.options.items():
        short = name.lower().removeprefix("aws_").removeprefix("azure_").removeprefix("google_")
        if short in CLIENT_OPTIONS:
            client[short] = _option(value)
        elif short == RETRIES:
            retry[RETRIES] = int(value)
        elif short == RETRY_TIMEOUT:
            retry[RETRY_TIMEOUT] = timedelta(seconds=root.retry_seconds)
        elif short != "allow_unsafe_rename":
            config[name] = value
    if client:
        client = {**_of_environment(), **client}
    return from_url(root.uri, config=config, client_options=client or None, retry_config=retry or None)  # type: ignore[call-overload]


def _of_environment() -> dict[str, Any]:
    """The environment's client options, all of which obstore forgets where it is given any."""
    found = {name.partition("_")[2].lower(): value for name, value in os.environ.items() if name.startswith(PROVIDERS)}
    return {name: _option(value) for name, value in found.items() if name in CLIENT_OPTIONS}


def _option(value: str) -> bool | str:
    return value.lower() == "true" if value.lower() in ("true", "false") else value
