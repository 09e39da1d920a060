"""The application ids of our `txn` entries in a table's log (Delta protocol, "Transaction Identifiers")."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote, unquote

PREFIX = "pa"
WHOLE = "*"
"""The partition of an output that has none."""


def first_to_last(partitions: Sequence[str]) -> str:
    """`2013-01-01 … 2013-01-31`, as messages name a range; the one where there is but one, nothing of none."""
    return " … ".join(dict.fromkeys([*partitions[:1], *partitions[-1:]]))


def data(output: str, partition: str) -> str:
    """→ the Delta version of our commit that wrote the partition's live data."""
    return _spell("data", output, partition)


def chain(output: str, partition: str) -> str:
    """→ the run chain whose data is live in the partition, 0 for none."""
    return _spell("chain", output, partition)


def member(output: str, partition: str, chain_id: int) -> str:
    """→ the version at which a chain appended or merged into the partition, 0 when undone."""
    return _spell("chain", output, partition, str(chain_id))


def hold(output: str, partition: str) -> str:
    """→ the id of the rollback that is at work on the partition, 0 when it is done."""
    return _spell("hold", output, partition)


def fence(chain_id: int) -> str:
    """→ the attempts of the chain below it may not commit."""
    return _spell("fence", str(chain_id))


def plan(rollback: int) -> str:
    """→ how far a rollback is in this table: 1 held, 2 restored, 3 lifted."""
    return _spell("plan", str(rollback))


def undone(output: str, partition: str, chain_id: int, attempt: int) -> str:
    """→ the id of the rollback that took a checkpoint back."""
    return _spell("undone", output, partition, str(chain_id), str(attempt))


def parse(app_id: str) -> tuple[str, ...] | None:
    """The kind and its parts as they were before spelling; None where the entry is not ours."""
    prefix, *parts = app_id.split("/")
    if prefix != PREFIX or not parts:
        return None
    return parts[0], *(part if part == WHOLE else unquote(part) for part in parts[1:])


@lru_cache(maxsize=4096)
def _spell(*parts: str) -> str:
    return "/".join([PREFIX, *(part if part == WHOLE else quote(part, safe="") for part in parts)])
