"""The one way to change a table: a compare-and-set on its version.

A commit is tried at exactly the version after the one that was looked at, and the decision is taken anew each time.
So correctness rests on "a version is created once" alone.
"""

import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b

from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, Transaction, create_table_with_add_actions
from filelock import FileLock, Timeout

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.log import COUNTED, LOG, RECORD, entry_of
from pipeline_assets.delta.names import WHOLE, first_to_last
from pipeline_assets.delta.record import Record
from pipeline_assets.delta.table import BASE, FOREIGN, Table, open_table

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY = 10
"""Versions between log checkpoints of a small table: opening stays at a few milliseconds."""
LARGE_TABLE = 10_000
"""Files from which on writing a log checkpoint costs more than ten entries do; then every tenth as often."""
LOCK_SECONDS = 2.0
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""A hook that fails raises although the commit stands; log checkpoints are a step of their own."""

RESERVED = frozenset({"operationParameters", RECORD})
"""What a commit's metadata says by itself."""

LastWord = Callable[[], None]


@dataclass(frozen=True)
class Proposal:
    """A commit that may be tried at the next version of the table that was looked at.

    txns: entries beside the `foreign` one. schema: another schema for the table; all its files are removed then.
    custom: the user's own commit metadata.
    """

    record: Record
    actions: Sequence[AddAction | RemoveAction] = ()
    txns: Mapping[str, int] = field(default_factory=dict)
    schema: Schema | None = None
    custom: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Committed:
    """A commit that stands: the version that it itself produced."""

    version: int
    record: Record


class Deadline:
    """A moment after which nothing is tried any more, on a clock that does not jump."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._end, self.tries = seconds, time.monotonic() + seconds, 0

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return time.monotonic() >= self._end

    def pause(self) -> None:
        """Wait a little before the next try, longer each time, with jitter."""
        self.tries += 1
        time.sleep(random.uniform(0.5, 1.0) * min(0.01 * 1.5**self.tries, 1.0))  # noqa: S311  jitter


def once(table: Table, record: Record, act: Callable[[], object]) -> Committed | None:
    """Do what commits exactly the version after `table`'s; None where another writer has it.

    An exception does not mean "not committed" (a lost response, a signal, a full disk in a hook): before one is
    passed on the log is asked whether the commit stands.
    """
    version = table.version + 1
    try:
        act()
    except CommitFailedError:
        return Committed(version, record) if stands(table, version, record) else None
    except BaseException:  # a panic, a signal: the question is the same
        if not stands(table, version, record):
            raise
        logger.warning("commit %s of %s stands although it raised", version, table.location.uri, exc_info=True)
    return Committed(version, record)


def try_commit(table: Table, proposal: Proposal, last_word: LastWord = lambda: None) -> Committed | None:
    """Commit file actions and entries; None where another writer was faster.

    last_word: called right before it; raises where the commit is not wanted any more.
    """

    def act() -> None:
        properties = properties_of(table, proposal)
        last_word()
        table.delta.create_write_transaction(
            list(proposal.actions),
            mode="append" if proposal.schema is None else "overwrite",
            schema=table.schema if proposal.schema is None else proposal.schema,
            partition_by=table.partition_columns,
            commit_properties=properties,
            post_commithook_properties=NO_HOOKS,
        )

    return once(table, proposal.record, act)


def try_add_columns(table: Table, columns: Sequence[Field], record: Record) -> Committed | None:
    """Give a table further (nullable) columns; None where another writer was faster.

    Rows that are there have NULL in them. No file changes, so it is a commit of its own before the data's.
    """
    delta = DeltaTable(table.location.uri, version=table.version, storage_options=table.location.options)

    def act() -> None:
        delta.alter.add_columns(
            list(columns),
            commit_properties=properties_of(table, Proposal(record)),
            post_commithook_properties=NO_HOOKS,
        )

    return once(table, record, act)


def try_create(
    location: Location,
    schema: Schema,
    partition_columns: Sequence[str],
    proposal: Proposal,
    configuration: Mapping[str, str | None] | None = None,
    last_word: LastWord = lambda: None,
) -> Committed | None:
    """Create a table, with its first data in the same commit; None where another creator was faster.

    Only one of many racing creators gets version 0. last_word: as for `try_commit`.
    """
    try:
        last_word()
        create_table_with_add_actions(
            location.uri,
            schema,
            [action for action in proposal.actions if isinstance(action, AddAction)],
            mode="error",
            partition_by=list(partition_columns),
            configuration=configuration,
            storage_options=location.options,
            commit_properties=commit_properties(proposal.record, proposal.txns, proposal.custom),
            post_commithook_properties=NO_HOOKS,
        )
    except BaseException as error:
        table = open_table(location)
        if table is not None and stands(table, 0, proposal.record):
            logger.warning("the creation of %s stands although it raised", location.uri, exc_info=True)
        elif table is not None and isinstance(error, DeltaError):
            return None
        else:
            raise
    return Committed(0, proposal.record)


def properties_of(table: Table, proposal: Proposal) -> CommitProperties:
    """Those of a commit to a table that is there: they note the last foreign change that they follow, and whose it was."""
    foreign = table.last_foreign()
    base = {} if table.is_ours else {BASE: table.version}
    txns = {**proposal.txns, **({FOREIGN: foreign} if foreign >= 0 else {}), **base}
    return commit_properties(proposal.record, txns, proposal.custom)


def commit_properties(
    record: Record, txns: Mapping[str, int], custom: Mapping[str, object] | None = None
) -> CommitProperties:
    """Properties with which a commit succeeds only as the very next version."""
    return CommitProperties(
        max_commit_retries=0,
        app_transactions=[Transaction(app_id, value) for app_id, value in txns.items()],
        custom_metadata={
            "operationParameters": _told(record),
            **(custom or {}),
            RECORD: {**record.as_json(), COUNTED: len(txns)},
        },
    )


def _told(record: Record) -> dict[str, str]:
    """What a person sees of the commit in the table's history, beside what delta-rs says."""
    keys = sorted(record.parts)
    partitions = {} if keys in ([], [WHOLE]) else {"partitions": first_to_last(keys)}
    what = record.mode.value if record.kind == "write" else record.kind  # delta-rs calls every commit of files "Append"
    return {"checkpoint": what, "output": record.output, **partitions}


def settle(location: Location, committed: Committed, *, log_checkpoint: bool = True) -> None:
    """Make a local commit durable, and write a log checkpoint where one is due (and wanted); that may fail."""
    if location.is_local:
        entry = os.path.join(location.uri, entry_of(committed.version))
        descriptor = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        location.sync([LOG])
    if not log_checkpoint or committed.version == 0 or committed.version % CHECKPOINT_EVERY:
        return
    try:
        fresh = DeltaTable(location.uri, version=committed.version, storage_options=location.options)
        if committed.version % (CHECKPOINT_EVERY * 10) == 0 or len(fresh.file_uris()) < LARGE_TABLE:
            fresh.create_checkpoint()
    except (DeltaError, OSError) as error:
        logger.warning("no log checkpoint of %s at version %s: %s", location.uri, committed.version, error)


@contextmanager
def courtesy_lock(location: Location) -> Iterator[None]:
    """Let writers of one host queue up instead of racing; who cannot have the lock soon goes on without it."""
    name = blake2b(location.uri.encode(), digest_size=16).hexdigest()
    folder = os.path.join(tempfile.gettempdir(), f"pipeline-assets-{os.getuid()}")
    lock = FileLock(os.path.join(folder, f"{name}.lock"))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock.acquire(timeout=LOCK_SECONDS)
    except (Timeout, OSError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def commit_when(
    table: Table, propose: Callable[[Table], Proposal | None], deadline: Deadline, *, log_checkpoint: bool = True
) -> Committed | None:
    """Try `propose`'s commits until one stands or it proposes none; None then, and at the deadline `TimeoutError`.

    log_checkpoint: as for `settle`.
    """
    while not deadline.passed:
        with courtesy_lock(table.location):
            table.refresh()
            proposal = propose(table)
            if proposal is None:
                return None
            committed = try_commit(table, proposal)
        if committed is not None:
            settle(table.location, committed, log_checkpoint=log_checkpoint)
            return committed
        deadline.pause()
    raise TimeoutError(f"no commit to {table.location.uri} in {deadline.tries} tries")


def stands(table: Table, version: int, record: Record) -> bool:
    """Whether a version is this very commit."""
    found = table.log.commit(version)
    return found is not None and found.record is not None and found.record.token == record.token
