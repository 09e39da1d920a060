"""What the source of a module says: a digest of what Python makes of it, and what it imports."""

import ast
import hashlib
import inspect
import os
import textwrap
import warnings
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from types import CodeType
from typing import Any, NamedTuple


class Import(NamedTuple):
    """An import as it is written: `of` with leading dots, and the `name` taken from it, "" for none."""

    of: str
    name: str


class Source(NamedTuple):
    """A digest, in which comments, layout and strings that stand alone (docstrings) do not count; and the imports."""

    digest: str
    imports: tuple[Import, ...]


NOTHING = Source("", ())

_KNOWN: dict[str, tuple[tuple[int, int], Source]] = {}
"""Path → its modification time and size, and what was read then. A code location that is loaded again sees an edit."""


def source_of(spec: ModuleSpec) -> Source | None:
    """What a module's file says, or its loader (a zip); None where neither has a source."""
    path = spec.origin or ""
    try:
        facts = os.stat(path)
        stamp = facts.st_mtime_ns, facts.st_size
        if path not in _KNOWN or _KNOWN[path][0] != stamp:
            with open(path, "rb") as file:
                _KNOWN[path] = stamp, parsed(file.read())
        return _KNOWN[path][1]
    except OSError:
        return _told_by_loader(spec)


def parsed(text: bytes) -> Source:
    """What a text says; one that is no Python (a syntax error, a compiled module) has its bytes as digest, no imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in somebody's string is not ours to tell
            tree = ast.parse(text)
        words, imports = _words(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Source(digest(text), ())
    return Source(digest(" ".join(words).encode(errors="surrogatepass")), tuple(imports))


def own_source(function: Any) -> Source:
    """What a single function says: its source, else its bytecode, else its name."""
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    # All that is made by `exec` has this file; from 3.13 on, Python takes the text of `python -c` for it.
    if not code or code.co_filename not in {"<string>", "<stdin>"}:
        try:
            return parsed(textwrap.dedent(inspect.getsource(function)).encode(errors="surrogatepass"))
        except (OSError, TypeError):
            pass
    return Source(digest((repr(_plain(code)) if code else name).encode(errors="surrogatepass")), ())


def digest(text: bytes) -> str:
    """16 hex digits."""
    return hashlib.sha256(text).hexdigest()[:16]


def _told_by_loader(spec: ModuleSpec) -> Source | None:
    try:
        text = getattr(spec.loader, "get_source", lambda _: None)(spec.name)
    except (ImportError, OSError):
        return None
    return None if text is None else parsed(text.encode(errors="surrogatepass"))


def _words(tree: ast.AST) -> tuple[list[str], list[Import]]:
    # One loop over a stack: `ast.dump` takes twice as long, and gives up on deep expressions. A node's kind says how
    # many fields follow, a list is preceded by its length, so no two trees have the same words.
    words: list[str] = []
    imports: list[Import] = []
    stack: list[Any] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.AST):
            words.append(type(node).__name__)
            imports.extend(_imports(node))
            stack.extend(getattr(node, field, None) for field in node._fields)
        elif isinstance(node, list):
            kept = [item for item in node if not _stands_alone(item)]
            words.append(str(len(kept)))
            stack.extend(kept)
        else:
            words.append(repr(node))
    return words, imports


def _stands_alone(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(node: ast.AST) -> Iterable[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            parts = alias.name.split(".")
            # `import a.b` binds a, and whatever a has can be used then; `import a.b as c` binds b alone.
            first = len(parts) if alias.asname else 1
            yield from (Import(".".join(parts[:end]), "") for end in range(first, len(parts) + 1))
    elif isinstance(node, ast.ImportFrom):
        yield from (Import("." * node.level + (node.module or ""), alias.name) for alias in node.names)
    elif isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        first_argument = getattr(node.args[0], "value", None)
        if called in {"import_module", "__import__"} and isinstance(first_argument, str):
            yield Import(first_argument, "")


def _plain(constant: object) -> object:
    """A code object, or a constant of one, without addresses, line numbers, and the order that sets happen to have."""
    if isinstance(constant, CodeType):
        return constant.co_code, constant.co_names, constant.co_varnames, [_plain(each) for each in constant.co_consts]
    if isinstance(constant, frozenset):
        return "frozenset", sorted(repr(_plain(each)) for each in constant)
    if isinstance(constant, tuple):
        return tuple(_plain(each) for each in constant)
    return constant
