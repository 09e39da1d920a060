"""A dependency that grows an exception nobody mapped turns this red."""

import importlib
import inspect
import sqlite3
from collections.abc import Iterator
from email.errors import MessageDefect
from importlib.util import find_spec
from typing import Any

import pytest
import sqlalchemy as sa
from dagster._core.errors import DagsterExecutionInterruptedError

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    NetworkError,
    PermanentError,
    PermissionDenied,
    ProgrammingError,
    StorageConflict,
    TransientError,
)
from pipeline_assets.policy.failures import classify
from pipeline_assets.policy.known_failures import KNOWN

LIBRARIES = {
    "deltalake.exceptions": "known_data.py",
    "polars.exceptions": "known_data.py",
    "obstore.exceptions": "known_data.py",
    "pyarrow.lib": "known_data.py",
    "filelock": "known_data.py",
    "requests.exceptions": "known_http.py",
    "http.client": "known_http.py",
    "urllib3.exceptions": "known_http.py",
    "urllib.error": "known_failures.py",
    "sqlalchemy.exc": "known_databases.py",
    "dagster": "known_dagster.py",
    "dagster._core.errors": "known_dagster.py",
    "httpx": "known_http.py",
}
NOT_ASKED_ABOUT = {DagsterExecutionInterruptedError, MessageDefect}
"""An interrupt, which is no failure; a class that urllib3 imports for its annotations."""


def exceptions(module: str) -> Iterator[tuple[str, type[BaseException]]]:
    """The public exceptions of a module, each with the name that its class gives itself."""
    for name, found in vars(importlib.import_module(module)).items():
        if inspect.isclass(found) and issubclass(found, BaseException) and not name.startswith("_"):
            if found in NOT_ASKED_ABOUT:
                continue
            yield f"{found.__module__}.{found.__qualname__}", found


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_exception_of_a_library_is_in_the_table(library: str) -> None:
    found = dict(exceptions(library))
    assert found
    missing = sorted(set(found) - set(KNOWN))
    assert not missing, (
        f"{library} has exceptions that nobody has judged: {', '.join(missing)}. "
        f"Say in pipeline_assets/policy/{LIBRARIES[library]}, in that library's block, what each means."
    )


@pytest.mark.parametrize("name", KNOWN)
def test_every_line_of_the_table_is_about_a_class_that_exists(name: str) -> None:
    """But for libraries that need not be there, and for what older versions of Python have."""
    module, _, qualified = name.rpartition(".")
    source = {"_internal": "deltalake.exceptions", "pyo3_runtime": "polars.exceptions"}.get(module, module)
    if find_spec(source.partition(".")[0]) is None:
        return
    found = getattr(importlib.import_module(source), qualified)
    assert issubclass(found, BaseException)


@pytest.mark.parametrize("entry", {id(entry): entry for entry in KNOWN.values() if isinstance(entry, type)}.values())
def test_every_kind_in_the_table_is_below_transient_or_permanent(entry: type) -> None:
    assert issubclass(entry, (TransientError, PermanentError))
    assert entry not in {TransientError, PermanentError}


def test_a_class_is_found_by_its_base_where_it_has_no_line() -> None:
    class Mine(ConnectionResetError):
        """Derived by a stage."""

    assert classify(Mine()).said == "Mine"
    assert classify(Mine()).transient


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("OperationalError", "server closed the connection unexpectedly", NetworkError),
        ("errors.DeadlockDetected", "deadlock detected", StorageConflict),
        ("errors.SerializationFailure", "could not serialize access", StorageConflict),
        ("InterfaceError", "connection already closed", NetworkError),
        ("errors.UniqueViolation", "duplicate key value", BadData),
        ("ProgrammingError", 'relation "orders" does not exist', ProgrammingError),
        ("OperationalError", 'FATAL:  database "shop" does not exist', ConfigurationError),
        ("OperationalError", 'FATAL:  role "shop" does not exist', ConfigurationError),
        ("OperationalError", 'FATAL:  no pg_hba.conf entry for host "10.0.0.1"', ConfigurationError),
        ("OperationalError", 'FATAL:  password authentication failed for user "shop"', PermissionDenied),
        ("OperationalError", 'invalid dsn: invalid connection option "foo"', ConfigurationError),
    ],
)
def test_a_driver_of_a_database_is_known_without_sqlalchemy_too(name: str, text: str, kind: type) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    importlib.import_module("psycopg2.errors")
    found: Any = psycopg2
    for part in name.split("."):
        found = getattr(found, part)
    assert classify(found(text)).kind is kind
    assert classify(sa.exc.DBAPIError.instance("q", {}, found(text), psycopg2.Error)).kind is kind


@pytest.mark.parametrize(
    ("number", "text", "kind"),
    [
        (1045, "Access denied for user 'shop'@'host' (using password: YES)", PermissionDenied),
        (1049, "Unknown database 'shop'", ConfigurationError),
        (1054, "Unknown column 'n' in 'field list'", ProgrammingError),
        (1142, "SELECT command denied to user 'shop'@'host' for table 'orders'", PermissionDenied),
    ],
)
def test_what_mysql_refuses_for_good_is_permanent(number: int, text: str, kind: type) -> None:
    error = sqlite3.OperationalError(number, text)  # as its drivers raise it, which are not installed here
    assert classify(sa.exc.DBAPIError.instance("q", {}, error, sqlite3.Error)).kind is kind
