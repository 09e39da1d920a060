"""Which errors come from a storage that takes no more, however they are dressed by the library that met it."""

import errno
import os

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def refusal_of(error: BaseException, uri: str) -> str | None:
    """What the storage of a table said, in a line; None where the error is none of its.

    polars and delta-rs raise errors of their own with the operating system's text in them. What is forbidden may be a
    file that the stage reads, so there the error has to name the table.
    """
    text = str(error).lower()
    numbers = _FULL + (_FORBIDDEN if uri.lower() in text else ())
    for number in numbers:
        if getattr(error, "errno", None) == number or os.strerror(number).lower() in text:
            return os.strerror(number)
    return None
