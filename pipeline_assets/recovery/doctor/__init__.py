"""What is wrong with an instance, a storage, the tables, and how to mend it. Nothing is changed by looking."""

from dataclasses import dataclass

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """What was looked at, and how it is. severity: `ok`, `warning`, `error`. culprit: what it is about. mend: what to do."""

    severity: str
    check: str
    culprit: str
    said: str
    mend: str | None = None
