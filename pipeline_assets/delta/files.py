"""Writing a frame's data files, which nobody sees until a commit names them."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import unquote

import polars as pl
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, RemoveAction

from pipeline_assets.delta.location import Location, value_folder
from pipeline_assets.delta.partitions import HIVE_NULL, Partition, read_value, spell
from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.stats import add_stats, null_counts
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import ConfigurationError

BYTES_PER_FILE = 512 * 1024 * 1024
"""How much of a partition in memory goes into one file; compression makes it a third or less on disk."""
AHEAD = "POLARS_ROW_GROUP_PREFETCH_SIZE"
LATE_SECONDS = 0.25
"""How long after a failed query polars' threads may still create the files that it had begun."""
Compression = Literal["zstd", "snappy", "lz4", "gzip", "brotli", "uncompressed"]


@dataclass(frozen=True)
class ParquetOptions:
    """How data files are written; sizes in rows and bytes, None is polars' own choice. Delta's writers choose snappy."""

    compression: Compression = "snappy"
    compression_level: int | None = None
    max_row_group_size: int | None = None
    data_page_size_limit: int | None = None

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> "ParquetOptions":
        """From delta-rs's writer properties. Raises ConfigurationError for what we do not have."""
        unknown = sorted(set(properties) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigurationError(
                f"writer_properties has {', '.join(unknown)}; it may have {', '.join(cls.__dataclass_fields__)}. "
                "Nothing was written."
            )
        compression = str(properties.get("compression", cls.compression)).lower().removesuffix("_raw")
        if compression not in get_args(Compression):
            raise ConfigurationError(
                f"writer_properties has compression {properties['compression']!r}; it may be "
                f"{', '.join(get_args(Compression))}. Nothing was written."
            )
        numbers = {name: int(value) for name, value in properties.items() if name != "compression"}
        return cls(compression, **numbers)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DataFile:
    """A data file that was written: its path below the table, rows, and the values of its partition columns."""

    path: str
    rows: int
    values: Mapping[str, Any]
    add: AddAction
    nulls: Mapping[str, int]


@dataclass
class Sink:
    """Writes frames as Parquet below a table, under names that tell the attempt that wrote them."""

    location: Location
    schema: Schema
    partition_columns: Sequence[str]
    chain: int
    attempt: int
    options: ParquetOptions = field(default_factory=ParquetOptions)
    _values: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _closed: bool = False

    def write(self, frame: pl.LazyFrame) -> list[DataFile]:
        """Run the frame's query into files; each is durable when this returns. An empty frame writes none.

        frame: the columns of the schema. What was begun when an exception comes is deleted.
        """
        done: list[Any] = []
        target = self._target()
        try:
            with _reading_little_ahead(self.location):
                frame.sink_parquet(
                    target,
                    compression=self.options.compression,
                    compression_level=self.options.compression_level,
                    row_group_size=self.options.max_row_group_size,
                    data_page_size=self.options.data_page_size_limit,
                    storage_options=None if self.location.is_local else self.location.polars_options,
                    mkdir=self.location.is_local,
                    sync_on_close="all",
                    sinked_paths_callback=lambda args: done.extend(args.paths),
                )
            files = [self._data_file(sunk) for sunk in done if sunk.num_rows]
            self.location.delete(set(self._values) - {file.path for file in files})
            if files:
                self.location.sync({os.path.dirname(file.path) for file in files})
        except BaseException:
            self._give_up()
            raise
        return files

    def discard(self) -> None:
        """Delete every file that was begun; only before a commit may have named them."""
        self._closed = True
        self.location.delete(self._values)
        self._values.clear()

    def _give_up(self) -> None:
        """Discard what a query that failed began; polars' threads may open a file still when its exception is here."""
        begun = set(self._values)
        self.discard()
        if self.location.is_local:
            end = time.monotonic() + LATE_SECONDS
            while begun and time.monotonic() < end:
                time.sleep(LATE_SECONDS / 50)
                self.location.delete(begun)

    def _target(self) -> Any:
        """Files by partition, or one: that is streamed with a third of the memory, and may be as large as it likes."""
        if not self.partition_columns:
            return f"{self.location.uri}/{self._begin({}, 0)}"
        return pl.PartitionBy(
            self.location.uri,
            key=list(self.partition_columns),
            include_key=False,
            approximate_bytes_per_file=BYTES_PER_FILE,
            file_path_provider=self._provide,
        )

    def _provide(self, args: Any) -> str:
        if self._closed:
            raise RuntimeError("the write that this file belongs to was given up")
        values = dict(zip(self.partition_columns, args.partition_keys.row(0), strict=True))
        return self._begin(values, args.index_in_partition)

    def _begin(self, values: Mapping[str, Any], index: int) -> str:
        """The path of a file that is about to be created."""
        folders = [f"{column}={_hive(value)}" for column, value in values.items()]
        name = f"{_prefix(self.chain, self.attempt)}-{index:05}-{uuid.uuid4().hex[:8]}"
        compression = self.options.compression
        suffix = "" if compression == "uncompressed" else f".{compression}"
        path = "/".join([*folders, f"{name}{suffix}.parquet"])
        self._values[path] = values
        return path

    def _data_file(self, sunk: Any) -> DataFile:
        path = sunk.path.removeprefix("file://").removeprefix(f"{self.location.uri}/")
        footer = pq.read_metadata(path, filesystem=self.location.files)
        values = self._values[path]
        add = AddAction(
            path=path,
            size=sunk.num_bytes,
            partition_values={column: spell(value) for column, value in values.items()},
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=add_stats(footer),
        )
        return DataFile(path, sunk.num_rows, values, add, null_counts(footer))


@contextmanager
def _reading_little_ahead(location: Location) -> Iterator[None]:
    """Of a local disk polars reads no more than a row group ahead: as fast, with half of the memory.

    Not where tables are on an object store, nor where somebody has set it; another thread's query may profit, or not.
    """
    if not location.is_local or AHEAD in os.environ:
        yield
        return
    os.environ[AHEAD] = "1"
    try:
        yield
    finally:
        os.environ.pop(AHEAD, None)


def delete_dead(table: Table, chain: int, before: int, partitions: Sequence[Partition]) -> list[str]:
    """Delete the files of a chain's attempts below a fence that no commit names; returns their paths.

    The fence `before` stands in the table's log already, so none of these attempts can commit any more. partitions: the
    partitions in question.
    """
    active = set(table.paths(partitions))
    suspects: dict[str, int] = {}
    for folder in data_folders(table, partitions):
        for name in table.location.names(folder):
            owner, path = attempt_of(name), f"{folder}/{name}".lstrip("/")
            if owner and owner[0] == chain and owner[1] < before and path not in active:
                suspects[path] = owner[1]
    committed = _committed_attempts(table, chain) if suspects else set()
    dead = [path for path, attempt in suspects.items() if attempt not in committed]
    table.location.delete(dead)
    return dead


def _committed_attempts(table: Table, chain: int) -> set[int]:
    """The attempts of a chain that the log has commits of: also of what was replaced since, which a rollback may need."""
    return {
        part.attempt
        for commit in table.log.back_from(table.version)
        for part in (commit.record.parts.values() if commit.record else ())
        if part is not None and chain_id(part.chain) == chain
    }


def remove_of(path: str) -> RemoveAction:
    """The action that takes an active file (its path as on disk) out of a table."""
    return RemoveAction(path, True, int(time.time() * 1000))


def data_folders(table: Table, partitions: Sequence[Partition] | None = None) -> list[str]:
    """The folders of the partitions' partition values that are there (None: of all).

    The root where there are no partition columns.
    """
    types = {field.name: field.type for field in table.schema.fields}
    found: list[tuple[str, dict[str, Any]]] = [("", {})]
    for column in table.partition_columns:
        deeper = []
        for folder, values in found:
            for name in table.location.folders(folder):
                key, _, text = name.partition("=")
                if key == column:
                    value = None if text == HIVE_NULL else read_value(unquote(text), types[column])
                    deeper.append((f"{folder}/{name}".lstrip("/"), {**values, column: value}))
        found = deeper
    return [folder for folder, values in found if partitions is None or any(one.holds(values) for one in partitions)]


def attempt_of(name: str) -> tuple[int, int] | None:
    """The chain and attempt that a file of ours was written by; None for anybody else's."""
    parts = name.split("-")
    if len(parts) != 5 or parts[0] != "part":
        return None
    try:
        return int(parts[1], 16), int(parts[2])
    except ValueError:
        return None


def _prefix(chain: int, attempt: int) -> str:
    return f"part-{chain:016x}-{attempt}"


def _hive(value: Any) -> str:
    spelled = spell(value)
    return HIVE_NULL if spelled is None else value_folder(spelled)
