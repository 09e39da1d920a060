"""Column statistics for a table's log, from Parquet footers (Delta protocol, "Per-file Statistics")."""

import json
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from pyarrow.parquet import FileMetaData

INDEXED_COLUMNS = 32
"""`delta.dataSkippingNumIndexedCols`, by default."""
PREFIX_LENGTH = 32


def add_stats(footer: FileMetaData) -> str:
    """The statistics of a data file as JSON: rows, and for the first columns min, max and NULLs.

    A string is cut, its maximum rounded up; a column without statistics, or with NaN, has none.
    """
    minimum: dict[str, Any] = {}
    maximum: dict[str, Any] = {}
    nulls: dict[str, Any] = {}
    names = set(footer.schema.to_arrow_schema().names)
    for index in range(min(footer.num_columns, INDEXED_COLUMNS)):
        column = footer.schema.column(index)
        if column.max_repetition_level:
            continue
        path = [column.path] if column.path in names else column.path.split(".")
        found = [footer.row_group(group).column(index).statistics for group in range(footer.num_row_groups)]
        if any(one is None for one in found):
            continue
        if all(one.has_null_count for one in found):
            _put(nulls, path, sum(one.null_count for one in found))
        if all(one.has_min_max for one in found):
            _put_range(minimum, maximum, path, found)
    stats = {"numRecords": footer.num_rows, "minValues": minimum, "maxValues": maximum, "nullCount": nulls}
    # Not escaped: delta-rs reads an escaped pair of surrogates as another character, and would skip the file.
    return json.dumps(stats, ensure_ascii=False)


def null_counts(footer: FileMetaData) -> dict[str, int]:
    """NULLs of each leaf column, by its dotted path; a column whose footer does not say is left out."""
    counts: dict[str, int] = {}
    for index in range(footer.num_columns):
        found = [footer.row_group(group).column(index).statistics for group in range(footer.num_row_groups)]
        if all(one is not None and one.has_null_count for one in found):
            counts[footer.schema.column(index).path] = sum(one.null_count for one in found)
    return counts


def _put_range(minimum: dict[str, Any], maximum: dict[str, Any], path: list[str], found: list[Any]) -> None:
    try:
        low, high = _low(min(one.min for one in found)), _high(max(one.max for one in found))
    except (TypeError, ValueError, OverflowError):
        return  # no order, or a year that Python does not have: no statistics are always right
    if low is not None and high is not None:
        _put(minimum, path, low)
        _put(maximum, path, high)


def _low(value: Any) -> Any:
    return value[:PREFIX_LENGTH] if isinstance(value, str) else _json(value)


def _high(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= PREFIX_LENGTH:
        return _json(value)
    return _rounded_up(value[:PREFIX_LENGTH])


def _rounded_up(text: str) -> str | None:
    """The shortest text above all that begin with this one; None where there is none."""
    for end in range(len(text) - 1, -1, -1):
        code = ord(text[end]) + 1
        code = 0xE000 if 0xD800 <= code < 0xE000 else code
        if code <= 0x10FFFF:
            return text[:end] + chr(code)
    return None


def _json(value: Any) -> Any:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds")  # not strftime: it says year 990 as 990
        return f"{text}Z" if value.tzinfo is not None else text
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value) if Decimal(float(value)) == value else None
    return value if isinstance(value, (int, str)) else None


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
