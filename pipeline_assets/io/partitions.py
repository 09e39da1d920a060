"""Dagster's partitions as rows of a table: which values of which columns belong to a partition key."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

import dagster as dg
from dagster import MultiPartitionsDefinition, PartitionsDefinition, TimeWindowPartitionsDefinition
from deltalake import Schema

from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.partitions import OneOf, Partition, Span
from pipeline_assets.errors import ConfigurationError

PARTITION_EXPR = "partition_expr"


@dataclass(frozen=True)
class Wanted:
    """A partition key before the columns' types are known: for each column its dimension's key, and time window."""

    key: str
    columns: Mapping[str, tuple[str, dg.TimeWindow | None]]

    def among(self, types: Mapping[str, Any], asset: str) -> Partition:
        """The partition of a table whose columns have these Delta types. Raises ConfigurationError."""
        columns: dict[str, Span | OneOf] = {}
        for column, (key, window) in self.columns.items():
            if column not in types:
                raise ConfigurationError(
                    f"{asset} is partitioned by {column!r} (metadata {PARTITION_EXPR!r}), which is no column of its "
                    f"table; it has {', '.join(types)}. Nothing was written."
                )
            kind = str(getattr(types[column], "type", types[column]))
            columns[column] = _condition(kind, key, window, f"{asset} [{self.key}], column {column!r}")
        return Partition(self.key, columns)


def wanted(
    asset: str, definition: PartitionsDefinition[Any] | None, keys: Collection[str], expression: Any
) -> tuple[Wanted, ...]:
    """What some partition keys of an asset ask for.

    expression: the metadata `partition_expr`: a column, or for several dimensions a column for each by its name.
    Raises ConfigurationError where a dimension has no column.
    """
    if definition is None:
        return (Wanted(WHOLE, {}),)
    _refuse_no_expression(asset, expression)
    if WHOLE in keys:
        raise ConfigurationError(
            f"{asset} has a partition key {WHOLE!r}, which stands for a table without partitions. Nothing was written; "
            "choose another."
        )
    return tuple(Wanted(str(key), _columns(asset, definition, key, expression)) for key in keys)


def partition_columns(asset: str, definition: PartitionsDefinition[Any] | None, expression: Any) -> list[str]:
    """The columns that a table of the asset is partitioned by, in the order of its dimensions."""
    if definition is None:
        return []
    if isinstance(definition, MultiPartitionsDefinition):
        return [_of_dimension(asset, expression, dimension.name) for dimension in definition.partitions_defs]
    _refuse_no_expression(asset, expression)
    return [str(expression)]


def _refuse_no_expression(asset: str, expression: Any) -> None:
    if expression is None:
        raise ConfigurationError(
            f"Asset '{asset}' has partitions, but no 'partition_expr' metadata value, so we don't know what column "
            f"it's partitioned on. Nothing was written. Set it: @asset(metadata={{'{PARTITION_EXPR}': 'a_column'}})."
        )


def reads_own_key(
    mapping: dg.PartitionMapping, own: PartitionsDefinition[Any] | None, upstream: PartitionsDefinition[Any] | None
) -> bool:
    """Whether a partition reads just the one of its own key, by how the two assets' partitions are mapped."""
    if own is None or own != upstream:
        return False
    if isinstance(mapping, dg.TimeWindowPartitionMapping):
        return mapping.start_offset == mapping.end_offset == 0
    return isinstance(mapping, dg.IdentityPartitionMapping)


def types_of(schema: Schema) -> dict[str, Any]:
    """Delta types of a table's columns by name."""
    return {field.name: field.type for field in schema.fields}


def partitions_among(asked: Sequence[Wanted], schema: Schema, asset: str) -> list[Partition]:
    """The partitions of a table with this schema."""
    types = types_of(schema)
    return [one.among(types, asset) for one in asked]


def _columns(
    asset: str, definition: PartitionsDefinition[Any], key: str, expression: Any
) -> dict[str, tuple[str, dg.TimeWindow | None]]:
    if not isinstance(definition, MultiPartitionsDefinition):
        return {str(expression): (str(key), _window(definition, key))}
    by_dimension = definition.get_partition_key_from_str(str(key)).keys_by_dimension
    return {
        _of_dimension(asset, expression, dimension.name): (
            by_dimension[dimension.name],
            _window(dimension.partitions_def, by_dimension[dimension.name]),
        )
        for dimension in definition.partitions_defs
    }


def _of_dimension(asset: str, expression: Any, dimension: str) -> str:
    if not isinstance(expression, Mapping) or not expression.get(dimension):
        raise ConfigurationError(
            f"Asset '{asset}' has partition dimension {dimension!r}, but its metadata {PARTITION_EXPR!r} has no column "
            f"for it. Nothing was written. Set it: {{'{PARTITION_EXPR}': {{'{dimension}': 'a_column', …}}}}."
        )
    return str(expression[dimension])


def _window(definition: PartitionsDefinition[Any], key: str) -> dg.TimeWindow | None:
    if isinstance(definition, TimeWindowPartitionsDefinition):
        return definition.time_window_for_partition_key(key)
    return None


def _condition(kind: str, key: str, window: dg.TimeWindow | None, where: str) -> Span | OneOf:
    if window is None or kind == "string":
        return OneOf((_value(kind, key, where),))
    start, end = window.start, window.end
    if kind == "date":
        if any(moment.timetz().replace(tzinfo=None) != datetime.min.time() for moment in (start, end)):
            raise ConfigurationError(
                f"{where}: a date cannot tell {start.isoformat()} from {end.isoformat()}. Nothing was written; "
                "partition by a timestamp column."
            )
        return Span(start.date(), end.date())
    if kind == "timestamp":
        return Span(start.astimezone(timezone.utc), end.astimezone(timezone.utc))
    if kind == "timestamp_ntz":
        return Span(_wall_clock(start, end, where), end.replace(tzinfo=None))
    return OneOf((_value(kind, key, where),))


def _wall_clock(start: datetime, end: datetime, where: str) -> datetime:
    """A time without zone is the wall clock of the partitions' zone, where it begins and ends at what that shows once."""
    if _shown_before(start) or _shown_before(end):
        raise ConfigurationError(
            f"{where}: the clocks of {start.tzinfo} are set back then, so times without a zone do not tell to which "
            "partition they belong. Nothing was written; use a column with a time zone."
        )
    return start.replace(tzinfo=None)


def _shown_before(moment: datetime) -> bool:
    """Whether the clocks, set back, show the same time for the second time."""
    return moment.fold == 1 and moment.replace(fold=0).utcoffset() != moment.utcoffset()


def _value(kind: str, key: str, where: str) -> Any:
    try:
        if kind in ("byte", "short", "integer", "long"):
            return int(key)
        if kind == "date":
            return date.fromisoformat(key)
        if kind == "timestamp":
            moment = datetime.fromisoformat(key)
            return moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
        if kind == "timestamp_ntz":
            return datetime.fromisoformat(key)
        if kind == "boolean":
            return {"true": True, "false": False}[key.lower()]
        if kind.startswith("decimal"):
            return Decimal(key)
    except (ValueError, KeyError, InvalidOperation) as error:
        raise ConfigurationError(f"{where}: the key {key!r} is no {kind}. Nothing was written.") from error
    return key
