"""What is said about a failure, and what the entries of the table look like."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pipeline_assets.errors import PipelineAssetsError, TransientError

Kind: TypeAlias = type[PipelineAssetsError]


@dataclass(frozen=True)
class Verdict:
    """A failure's class in `errors.py`, and a line for the event log.

    said: short, as in "S3 503", "disk full (ENOSPC)", "ColumnNotFoundError".
    retry_after: seconds that the far end asked for, None where it did not.
    """

    kind: Kind
    said: str
    retry_after: float | None = None

    @property
    def transient(self) -> bool:
        """Whether it is worth another try."""
        return issubclass(self.kind, TransientError)


Finding: TypeAlias = Verdict | BaseException | None
"""A verdict; or the exception that is to be asked instead; or None, "I cannot tell"."""

Look: TypeAlias = Callable[[BaseException], Finding]
"""Looks at an exception: its status, its number, its text."""

Entry: TypeAlias = Kind | Look
"""A line of the table: what a class means, or what finds it out."""


def named_in(module: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries with the module before their names."""
    return {f"{module}.{name}": entry for name, entry in entries.items()}


def named(kind: Kind, error: BaseException) -> Verdict:
    """The verdict that follows from the exception's class alone."""
    return Verdict(kind, type(error).__name__)


def or_else(look: Look, kind: Kind) -> Look:
    """Looks, and falls back on a kind where that tells nothing."""
    return lambda error: look(error) or named(kind, error)
