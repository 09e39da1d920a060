"""Values that a stage is made from beside its code, as text that is the same in every process."""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable
from copyreg import dispatch_table
from functools import partial
from hashlib import blake2b
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, TypeAlias

import polars as pl

Code: TypeAlias = Callable[[Any], tuple[str, list[Any]]]
"""For a function, a class or a module: what it counts as, and the values that it is bound to."""

_PLAIN = {str, bytes, int, float, complex, bool, type(None)}
_MAPPINGS = (dict, MappingProxyType)
_UNORDERED: tuple[type[Any], ...] = (set, frozenset, type({}.keys()), type({}.items()))
_SHORT = 100
"""So many characters or bytes stand as they are; what is longer stands as its hash."""
DEEPEST = 10_000
"""Where objects make new ones without an end, it ends here."""


class Untold(Exception):
    """What a value holds cannot be told exactly."""

    def __init__(self, value: Any) -> None:
        self.name = type_name(value)
        super().__init__(self.name)


def type_name(value: Any) -> str:
    """The full name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def named(code: Any) -> tuple[str, list[Any]]:
    """A function, a class or a module by its name alone."""
    return code.__name__ if isinstance(code, ModuleType) else f"{code.__module__}.{code.__qualname__}", []


def plain(value: Any, code: Code = named) -> str:
    """What a value holds: numbers, texts, collections of them, and of all else what `pickle` would keep of it.

    That has private attributes, dates, enums, arrays, frames and expressions. Of what has no state to be had (a lock, a
    connection) the type counts, and what it has of public attributes: never an address. Of a pydantic model its fields
    count, and not what it is kept with.
    """
    return _Telling(code, exact=False).of(value)


def exactly(value: Any) -> str:
    """As `plain`; raises Untold where only a type or a name could be told, and for a LazyFrame, whose rows are elsewhere."""
    return _Telling(named, exact=True).of(value)


class _Telling:
    """One walk through a value.

    It keeps a stack of its own, since what is held can be deeper than Python recurses. What was told once is known, else
    objects that know each other would be told on each of the ways that lead to them.
    """

    def __init__(self, code: Code, *, exact: bool) -> None:
        self._code, self._exact = code, exact
        # Values are kept beside their texts: the next one at the same address would be taken for them.
        self._told: dict[int, tuple[Any, str]] = {}

    def of(self, value: Any) -> str:
        """The text of a value."""
        if type(value) in _PLAIN:
            return _literal(value)
        path = {id(value): (0, value)}
        open_ = [self._parts(value)]
        text = ""
        while open_:
            try:
                part = next(open_[-1]) if not text else open_[-1].send(text)
            except StopIteration as end:
                open_.pop()
                key, (_, whole) = path.popitem()
                text = end.value
                self._told[key] = whole, text
                continue
            text = self._at_once(part, path)
            if not text:
                path[id(part)] = len(path), part
                open_.append(self._parts(part))
        return text

    def _at_once(self, part: Any, path: dict[int, tuple[int, Any]]) -> str:
        """The text of what needs no walk; empty for other parts."""
        if type(part) in _PLAIN:
            return _literal(part)
        if id(part) in self._told:
            return self._told[id(part)][1]
        if id(part) in path:  # it holds itself
            return f"{len(path) - path[id(part)][0]} above"
        return self._type_of(part) if len(path) >= DEEPEST else ""

    def _parts(self, value: Any) -> Generator[Any, str, str]:
        """Yields what a value is made from, is sent the text of each, and returns its own."""
        if isinstance(value, (type, FunctionType, ModuleType)):
            if self._exact and not isinstance(value, type):
                raise Untold(value)
            text, bound = self._code(value)
            kind = "class" if isinstance(value, type) else type(value).__name__
            return f"{kind} {text} {(yield bound)}" if bound else f"{kind} {text}"
        name = yield type(value)
        if isinstance(value, _MAPPINGS) and type(value) in _MAPPINGS:
            return _hashed(name, sorted((yield from _each(value.items()))))
        if isinstance(value, _UNORDERED):
            # Its order is another in each process, also that in which `pickle` would keep it.
            return _hashed(name, [*sorted((yield from _each(value))), (yield getattr(value, "__dict__", None))])
        if type(value) in {list, tuple}:
            return _hashed(name, (yield from _each(value)))
        if isinstance(value, memoryview):
            return _hashed(name, [(yield value.tobytes())])
        if hasattr(type(value), "__pydantic_private__"):
            return _hashed(name, [(yield _fields(value))])
        return (yield from self._kept(value, name))

    def _kept(self, value: Any, name: str) -> Generator[Any, str, str]:
        """By what `pickle` would keep of a value."""
        if self._exact and isinstance(value, pl.LazyFrame):
            raise Untold(value)
        if isinstance(value, (pl.DataFrame, pl.Series)):
            value = value.rechunk()  # how many threads read it makes no difference
        try:
            reduce = dispatch_table.get(type(value))
            kept = reduce(value) if reduce else value.__reduce_ex__(2)
        except Exception:  # noqa: BLE001  locks and connections raise whatever they like
            return (yield from self._seen_from_outside(value))
        if isinstance(kept, str):
            return _hashed(name, [kept])
        whole: list[Any] = [*kept, None, None, None]
        texts = yield from _each([*_maker(whole[0]), *whole[1:3]])
        texts += yield from _each(whole[3] or ())
        found = yield from _each(whole[4] or ())
        return _hashed(name, [*texts, *(found if isinstance(value, OrderedDict) else sorted(found))])

    def _seen_from_outside(self, value: Any) -> Generator[Any, str, str]:
        """By its type, by what a collection of a class of its own holds, and by public attributes."""
        text = self._type_of(value)
        held: list[Any] = [dict(value.items())] if isinstance(value, dict) else []
        held += [list(value)] if isinstance(value, (list, tuple)) else []
        held += [_fields(value)] if isinstance(getattr(value, "__dict__", None), dict) else []
        return _hashed(text, (yield from _each(held))) if held else text

    def _type_of(self, value: Any) -> str:
        if self._exact:
            raise Untold(value)
        return f"a {type_name(value)}"


def _each(values: Iterable[Any]) -> Generator[Any, str, list[str]]:
    texts = []
    for one in values:
        texts.append((yield one))  # noqa: PERF401  no comprehension yields
    return texts


def _maker(code: Any) -> list[Any]:
    """What makes a value again: a function by its name alone, for what it is given tells the values apart."""
    if isinstance(code, partial):
        return [*_maker(code.func), code.args, code.keywords]
    module, name = getattr(code, "__module__", None), getattr(code, "__qualname__", None)
    by_name = module and name and not isinstance(code, (type, MethodType))
    return [f"{module}.{name}" if by_name else code]


def _fields(model: Any) -> dict[str, Any]:
    held = {**model.__dict__, **(getattr(model, "__pydantic_extra__", None) or {})}
    return {key: one for key, one in held.items() if not key.startswith("_")}


def _literal(value: Any) -> str:
    # Python refuses to write integers of more than 4,300 digits in tens.
    text = hex(value) if type(value) is int and value.bit_length() > 4 * _SHORT else None
    if text is None and isinstance(value, bytes) and len(value) > _SHORT:
        return f"bytes {blake2b(value, digest_size=16).hexdigest()}"
    text = text or repr(value)
    return text if len(text) <= _SHORT else _hashed(type(value).__name__, [text])


def _hashed(name: str, texts: list[str]) -> str:
    """All texts as one that is short; `repr` keeps them apart."""
    return f"{name} {blake2b(repr(texts).encode(errors='surrogatepass'), digest_size=16).hexdigest()}"
