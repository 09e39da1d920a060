"""What a partition key means in a Delta table: which values of its partition columns belong to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import polars as pl
from deltalake import DeltaTable

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""How Hive, and whoever reads its folders, spells NULL in a path."""
Scalar = str | int | bool | date | datetime | Decimal


@dataclass(frozen=True)
class Span:
    """Values from `start` on and before `end`, both of the column's own type."""

    start: Any
    end: Any

    def holds(self, value: Any) -> bool:
        """Whether a value belongs to the span."""
        return value is not None and bool(self.start <= value < self.end)

    def expression(self, column: str) -> pl.Expr:
        """The same over a frame."""
        return pl.col(column).is_between(self.start, self.end, closed="left")

    def literals(self, column: str) -> list[tuple[str, str, Any]]:
        """The same for delta-rs, as a conjunction."""
        return [(column, ">=", _plain(self.start)), (column, "<", _plain(self.end))]


@dataclass(frozen=True)
class OneOf:
    """One of some values."""

    values: tuple[Scalar, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value belongs to them."""
        return value in self.values

    def expression(self, column: str) -> pl.Expr:
        """The same over a frame."""
        if len(self.values) == 1:
            return pl.col(column) == self.values[0]
        return pl.col(column).is_in(list(self.values))

    def literals(self, column: str) -> list[tuple[str, str, Any]]:
        """The same for delta-rs, as a conjunction."""
        if len(self.values) == 1:
            return [(column, "=", _plain(self.values[0]))]
        return [(column, "in", [_plain(value) for value in self.values])]


@dataclass(frozen=True)
class Partition:
    """One partition key of an output: for each partition column what belongs to it; none: the whole table."""

    key: str
    columns: Mapping[str, Span | OneOf]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a row with these values of the partition columns belongs to the key."""
        return all(condition.holds(values[column]) for column, condition in self.columns.items())

    def expression(self) -> pl.Expr:
        """The rows of the key, for a frame."""
        conditions = [condition.expression(column) for column, condition in self.columns.items()]
        return pl.all_horizontal(conditions) if conditions else pl.lit(True)

    def literals(self) -> list[tuple[str, str, Any]]:
        """The files of the key, for delta-rs's file pruning: a conjunction."""
        return [literal for column, condition in self.columns.items() for literal in condition.literals(column)]


def paths_of(delta: DeltaTable, partitions: Sequence[Partition] | None) -> list[str]:
    """Relative paths (as on disk) of the active files that hold the partitions' rows (None: all)."""
    whole = partitions is None or any(not one.columns for one in partitions)
    pruned = None if whole or partitions is None else [one.literals() for one in partitions]
    root = delta.table_uri.removeprefix("file://").rstrip("/") + "/"
    return [uri.removeprefix("file://").removeprefix(root) for uri in delta.file_uris(file_pruning_predicate=pruned)]


def files_of(delta: DeltaTable) -> list[dict[str, Any]]:
    """Each active file: `path`, `size_bytes`, `modification_time` (ms), `num_records` (None: unknown), `partition.<column>`.

    The path is spelled as in the log. By way of pyarrow it would import pandas, where that is installed, for 0.1 s.
    """
    files = pl.DataFrame(delta.get_add_actions(flatten=True))
    return files.select("path", "size_bytes", "modification_time", "num_records", r"^partition\..*$").to_dicts()


def rows_of(partitions: Sequence[Partition]) -> pl.Expr | None:
    """The rows of any of the partitions, short also for many of them; None for the whole table."""
    if any(not one.columns for one in partitions):
        return None
    by_others: dict[Any, list[Partition]] = {}
    columns = list(partitions[0].columns)
    for one in partitions:
        by_others.setdefault(tuple(one.columns[column] for column in columns[1:]), []).append(one)
    choices = []
    for others, group in by_others.items():
        merged = _merge([one.columns[columns[0]] for one in group])
        rest = [condition.expression(column) for column, condition in zip(columns[1:], others, strict=True)]
        choices.append(pl.all_horizontal([merged_expression(columns[0], merged), *rest]))
    return pl.any_horizontal(choices)


def merged_expression(column: str, conditions: Iterable[Span | OneOf]) -> pl.Expr:
    """The rows where any condition on the column holds."""
    return pl.any_horizontal([condition.expression(column) for condition in conditions])


def _merge(conditions: Sequence[Span | OneOf]) -> list[Span | OneOf]:
    """Adjacent spans become one, values one list."""
    values = tuple(value for one in conditions if isinstance(one, OneOf) for value in one.values)
    merged: list[Span | OneOf] = [OneOf(values)] if values else []
    for span in sorted((one for one in conditions if isinstance(one, Span)), key=lambda one: one.start):
        last = merged[-1] if merged else None
        if isinstance(last, Span) and last.end >= span.start:
            merged[-1] = Span(last.start, max(last.end, span.end))
        else:
            merged.append(span)
    return merged


def owners(partitions: Sequence[Partition]) -> Callable[[Mapping[str, Any]], str | None]:
    """A function from the values of the partition columns to the key of the partition that they belong to.

    Slices do not overlap; rows that come in their order, as those of a range do, are found at once.
    """
    last = partitions[0]

    def owner(values: Mapping[str, Any]) -> str | None:
        nonlocal last
        if not last.holds(values):
            found = next((one for one in partitions if one.holds(values)), None)
            if found is None:
                return None
            last = found
        return last.key

    return owner


def spell(value: Any) -> str | None:
    """A partition value as the log has it (Delta protocol, "Partition Value Serialization"); '' for NULL is None."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat(" ", "microseconds")
        return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat("T", "microseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def read_value(text: str | None, type_: Any) -> Any:
    """The inverse of `spell` for a column of a Delta primitive type; '' is NULL."""
    if text is None or text == "":
        return None
    kind = str(getattr(type_, "type", type_))
    if kind in ("byte", "short", "integer", "long"):
        return int(text)
    if kind == "boolean":
        return text == "true"
    if kind == "date":
        return date.fromisoformat(text)
    if kind == "timestamp":
        moment = _moment(text)
        return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    if kind == "timestamp_ntz":
        return _moment(text)
    return Decimal(text) if kind.startswith("decimal") else text


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _plain(value: Any) -> Any:
    """delta-rs compares what it encodes itself; what it does not encode is given as text in the log's own form."""
    return spell(value) if isinstance(value, (date, datetime, Decimal)) else value
