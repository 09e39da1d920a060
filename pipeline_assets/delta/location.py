"""Where a Delta table lies, and the few file operations that its log and data files need."""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from deltalake.fs import DeltaStorageHandler
from pyarrow import fs

from pipeline_assets.errors import ConfigurationError

logger = logging.getLogger(__name__)

RETRIES, RETRY_TIMEOUT = "max_retries", "retry_timeout"
"""delta-rs's storage options for how often, and how long (`30s`), a request is repeated; ours are always in seconds."""
READ_TIMEOUT = "read_timeout"
"""How long a store may be silent: for polars, which has no time-out of its own, and obstore; delta-rs ignores it."""
SAFE_IN_PATHS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/+@,'!()&$:;")


@dataclass(frozen=True)
class Location:
    """A table's root: an absolute local path or an object store's URI, and the options to reach it."""

    uri: str
    options_items: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, uri: str, options: Mapping[str, str] | None = None) -> "Location":
        """`uri` may be a path, `file://…` or `scheme://…`; a path that delta-rs would misread is refused.

        Raises ConfigurationError.
        """
        local = _local_path(uri)
        if local is not None and (odd := sorted(set(local) - SAFE_IN_PATHS)):
            raise ConfigurationError(
                f"{uri!r} holds {', '.join(map(repr, odd))}, which deltalake cannot find again in a path. "
                "Nothing was written; choose a folder without (a symbolic link to yours will do)."
            )
        return cls((local or uri).rstrip("/"), tuple(sorted((options or {}).items())))

    @property
    def options(self) -> dict[str, str]:
        """Storage options as delta-rs takes them."""
        return dict(self.options_items)

    @property
    def polars_options(self) -> dict[str, Any] | None:
        """The same as polars takes them, which wants numbers where delta-rs wants text; None where there are none."""
        options: dict[str, Any] = self.options
        if RETRIES in options:
            options[RETRIES] = int(options[RETRIES])
        if RETRY_TIMEOUT in options:
            options["retry_timeout_ms"] = int(1000 * self.retry_seconds)
        return options or None

    @property
    def retry_seconds(self) -> float:
        """After how long a storage's client repeats a request no more."""
        return float(self.options[RETRY_TIMEOUT].removesuffix("s"))

    @property
    def is_local(self) -> bool:
        """Whether it is on a file system of this host."""
        return "://" not in self.uri

    def child(self, *parts: str) -> "Location":
        """A folder below, its parts spelled so that every tool finds it."""
        return Location("/".join([self.uri, *map(folder_name, filter(None, parts))]), self.options_items)

    @property
    def files(self) -> fs.FileSystem:
        """The files below this location; paths are relative to it."""
        return _filesystem(self)

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""
        with self.files.open_input_file(path) as file:
            content: bytes = file.read()
        return content

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, unsorted; none where the folder is missing."""
        found = self.files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return [info.base_name for info in found if info.type == fs.FileType.File]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, unsorted; none where the folder is missing."""
        found = self.files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return [info.base_name for info in found if info.type == fs.FileType.Directory]

    def first_missing(self, paths: Callable[[], Iterable[str]]) -> str | None:
        """The first of some files that is not there. None where it is no local disk: each look would be a call.

        paths: is not asked there, since listing a large table's files takes long.
        """
        if not self.is_local:
            return None
        return next((path for path in paths() if not os.path.exists(os.path.join(self.uri, path))), None)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files that are no part of the table; one that is gone, or that cannot be deleted, is fine."""
        for path in paths:
            try:
                self.files.delete_file(path)
            except FileNotFoundError:
                continue
            except OSError as error:  # it is no part of the table, and what is at work now has more to say
                logger.warning("%s was not deleted from %s: %s", path, self.uri, error)

    def sync(self, folders: Iterable[str]) -> None:
        """Make the entries of local folders durable, up to the table's own; delta-rs never does."""
        if not self.is_local:
            return
        for folder in sorted({*_with_parents(folders), ""}):
            descriptor = os.open(os.path.join(self.uri, folder), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def folder_name(part: str) -> str:
    """A folder for a name: letters, digits and `-._` stand for themselves, all else as `~XX` (its UTF-8 bytes in hex).

    Not percent-encoding, which delta-rs decodes once too often in a table's root. `.` and `..` lead nowhere else.
    """
    if part in (".", ".."):
        return "~2E" * len(part)
    return quote(part, safe="").replace("~", "~7E").replace("%", "~")


def value_folder(text: str) -> str:
    """The same for a partition value, percent-encoded, as Hive and Delta writers spell it."""
    return quote(text, safe="")


def _local_path(uri: str) -> str | None:
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    return None if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _with_parents(folders: Iterable[str]) -> Iterable[str]:
    for folder in folders:
        parts = folder.split("/")
        yield from ("/".join(parts[:end]) for end in range(len(parts), 0, -1))


@functools.lru_cache(maxsize=1024)
def _filesystem(location: Location) -> fs.FileSystem:
    if location.is_local:
        return fs.SubTreeFileSystem(location.uri, fs.LocalFileSystem())
    return fs.PyFileSystem(DeltaStorageHandler(location.uri, location.options))
