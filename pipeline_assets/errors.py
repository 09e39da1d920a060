"""Every error that this package raises on purpose.

    PipelineAssetsError
    ├── PermanentError              trying again does not mend it
    │   ├── ConfigurationError
    │   │   └── MissingSource       stages/source.py
    │   ├── GivenUp                 this attempt may not commit any more
    │   ├── DamagedTable
    │   │   ├── VersionGone         delta/scan.py: the table is whole, an older version of it is not
    │   │   └── DataFileGone        a file of its newest version is not there
    │   ├── UnsupportedTable
    │   ├── ForeignData
    │   │   └── ChangedUnderHold    delta/restorable.py
    │   │       └── TargetGone
    │   ├── NotMaterialized
    │   ├── NotNew
    │   ├── CheckFailed             what was appended or merged, and a blocking check refused
    │   ├── Taken                   the table holds another asset's data
    │   ├── PartitionRefused
    │   │   ├── RowsOutside         delta/row_errors.py
    │   │   ├── EmptyFrame
    │   │   └── NullPartition
    │   ├── SchemaError
    │   │   ├── UnsupportedType     delta/type_errors.py
    │   │   ├── BadColumnName
    │   │   ├── SchemaChanged
    │   │   ├── NullNotAllowed
    │   │   └── ValueLost
    │   ├── UnsupportedValue        io/python_types.py
    │   ├── DamagedSource           stages/source.py
    │   ├── MergeRefused            delta/merge.py
    │   ├── NotRestorable           delta/restorable.py
    │   ├── NotResumable            recovery/plan.py
    │   │   ├── AlreadyContinued    recovery/claims.py
    │   │   └── StalePlan           recovery/planning.py
    │   ├── NotAdopted              recovery/adopt.py
    │   ├── NoSuchStage             recovery/tables.py
    │   ├── NoSuchPipeline          recovery/pipelines.py
    │   ├── NoSuchPartition         recovery/history.py
    │   ├── NotRolledBack           recovery/rollback_plan.py
    │   │   ├── NothingToUndo       recovery/rollback_planning.py
    │   │   └── AnsweredAlready     recovery/rollback.py
    │   ├── NotStarted              recovery/launch.py
    │   ├── NotRecovered            recovery/recovering.py
    │   ├── AtWork                  recovery/rollback_store.py: a rollback holds the root's lock, or is not at its end
    │   ├── NotConfirmed            cli/rollback.py
    │   ├── BadData                 these may be raised by a stage, too; policy/failures.py gives every
    │   ├── PermissionDenied        other library's exception one of them, or of those below
    │   ├── MissingTable
    │   └── ProgrammingError
    ├── TimedOut                    a stage's time is up: transient where it says retry_on_timeout
    └── TransientError              it may be gone the next time
        ├── Contention              another writer was faster, again and again
        ├── Held                    a rollback is at work
        ├── StorageRefused          a full disk, a read-only one
        ├── FactsUnreachable        Dagster's instance could not be asked
        ├── NetworkError            for a stage to raise, and for policy/failures.py to give, like those above
        ├── Throttled               asked too often
        ├── ServiceUnavailable      HTTP 5xx, 408; this host is out of files, memory, processes
        ├── StorageConflict         another writer was faster, once
        ├── LockTimeout
        └── UnderMaintenance        a maintenance job is at the table

An error names the culprit, says what was not written, and gives the next command.
"""

import shlex
from collections.abc import Sequence


class PipelineAssetsError(Exception):
    """Base of all errors of this package."""


class PermanentError(PipelineAssetsError):
    """Trying the same thing again cannot succeed."""


class TransientError(PipelineAssetsError):
    """The same thing may succeed when it is tried again."""


class TimedOut(PipelineAssetsError):
    """A stage whose time is up; whether it is tried again, it says itself."""


class ConfigurationError(PermanentError):
    """A setting, a path or a definition that cannot work."""


class GivenUp(PermanentError):
    """An attempt that was followed by another, ended, or undone; it wrote nothing."""

    def __init__(self, *, output: str, partition: str | None, reason: str) -> None:
        self.output, self.partition, self.reason = output, partition, reason
        super().__init__(
            f"{describe(output, partition)} was not written: {reason}. What stands in the table is as it was; "
            "`pipeline-assets resume --last` continues the run chain."
        )


class DamagedTable(PermanentError):
    """A Delta table whose log or data files cannot be read."""

    def __init__(self, *, table: str, why: str) -> None:
        self.table, self.why = table, why.splitlines()[0] if why else why
        super().__init__(
            f"The Delta table {table} cannot be read: {self.why}. Nothing was written. Bring back what is missing (a backup, "
            "a replica), or move the folder away and materialize the stage again; earlier versions may still be readable: "
            f"`deltalake.DeltaTable({table!r}, version=N)`."
        )


class UnsupportedTable(PermanentError):
    """A Delta table that asks more of its writer or reader than we can do."""

    def __init__(self, *, table: str, feature: str, hint: str) -> None:
        self.table, self.feature = table, feature
        super().__init__(f"The Delta table {table} has {feature}; nothing was written. {hint}")


class ForeignData(PermanentError):
    """Data that no checkpoint explains, where only explained data may be read."""

    def __init__(self, *, table: str, why: str) -> None:
        self.table, self.why = table, why
        super().__init__(
            f"The Delta table {table} was not read: {why}. "
            f"`pipeline-assets adopt {table}` makes a checkpoint of what is there."
        )


class NotMaterialized(PermanentError):
    """An input that nobody has written yet."""

    def __init__(self, *, output: str, partitions: Sequence[str], table: str) -> None:
        self.output, self.partitions = output, tuple(partitions)
        whole = list(partitions) == ["*"]
        what = "" if whole else f" {named_partitions(partitions)}"
        chosen = "" if whole else f" --partition {shlex.quote(partitions[0])}"
        super().__init__(
            f"{output}{what} has not been materialized yet, so there is nothing to read in {table}. Nothing was written; "
            f"`dagster asset materialize --select {output}{chosen}` makes {'it' if len(partitions) == 1 else 'the first'}."
        )


class PartitionRefused(PermanentError):
    """Rows that do not belong to, or are missing from, the partition that is written."""


class NotNew(PermanentError):
    """Write mode `error`, and there is a table."""

    def __init__(self, *, output: str, table: str) -> None:
        super().__init__(
            f"{output} is written with mode 'error', and the table {table} exists. Nothing was written; "
            "choose another mode, or remove the table."
        )


class CheckFailed(PermanentError):
    """What a run chain has appended or merged, and a blocking check refused: its rows stay, and are not added again."""

    def __init__(
        self, *, output: str, partition: str, added: str, table: str, version: int, run: str, beneath: bool = False
    ) -> None:
        """added: `appended` or `merged`. run: a run of the chain. beneath: whether others have merged on top."""
        self.output, self.version = output, version
        chosen = "" if partition == "*" else f" --partition {shlex.quote(partition)}"
        undo = f"`pipeline-assets rollback --undo {run} --stage {output}`"
        mend = f"{undo} takes it back, and `pipeline-assets resume {run}` then makes it again."
        if beneath:
            mend = (
                f"Others have merged on top since: a new run (`dagster asset materialize --select {output}{chosen}`) merges "
                f"what the inputs hold now. Where that leaves bad rows, undo the newer runs, then this one: {undo}."
            )
        super().__init__(
            f"{describe(output, partition)} was not {added} again: version {version} of {table} holds what this run chain "
            f"{added}, and a blocking check on it failed. Nothing was written. {mend}"
        )


class Taken(PermanentError):
    """Two assets, or an asset and an op, whose data lies in one table, where each would replace the other's."""

    def __init__(self, *, output: str, owner: str, table: str) -> None:
        self.output, self.owner = output, owner
        super().__init__(
            f"{output} was not written: its table {table} holds the data of {owner}. Nothing was changed; give one of them "
            f"another folder with the metadata 'schema'. Where {output} takes the place of {owner}, say "
            f"`pipeline-assets adopt {output}`."
        )


class Contention(TransientError):
    """The commit was refused until the deadline because others committed first."""

    def __init__(self, *, output: str, partition: str | None, tries: int, seconds: float) -> None:
        self.tries = tries
        super().__init__(
            f"{describe(output, partition)} was not written: other writers of its table were faster in all "
            f"{tries} tries ({seconds:.0f} s). Nothing is lost; run it again."
        )


class Held(TransientError):
    """A rollback holds what was to be written, and did not end before the deadline."""

    def __init__(self, *, output: str, partition: str | None, rollback: int, seconds: float) -> None:
        self.rollback = rollback
        super().__init__(
            f"{describe(output, partition)} was not written: rollback {rollback} is at work on it and did not end "
            f"in {seconds:.0f} s. If it was killed, `pipeline-assets rollback --continue` ends it; then run this again."
        )


class FactsUnreachable(TransientError):
    """Dagster's instance did not answer, and without its word nothing is committed."""

    def __init__(self, *, output: str, partition: str | None, why: str) -> None:
        super().__init__(
            f"{describe(output, partition)} was not written: Dagster's storage could not be asked whether this "
            f"attempt is still wanted ({why}). Bring it back and run `pipeline-assets resume --last`."
        )


class StorageRefused(TransientError):
    """The storage took no more: it is full, or read-only."""

    def __init__(self, *, output: str, partition: str | None, table: str, why: str) -> None:
        self.table = table
        super().__init__(
            f"{describe(output, partition)} was not written: the storage of {table} refused it ({why}). Nothing was "
            "committed, what was there is as it was. Make room, or make it writable, and run "
            "`pipeline-assets resume --last`."
        )


class SchemaError(PermanentError):
    """Columns that cannot be computed with, cannot be written, or not to this table."""


class BadData(PermanentError):
    """Values or files that are not what they should be: the same bytes will be as wrong the next time."""


class PermissionDenied(PermanentError):
    """Credentials that are missing, wrong, or not enough; a file system that is mounted read-only."""


class MissingTable(PermanentError):
    """What was to be read is not there: a table, a version of it, a file, a bucket, an address."""


class ProgrammingError(PermanentError):
    """A mistake in the code; and whatever nobody has named yet, which is not tried again for that reason."""


class NetworkError(TransientError):
    """A connection that was not made, was cut, or fell silent."""


class Throttled(TransientError):
    """The far end was asked too often. retry_after: the seconds that it asked to be left alone, if it said."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class ServiceUnavailable(TransientError):
    """The far end, or this host, cannot do it now. retry_after: the seconds after which it may, if it said."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StorageConflict(TransientError):
    """Another writer changed what was to be written: who reads it again and recomputes may succeed."""


class LockTimeout(TransientError):
    """A lock of a file or a database that its holder did not give back in time."""


class UnderMaintenance(TransientError):
    """A table that a maintenance job is touching."""


def named_partitions(partitions: Sequence[str]) -> str:
    """`partitions 'a', 'b', 'c' …`: how messages name some; `its table` where there are none."""
    named = ", ".join(repr(key) for key in partitions[:3]) + (" …" if len(partitions) > 3 else "")
    return "its table" if list(partitions) == ["*"] else f"partition{'s' if len(partitions) > 1 else ''} {named}"


def describe(output: str, partition: str | None) -> str:
    """`flights/legs [2013-01-05]`: how messages name an output and its partition."""
    return f"{output} [{partition}]" if partition and partition != "*" else output


def described(output: str, partitions: Sequence[str]) -> str:
    """`flights/legs, partitions 'a', 'b'`: the same for several, and for a table without partitions `flights/legs`."""
    return output if list(partitions) == ["*"] else f"{output}, {named_partitions(partitions)}"
