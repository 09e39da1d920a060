"""How commands show what they have found: a document, a table on a terminal, aligned lines elsewhere."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

EXACT = 2**53
"""Beyond this a reader of JSON may round an integer, so it is written as a string."""
STYLES = {
    "failed": "red",
    "killed": "red",
    "error": "red",
    "materialized": "green",
    "ok": "green",
    "live": "green",
    "running": "cyan",
    "warning": "yellow",
    "undone": "yellow",
    "not reached": "yellow",
}
"""Of words in a table's second column."""


def document(found: Any) -> str:
    """One JSON document; integers that a reader may round are strings, times are ISO 8601 with a zone."""
    return json.dumps(_exact(found))


def _exact(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= EXACT else str(value)
    if isinstance(value, Mapping):
        return {str(key): _exact(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(one) for one in value]
    return value


def moment(seconds: float | None) -> str | None:
    """A time (seconds since 1970) as ISO 8601 in this machine's zone, to the second; None for none."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds") if seconds is not None else None


def spoken(seconds: float | None) -> str:
    """The same for people."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}" if seconds is not None else "-"


def number(count: int | None) -> str:
    """A count for people."""
    return "-" if count is None else f"{count:,}"


def show(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows on stdout: a table where that is a terminal, else aligned lines without any colour."""
    if sys.stdout.isatty():
        table = Table(box=None, pad_edge=False, header_style="bold")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, STYLES.get(cell.split(",")[0], "")) for cell in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
