"""Tables that this process has open and does not use: opening one takes milliseconds, refreshing one a fraction of that."""

import threading
from collections import OrderedDict

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.table import Table, open_table

KEPT = 4
"""How many; a handle holds what the log says of each file, so of large tables not many."""
_idle: "OrderedDict[tuple[object, ...], Table]" = OrderedDict()
_lock = threading.Lock()


def newest(location: Location) -> Table | None:
    """The table at a location at its newest version, None where there is none; the caller's alone. Raises DamagedTable."""
    with _lock:
        table = _idle.pop(_key(location), None)
    if table is None or not table.still_there():
        return open_table(location)
    table.refresh()
    return table


def keep(table: Table | None) -> None:
    """Leave a table, which nobody uses any more, to whoever asks for it next."""
    if table is None:
        return
    with _lock:
        _idle[_key(table.location)] = table
        while len(_idle) > KEPT:
            _idle.popitem(last=False)


def _key(location: Location) -> tuple[object, ...]:
    return location.uri, *sorted((location.options or {}).items())
