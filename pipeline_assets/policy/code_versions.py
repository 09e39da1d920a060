"""The code version of a stage that gives none: what its module and all that it imports say, without running any of it.

What counts, and what does not:

- A module of the project counts by what Python makes of its source, so comments, layout and docstrings do not count.
  It is followed: `import` in any place (in functions, below `if` and `try`, also `if TYPE_CHECKING`), and
  `importlib.import_module` of a literal.
- Of a package that is named only on the way to one of its modules (`a` in `from a.b import c`), `__init__` counts, and is
  not followed. Else every stage of a project whose `__init__` gathers its definitions would depend on every other.
- An installed package counts by the name and version of its distributions, and is not followed.
- What a function is bound to counts by its values (policy/plain.py): a partial's arguments, a method's object, a closure's,
  the defaults of parameters.
  Functions among them, and the classes of objects, count by their code as the stage's own does, wherever they are defined.
- Not seen: data files, modules whose names are made at run time.
"""

import functools
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CellType, FunctionType, ModuleType
from typing import Any

from pipeline_assets.policy.installed import installed_as, of_demo
from pipeline_assets.policy.plain import plain
from pipeline_assets.policy.sources import NOTHING, Source, digest, own_source, source_of


def code_version_of(function: Callable[..., Any]) -> str:
    """A hash (16 hex digits) of the module that defines a function, of all that it imports, and of Python's version.

    The same on every host and in every folder; for a module in no package also when it is run or loaded by its path.
    A function without a file (a notebook's, one made by `exec`) counts by its own source with the imports inside it, or
    by its bytecode where Python does not have the source; other functions and globals that it uses are not seen then.
    No error is raised for what cannot be parsed, which counts by its bytes, nor found, which counts by its name.
    """
    function, bound = _innermost(function)
    lines = {f"Python {sys.version_info.major}.{sys.version_info.minor}"} | _code_of(function)
    if bound:
        lines.add(f"bound {plain(bound, _coded)}")
    return _digest(lines)


def _digest(lines: Iterable[str]) -> str:
    return digest("\n".join(sorted(lines)).encode(errors="surrogatepass"))


def _coded(code: Any) -> tuple[str, list[Any]]:
    """A function, a class or a module that a stage is bound to: its name, its code, and what it is bound to itself."""
    if isinstance(code, ModuleType):
        bound: list[Any] = []
        root, name = _spec_in(vars(code)), ""
    else:
        code, bound = _innermost(code)
        root, name = _module_of(code), getattr(code, "__qualname__", type(code).__qualname__)
    if root is not None and installed_as(root.name, root) is not None:
        return f"{root.name}.{name} {installed_as(root.name, root)}", bound
    lines = _lines_of(root) if root and isinstance(code, ModuleType) else _code_of(code)
    return f"{name} {_digest(lines)}", bound  # without its module, which may be loaded under any name


def _code_of(function: Any) -> set[str]:
    """The lines of the module that defines a function or a class, and of the function itself where it lies in no file."""
    lines: set[str] = set()
    root = _module_of(function)
    if root:
        lines |= _lines_of(root)
    if not root or not _lies_in(root, function):
        own = own_source(function)
        lines |= {f"itself {own.digest}"} | _Reached().by(own, package="").lines
    return lines


def _innermost(function: Any) -> tuple[Any, list[Any]]:
    """What is called in the end, and with what: a partial's arguments, a method's object, a closure's values, defaults."""
    bound: list[Any] = []
    while True:
        inner = function
        if isinstance(function, functools.partial):
            bound += [given for given in (function.args, function.keywords) if given]
            inner = function.func
        inner = inspect.unwrap(inner)
        if inspect.ismethod(inner):
            bound.append(inner.__self__)
            inner = inner.__func__
        if inner is function:
            cells = getattr(function, "__closure__", None) or ()
            if getattr(function, "__dict__", None) and not isinstance(function, (type, FunctionType)):
                bound.append(function)  # an object that can be called
            if isinstance(function, FunctionType):  # `lambda n=n: n` in a loop binds as a closure does
                bound += [given for given in (function.__defaults__, function.__kwdefaults__) if given]
            return function, [*bound, *(cell.cell_contents for cell in cells if _is_filled(cell))]
        function = inner


def _is_filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a name that is bound later, as a function's own
        return False
    return True


def _module_of(function: Any) -> ModuleSpec | None:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    return _spec_in(getattr(function, "__globals__", None) or getattr(module, "__dict__", {}))


def _spec_in(names: Mapping[str, Any]) -> ModuleSpec | None:
    spec, file = names.get("__spec__"), names.get("__file__")
    if spec is None and file:  # a script
        name = names.get("__name__", "")
        return ModuleSpec(name, SourceFileLoader(name, file), origin=file)
    return spec if isinstance(spec, ModuleSpec) else None


def _lies_in(module: ModuleSpec, function: Any) -> bool:
    """Not so for what `exec` made there; a class or a built-in function has no code to ask, what has a version needs none."""
    code = getattr(function, "__code__", None)
    if code is None or installed_as(module.name, module) is not None:
        return True
    file: str = code.co_filename
    return os.path.abspath(file) == os.path.abspath(module.origin or "")


_Stamps = dict[str, tuple[int, int]]
_KNOWN: dict[tuple[str | None, ...], tuple[_Stamps, set[str]]] = {}
"""A root and the places to import from → what was read for it, and its lines: stages of one module share them."""


def _lines_of(root: ModuleSpec) -> set[str]:
    """A line for each module that counts. The root's does not name it, for it may be run or loaded under any name."""
    version = installed_as(root.name, root)
    if version is not None:
        return {version}
    key = (root.name, root.origin, *sys.path)
    if key in _KNOWN and _stamps(_KNOWN[key][0]) == _KNOWN[key][0]:
        return _KNOWN[key][1]
    reached = _Reached(root)
    stamps = _stamps({*reached.files, *map(os.path.dirname, reached.files)})  # a folder tells of new files
    if stamps and not reached.missing:  # what is missing may come, and from anywhere
        _KNOWN[key] = stamps, reached.lines
    return reached.lines


def _stamps(paths: Iterable[str]) -> _Stamps | None:
    """When each was changed, and its size; None where one is not to be had: it is gone, or in a zip."""
    stamps = {}
    try:
        for path in paths:
            facts = os.stat(path)
            stamps[path] = facts.st_mtime_ns, facts.st_size
    except OSError:
        return None
    return stamps


class _Reached:
    """What is imported, directly or through others: its lines, the project's files among it, and what is missing."""

    def __init__(self, root: ModuleSpec | None = None) -> None:
        self.lines: set[str] = set()
        self.files: set[str] = set()
        self.missing = False
        if root:
            source = source_of(root) or NOTHING
            self.lines.add(f"itself {source.digest}")
            self.files.add(root.origin or "")
            for package in _upwards(root.name):
                spec = _find(package) if package != root.name else None
                if spec:
                    self._count(package, spec)
            self.by(source, _package(root.name, root))

    def by(self, source: Source, package: str) -> "_Reached":
        """Adds what a source imports."""
        waiting = list(_named(source, package))
        seen = set(waiting)
        while waiting:
            for further in self._visit(*waiting.pop()):
                if further not in seen:
                    seen.add(further)
                    waiting.append(further)
        return self

    def _visit(self, name: str, sure: bool) -> Iterator[tuple[str, bool]]:
        """Counts a module and the packages above it, and gives what it imports; not `sure` may be a function's name."""
        for step in _upwards(name):
            spec = _find(step)
            if spec is None:
                if sure or step != name:
                    self.missing = True
                    self.lines.add(f"{name} was not found")
                return
            source = self._count(step, spec)
            if source is None:
                return
            if step == name:
                yield from _named(source, _package(name, spec))

    def _count(self, name: str, spec: ModuleSpec) -> Source | None:
        """Adds a module's line; gives its source if it is the project's."""
        version = installed_as(name, spec)
        if version is not None:
            self.lines.add(version)
            return None
        source = source_of(spec)
        if source is None and spec.submodule_search_locations is not None:
            return NOTHING  # a namespace
        self.lines.add(f"{name} {source.digest if source else 'has no source'}")
        self.files.add(spec.origin or "")
        return source or NOTHING


def _named(source: Source, package: str) -> Iterator[tuple[str, bool]]:
    """The full names that a source's imports may mean, and whether they are modules for sure."""
    for of, name in source.imports:
        try:
            module = importlib.util.resolve_name(of, package)
        except ImportError:  # more dots than packages: it would fail
            continue
        yield module, True
        if name:
            yield f"{module}.{name}", False


def _package(name: str, spec: ModuleSpec) -> str:
    return name if spec.submodule_search_locations is not None else name.rpartition(".")[0]


def _upwards(name: str) -> Iterator[str]:
    """`a`, `a.b`, `a.b.c`; of this library's demo, without the library."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(2 if of_demo(name) else 1, len(parts) + 1))


def _find(name: str) -> ModuleSpec | None:
    """Where a module is, without importing it or a package above it."""
    spec = _spec_in(getattr(sys.modules.get(name), "__dict__", {}))
    if spec:
        return spec
    above, _, last = name.rpartition(".")
    places = _places(above) if above else None
    try:
        return PathFinder.find_spec(name, places) if above else importlib.util.find_spec(name)
    except (ImportError, ValueError):  # whatever else is on sys.meta_path, and what is loaded without a spec
        return None
    except KeyError:  # it is a namespace, which asks for the package above it, which is not loaded
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [os.path.join(place, last) for place in places or ()]
        return spec


def _places(package: str) -> list[str]:
    """The folders (of zips, too) in which a package's modules lie; none for a module."""
    spec = _find(package)
    return list(spec.submodule_search_locations or ()) if spec else []
