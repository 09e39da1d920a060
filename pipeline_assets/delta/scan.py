"""Reading a table at a pinned version."""

from collections.abc import Sequence

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipeline_assets.delta.location import Location, value_folder
from pipeline_assets.delta.partitions import Partition, files_of, owners, paths_of, rows_of
from pipeline_assets.delta.types import polars_schema
from pipeline_assets.errors import ConfigurationError, DamagedTable, PermanentError, UnsupportedTable

READABLE = frozenset({"columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "typeWidening"})
"""Reader features with which polars reads right rows. Without deletion vectors: polars would show deleted rows."""


class VersionGone(DamagedTable):
    """A version that was to be read and was taken (VACUUM, log clean-up) from a table that is whole."""

    def __init__(self, *, table: str, version: int, newest: int, why: str, mend: str) -> None:
        self.table, self.version, self.newest, self.why = table, version, newest, why.splitlines()[0]
        PermanentError.__init__(
            self,
            f"Version {version} of the Delta table {table} cannot be read any more: {self.why}. The table is whole, and its "
            f"newest version {newest} can be read. Nothing was read or written. {mend}",
        )


class DataFileGone(DamagedTable):
    """A data file of a table's newest version is not there; what else the table holds is whole."""

    def __init__(self, *, table: str, version: int, file: str) -> None:
        self.table, self.version, self.file = table, version, file
        self.why = f"version {version}: its data file {file} is gone (a VACUUM, or a person)"
        PermanentError.__init__(
            self,
            f"The Delta table {table} cannot be read where it needs its data file {file}, which is gone (a VACUUM, or a "
            "person). Nothing was read or written. Bring it back from a backup, or make what was in it again, by a new run "
            "of the stage that writes it.",
        )


def scan(
    location: Location,
    version: int,
    partitions: Sequence[Partition] | None = None,
    columns: Sequence[str] | None = None,
    opened: DeltaTable | None = None,
    like: DeltaTable | None = None,
    mend: str = "",
) -> pl.LazyFrame:
    """The rows of some partitions (None: all) at a version, as a lazy frame that may be pickled.

    opened: the table at that version, where the caller has it. like: the table at a later one, whose columns the rows get.
    mend: what a person does where the version is there no more. Raises VersionGone then, DamagedTable where the table cannot
    be read at all, UnsupportedTable for a feature by name, ConfigurationError for columns that it does not have.
    """
    delta = open_at(location, version, mend) if opened is None else opened
    _refuse_unreadable(location, delta)
    _refuse_missing_files(location, delta, partitions, mend)
    options = location.polars_options
    if _in_value_folders(delta):
        frame = pl.scan_delta(location.uri, version=version, storage_options=options)
    else:
        # polars takes partition values from the path, and these files do not carry them there.
        frame = pl.scan_delta(location.uri, version=version, storage_options=options, use_pyarrow=True)
    rows = rows_of(partitions) if partitions is not None else None
    frame = frame if rows is None else frame.filter(rows)
    frame = frame if like is None else _with_columns_of(frame, like)
    if columns is None:
        return frame
    absent = [name for name in columns if name not in frame.collect_schema()]
    if absent:
        raise ConfigurationError(
            f"The input asks for columns {', '.join(absent)} (metadata 'columns'), which {location.uri} does not have at "
            f"version {version}; it has {', '.join(frame.collect_schema())}. Nothing was read."
        )
    return frame.select(list(columns))


def count_rows(location: Location, version: int, partitions: Sequence[Partition]) -> dict[str, int]:
    """How many rows each partition has at a version: by the log's statistics, else by reading them."""
    if not partitions:
        return {}
    delta = open_at(location, version)
    found = dict.fromkeys((one.key for one in partitions), 0)
    owner = owners(partitions)
    columns = delta.metadata().partition_columns
    for file in files_of(delta):
        key = owner({column: file[f"partition.{column}"] for column in columns})
        if key is not None and file["num_records"] is None:
            return {one.key: scan(location, version, [one]).select(pl.len()).collect().item() for one in partitions}
        if key is not None:
            found[key] += file["num_records"]
    return found


def empty(schema: pl.Schema) -> pl.LazyFrame:
    """No rows, with the columns of a table."""
    return pl.DataFrame(schema=schema).lazy()


def open_at(location: Location, version: int, mend: str = "") -> DeltaTable:
    """A table at a version. Raises VersionGone where that was taken from it, DamagedTable where the table cannot be read."""
    try:
        return DeltaTable(location.uri, version=version, storage_options=location.options)
    except DeltaError as error:
        why = f"its log does not go back to it ({error})"
        raise _gone(location, version, why, mend) from error


def _gone(location: Location, version: int, why: str, mend: str, file: str | None = None) -> DamagedTable:
    """VersionGone where the table's newest version is another and can be read, else what is wrong with the table.

    file: the data file that is not there.
    """
    damaged = DamagedTable(table=location.uri, why=f"version {version}: {why}")
    try:
        newest = DeltaTable(location.uri, storage_options=location.options)
    except DeltaError:
        return damaged
    if newest.version() == version or location.first_missing(lambda: paths_of(newest, None)) is not None:
        return damaged if file is None else DataFileGone(table=location.uri, version=version, file=file)
    return VersionGone(table=location.uri, version=version, newest=newest.version(), why=why, mend=mend)


def _with_columns_of(frame: pl.LazyFrame, delta: DeltaTable) -> pl.LazyFrame:
    """The rows with the columns of the table at a later version; NULL in those that they do not have."""
    own, wanted = frame.collect_schema(), polars_schema(delta.schema())
    if own == wanted and own.names() == wanted.names():
        return frame
    return frame.select(
        (pl.col(name) if name in own else pl.lit(None)).cast(dtype).alias(name) for name, dtype in wanted.items()
    )


def _refuse_missing_files(
    location: Location, delta: DeltaTable, partitions: Sequence[Partition] | None, mend: str
) -> None:
    """Say which data file is gone, before a reader says so half way."""
    missing = location.first_missing(lambda: paths_of(delta, partitions))
    if missing is not None:
        why = f"its data file {missing} is gone (a VACUUM, or a person)"
        raise _gone(location, delta.version(), why, mend, missing)


def _refuse_unreadable(location: Location, delta: DeltaTable) -> None:
    features = set(delta.protocol().reader_features or ())
    for feature in sorted(features - READABLE):
        raise UnsupportedTable(
            table=location.uri,
            feature=f"the reader feature {feature!r}, with which rows would be read wrongly",
            hint="Nothing was read. Rewrite the table without it, or read a copy.",
        )


def _in_value_folders(delta: DeltaTable) -> bool:
    """Whether the files lie in `column=value/` folders; one file is looked at, since a writer does all alike."""
    columns = delta.metadata().partition_columns
    if not columns:
        return True
    first = next(iter(delta.file_uris()), None)
    return first is None or all(f"/{value_folder(column)}=" in first or f"/{column}=" in first for column in columns)
