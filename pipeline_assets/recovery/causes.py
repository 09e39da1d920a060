"""What a step failed of in the first place, below what Dagster and we have wrapped around it."""

import re
from dataclasses import dataclass

from dagster_shared.error import SerializableErrorInfo
from typing_extensions import override

from pipeline_assets.errors import TimedOut
from pipeline_assets.policy.clock import TimeIsUp
from pipeline_assets.policy.guard import StageFailed

_TIMED_OUT = re.compile(r"timed out after \S+ s")


@dataclass(frozen=True)
class Cause:
    """The class of an error, and the first line of what it says."""

    error: str
    message: str

    @override
    def __str__(self) -> str:
        return f"{self.error}: {self.message}" if self.error and self.message else self.error or self.message


def first_error(error: SerializableErrorInfo | None) -> Cause | None:
    """What the user's code, or ours, raised, below what Dagster wrapped around it."""
    if error is None:
        return None
    above = error
    while error.cause is not None and _wraps(error.cls_name or ""):
        above, error = error, error.cause
    name = error.cls_name or ""
    if name == TimeIsUp.__name__:  # what is raised where the stage was, and says nothing
        found = _TIMED_OUT.search(above.message)
        return Cause(TimedOut.__name__, found[0] if found else "")
    # As a traceback ends: `module.Class: what it says`, or the class alone.
    where, colon, said = error.message.strip().partition(":")
    named = where.rpartition(".")[2] == name
    message = said if named else f"{where}{colon}{said}"
    return Cause(name, message.strip().partition("\n")[0])


def _wraps(name: str) -> bool:
    dagsters = name.startswith(("DagsterExecution", "DagsterUserCode", "DagsterTypeCheck"))
    return dagsters or name in {"Failure", "RetryRequested", StageFailed.__name__}
