"""A fingerprint of local files, for stages that read what is no table: it changes when the files do."""

import glob
import hashlib
import os
import stat
from collections.abc import Iterator

from pipeline_assets.errors import ConfigurationError


def files_fingerprint(*paths: str | os.PathLike[str]) -> str:
    """16 hex digits of names (relative), sizes and modification times (ns) of files, and of all files below folders.

    Local files only; their content is not read. Glob patterns are expanded (`**` too; as in a shell, `*` leaves out what
    begins with a dot), but what exists under that very name is no pattern. Below a folder every file counts, also hidden
    and temporary ones; an empty folder does not. Links are followed; a link to nothing counts as itself.

    Names are relative to the deepest folder that holds all that is given (for a pattern, its part before the first
    wildcard), so a fingerprint does not depend on where that folder lies, nor on the order of the paths.

    Raises ConfigurationError where nothing is given, or a path or pattern names nothing, and OSError where a folder
    cannot be listed.
    """
    named = [_expanded(os.fspath(path)) for path in paths]
    if not named:
        raise ConfigurationError("A fingerprint of no files was asked for. Give it a file, a folder or a pattern.")
    top = os.path.commonpath([folder for folder, _ in named])
    lines = {line for _, found in named for path in found for line in _lines(path, top, ())}
    return hashlib.sha256(b"\0\0".join(sorted(lines))).hexdigest()[:16]


def _expanded(path: str) -> tuple[str, list[str]]:
    """The folder that names are relative to, and the files and folders."""
    full = os.path.abspath(path)
    if os.path.lexists(full):
        return (full if os.path.isdir(full) else os.path.dirname(full)), [full]
    found = [os.path.abspath(match) for match in glob.glob(path, recursive=True)]
    if not found:
        local = ""
        if "://" in path:
            local = " Fingerprints are for local files; what lies elsewhere has to be asked for its version."
        raise ConfigurationError(
            f"There is no file, folder or match for {path!r}, whose fingerprint was asked for (looked for {full!r}). "
            f"Mend the path, or bring the files there.{local}"
        )
    while glob.has_magic(path):
        path = os.path.dirname(path)
    return os.path.abspath(path), found


def _lines(path: str, top: str, above: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """A line for a file, or for each file below a folder; `above` are the folders it was reached by."""
    try:
        facts = os.stat(path)
    except OSError:  # a link to nothing, or to itself
        try:
            facts = os.lstat(path)
        except FileNotFoundError:  # removed in this moment: as if it had been removed before
            return
    if not stat.S_ISDIR(facts.st_mode):
        yield b"\0".join([os.fsencode(os.path.relpath(path, top)), b"%d" % facts.st_size, b"%d" % facts.st_mtime_ns])
        return
    here = facts.st_dev, facts.st_ino
    if here in above:  # a link back up
        return
    with os.scandir(path) as entries:
        names = [entry.path for entry in entries]
    for name in names:
        yield from _lines(name, top, (*above, here))
