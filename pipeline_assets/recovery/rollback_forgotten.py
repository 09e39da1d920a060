"""Commits that log clean-up took from a table and that a rollback would have to know of: it is refused then."""

from collections.abc import Collection, Iterable

from dagster import DagsterInstance

from pipeline_assets import checkpoint_log
from pipeline_assets.delta import names
from pipeline_assets.delta.restorable import NotRestorable
from pipeline_assets.delta.states import members
from pipeline_assets.io.facts import own_version
from pipeline_assets.recovery.rollback_targets import History


def refuse_own(history: History, partitions: Iterable[str], chain: int, known: Collection[str]) -> None:
    """Raise NotRestorable where an entry says that a chain wrote a partition, and neither the log nor an event says more.

    chain: its number. known: the partitions of which the event log does.
    """
    table, output = history.table, history.output
    for key in partitions:
        version = own_version(output, key, table, chain)
        if version is not None and key not in known and table.record_at(version) is None:
            raise _forgotten(history, key, version, "what this run wrote")


def refuse_later(
    instance: DagsterInstance, history: History, partitions: Iterable[str], moment: float, chain: int
) -> None:
    """Raise NotRestorable where what the log has lost may be later than a moment (s since 1970), and another chain's."""
    table, output = history.table, history.output
    if history.whole or history.begins < moment or output.asset_key is None:
        return
    added = members(table, output.name)
    for key in partitions:
        writers = {table.txns.get(names.chain(output.name, key), 0): table.txns.get(names.data(output.name, key), -1)}
        writers |= added.get(key, {})
        lost = max((version for by, version in writers.items() if by != chain and version < history.oldest), default=-1)
        if lost > checkpoint_log.told_before(instance, output.asset_key, key, moment, table.id):
            raise _forgotten(history, key, lost, "when was written what is there")


def _forgotten(history: History, key: str, version: int, what: str) -> NotRestorable:
    return history.refused(key, f"its log does not say any more {what} at version {version}, nor does the event log")
