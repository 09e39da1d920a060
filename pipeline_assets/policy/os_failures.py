"""What the operating system's error numbers mean, wherever they turn up: as `errno`, or in another library's text."""

import errno
import os

from pipeline_assets.errors import (
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
from pipeline_assets.policy.verdict import Kind, Verdict

_KINDS: dict[Kind, tuple[int, ...]] = {
    StorageRefused: (errno.ENOSPC, errno.EDQUOT),
    PermissionDenied: (errno.EACCES, errno.EPERM, errno.EROFS),
    MissingTable: (errno.ENOENT,),
    ConfigurationError: (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
    LockTimeout: (errno.ENOLCK, errno.EDEADLK),
    StorageConflict: (errno.EBUSY, errno.ETXTBSY),
    # Out of files, memory, processes; a disk or a network file system that stumbled.
    ServiceUnavailable: (
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR),
        *(errno.EIO, errno.ESTALE, errno.EREMOTEIO),
    ),
    NetworkError: (
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE, errno.ESHUTDOWN),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ETIMEDOUT, errno.EADDRINUSE, errno.EADDRNOTAVAIL),
    ),
}
_KIND_OF = {number: kind for kind, numbers in _KINDS.items() for number in numbers}
_PLAINER = {errno.ENOSPC: "disk full", errno.EDQUOT: "quota used up"}


def of_number(number: int) -> Verdict:
    """What an error number means; one that is not listed is a mistake of the code."""
    said = _PLAINER.get(number) or os.strerror(number)
    name = errno.errorcode.get(number, str(number))
    return Verdict(_KIND_OF.get(number, ProgrammingError), f"{said[0].lower()}{said[1:]} ({name})")


def number_of(error: BaseException) -> int | None:
    """The exception's error number, if it has one."""
    number = getattr(error, "errno", None)
    return number if isinstance(number, int) and number > 0 else None
