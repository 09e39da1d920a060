"""Values that a stage is made from beside its code, as text that is the same in every process."""

from collections.abc import Mapping
from typing import Any

_PLAIN = (str, bytes, int, float, complex, bool, type(None))
DEPTH = 4
"""So deep objects are looked into."""


def plain(value: Any, depth: int = DEPTH) -> str:
    """What a value holds: numbers, texts, collections of them, and the attributes of objects.

    Of what is neither, and of objects that lie too deep, only the type counts: never an address.
    """
    if isinstance(value, _PLAIN):
        return repr(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if depth == 0:
        return name
    if isinstance(value, Mapping):
        return f"{name}{sorted((plain(key, depth - 1), plain(one, depth - 1)) for key, one in value.items())}"
    if isinstance(value, (set, frozenset)):
        return f"{name}{sorted(plain(one, depth - 1) for one in value)}"
    if isinstance(value, (list, tuple)):
        return f"{name}{[plain(one, depth - 1) for one in value]}"
    code = getattr(value, "__code__", None)
    if code is not None or isinstance(value, type):
        return f"{name} {value.__module__}.{value.__qualname__}"
    held = getattr(value, "__dict__", None)
    shown = {key: one for key, one in held.items() if not key.startswith("_")} if isinstance(held, dict) else {}
    return f"{name}{sorted((key, plain(one, depth - 1)) for key, one in shown.items())}"
