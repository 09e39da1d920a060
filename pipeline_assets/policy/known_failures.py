"""The table: every exception class that is known by name, and what it means.

A class stands for those derived from it, but for those that have a line of their own. A test walks the exceptions
of the libraries that we depend on and fails for one without a line. The rest of the table: `known_http.py`,
`known_data.py`, `known_databases.py`, `known_dagster.py`.
"""

from pipeline_assets.errors import (
    BadData,
    MissingTable,
    NetworkError,
    PermissionDenied,
    ProgrammingError,
    ServiceUnavailable,
)
from pipeline_assets.policy.database_failures import database_text
from pipeline_assets.policy.http_failures import connection, url_error, urllib_status
from pipeline_assets.policy.known_dagster import DAGSTER
from pipeline_assets.policy.known_data import DATA
from pipeline_assets.policy.known_databases import DATABASES
from pipeline_assets.policy.known_http import HTTP
from pipeline_assets.policy.storage_failures import operating_system, storage_text
from pipeline_assets.policy.verdict import Entry, named_in, or_else

_BUILTINS = named_in(
    "builtins",
    {
        "OSError": operating_system,
        "ConnectionError": or_else(operating_system, NetworkError),
        "TimeoutError": or_else(operating_system, NetworkError),
        "FileNotFoundError": or_else(operating_system, MissingTable),
        "PermissionError": or_else(operating_system, PermissionDenied),
        "ValueError": BadData,  # of the right type, and still unfit: in a stage that is the data, as in int("n/a")
        "EOFError": BadData,
        "MemoryError": ProgrammingError,  # the same rows need as much the next time
        "ArithmeticError": ProgrammingError,
        "AssertionError": ProgrammingError,
        "AttributeError": ProgrammingError,
        "BufferError": ProgrammingError,
        "ImportError": ProgrammingError,
        "LookupError": ProgrammingError,
        "NameError": ProgrammingError,
        "NotImplementedError": ProgrammingError,
        "RecursionError": ProgrammingError,
        "ReferenceError": ProgrammingError,
        "StopAsyncIteration": ProgrammingError,
        "StopIteration": ProgrammingError,
        "SyntaxError": ProgrammingError,
        "SystemError": ProgrammingError,
        "TypeError": ProgrammingError,
        "Warning": ProgrammingError,
    },
)

_STANDARD_LIBRARY: dict[str, Entry] = {
    "_csv.Error": BadData,
    "_queue.Empty": ProgrammingError,
    "asyncio.exceptions.TimeoutError": NetworkError,  # Python 3.10; later it is the built-in one
    "concurrent.futures._base.TimeoutError": NetworkError,  # the same
    "gzip.BadGzipFile": BadData,  # an OSError
    "io.UnsupportedOperation": ProgrammingError,  # an OSError, and a ValueError
    "json.decoder.JSONDecodeError": BadData,
    "socket.gaierror": NetworkError,  # a resolver that is down says "unknown name", too
    "socket.herror": NetworkError,
    "sqlite3.DataError": BadData,
    "sqlite3.DatabaseError": or_else(database_text, ProgrammingError),
    "sqlite3.Error": ProgrammingError,
    "sqlite3.IntegrityError": BadData,
    "ssl.SSLCertVerificationError": connection,
    "ssl.SSLError": NetworkError,  # its errno counts otherwise than the operating system's
    "subprocess.CalledProcessError": ProgrammingError,
    "subprocess.TimeoutExpired": ServiceUnavailable,
    "tarfile.TarError": BadData,
    "urllib.error.ContentTooShortError": NetworkError,
    "urllib.error.HTTPError": urllib_status,
    "urllib.error.URLError": url_error,
    "xml.etree.ElementTree.ParseError": BadData,  # a SyntaxError
    "zipfile.BadZipFile": BadData,
    "zlib.error": BadData,
}

_OTHERS: dict[str, Entry] = {
    "pydantic_core._pydantic_core.ValidationError": BadData,
    "pyo3_runtime.PanicException": or_else(storage_text, ProgrammingError),  # of polars, deltalake, obstore: a bug
}

KNOWN: dict[str, Entry] = {**_BUILTINS, **_STANDARD_LIBRARY, **HTTP, **DATA, **DATABASES, **DAGSTER, **_OTHERS}
"""By qualified name, as the libraries need not be there."""
