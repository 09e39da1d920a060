"""What databases say, through sqlite3 and through SQLAlchemy, which wraps the driver's exception."""

import re

from pipeline_assets.errors import (
    BadData,
    ConfigurationError,
    LockTimeout,
    MissingTable,
    NetworkError,
    PermissionDenied,
    ProgrammingError,
    ServiceUnavailable,
    StorageConflict,
    StorageRefused,
)
from pipeline_assets.policy.verdict import Finding, Kind, Verdict

# sqlite3 has no numbers for these before Python 3.11, and other drivers have each their own.
# Patterns; the first that is found tells.
_TEXTS: dict[str, Kind] = {
    '(?:database|role) "[^"]*" does not exist': ConfigurationError,
    "no pg_hba.conf entry": ConfigurationError,
    "invalid dsn": ConfigurationError,
    "unknown database": ConfigurationError,
    "unknown column": ProgrammingError,
    "no such column": ProgrammingError,
    "access denied for user": PermissionDenied,
    "command denied to user": PermissionDenied,
    "is locked": LockTimeout,
    "lock timeout": LockTimeout,
    "lock wait timeout": LockTimeout,
    "deadlock": StorageConflict,
    "could not serialize access": StorageConflict,
    "disk is full": StorageRefused,
    "disk i/o error": ServiceUnavailable,
    "too many clients": ServiceUnavailable,
    "too many connections": ServiceUnavailable,
    "starting up": ServiceUnavailable,
    "shutting down": ServiceUnavailable,
    "readonly database": PermissionDenied,
    "permission denied": PermissionDenied,
    "authentication failed": PermissionDenied,
    "unable to open database file": MissingTable,
    "no such table": MissingTable,
    "malformed": BadData,
    "not a database": BadData,
    "connection refused": NetworkError,
    "could not connect": NetworkError,
    "connection timed out": NetworkError,
    "could not translate host name": NetworkError,
    "closed the connection": NetworkError,
    "lost connection": NetworkError,
    "gone away": NetworkError,
}


def database_text(error: BaseException) -> Finding:
    """What a driver's text tells; None: nothing."""
    text = str(error)
    words = next((words for words in _TEXTS if re.search(words, text.lower())), None)
    return Verdict(_TEXTS[words], f"database: {text.splitlines()[0][:80]}") if words else None


def wrapped_by_sqlalchemy(error: BaseException) -> Finding:
    """For SQLAlchemy's DBAPIError: a lost connection, or what the driver said."""
    if getattr(error, "connection_invalidated", False):
        return Verdict(NetworkError, "database: connection lost")
    orig = getattr(error, "orig", None)
    if not isinstance(orig, BaseException):
        return None
    return database_text(orig) or orig


def about_rows(error: BaseException) -> Finding:
    """For SQLAlchemy's errors about rows, whose text has names and values in it: the driver's class says what they are."""
    orig = getattr(error, "orig", None)
    return orig if isinstance(orig, BaseException) else Verdict(BadData, type(error).__name__)
