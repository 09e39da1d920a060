"""Reading a table at a pinned version."""

from collections.abc import Sequence

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pipeline_assets.delta.location import Location, value_folder
from pipeline_assets.delta.partitions import Partition, files_of, owners, paths_of, rows_of
from pipeline_assets.errors import ConfigurationError, DamagedTable, UnsupportedTable

READABLE = frozenset({"columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "typeWidening"})
"""Reader features with which polars reads right rows. Without deletion vectors: polars would show deleted rows."""


def scan(
    location: Location,
    version: int,
    partitions: Sequence[Partition] | None = None,
    columns: Sequence[str] | None = None,
    opened: DeltaTable | None = None,
) -> pl.LazyFrame:
    """The rows of some partitions (None: all) at a version, as a lazy frame that may be pickled.

    opened: the table at that version, where the caller has it. Raises DamagedTable where the version cannot be restored any
    more, UnsupportedTable for a feature by name, ConfigurationError for columns that it does not have.
    """
    delta = open_at(location, version) if opened is None else opened
    _refuse_unreadable(location, delta)
    _refuse_missing_files(location, delta, partitions)
    options = location.polars_options
    if _in_value_folders(delta):
        frame = pl.scan_delta(location.uri, version=version, storage_options=options)
    else:
        # polars takes partition values from the path, and these files do not carry them there.
        frame = pl.scan_delta(location.uri, version=version, storage_options=options, use_pyarrow=True)
    rows = rows_of(partitions) if partitions is not None else None
    frame = frame if rows is None else frame.filter(rows)
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


def open_at(location: Location, version: int) -> DeltaTable:
    """A table at a version. Raises DamagedTable where that cannot be restored any more."""
    try:
        return DeltaTable(location.uri, version=version, storage_options=location.options)
    except DeltaError as error:
        raise DamagedTable(table=location.uri, why=f"version {version} is not there any more ({error})") from error


def _refuse_missing_files(location: Location, delta: DeltaTable, partitions: Sequence[Partition] | None) -> None:
    """Say which data file is gone, before a reader says so half way."""
    missing = location.first_missing(paths_of(delta, partitions))
    if missing is not None:
        raise DamagedTable(
            table=location.uri,
            why=f"the data file {missing} of version {delta.version()} is gone (a VACUUM, or a person)",
        )


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
