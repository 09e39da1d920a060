"""What a module counts as that is no source of the project: the versions of the distributions that installed it."""

import functools
import os
import re
import sysconfig
from importlib import metadata
from importlib.machinery import ModuleSpec

LIBRARY = "pipeline_assets"
DEMO = tuple(f"{LIBRARY}.{module}" for module in ("defs", "flight_days", "settings", "stages"))
"""Of this library only the demo counts by its source: it is there to be edited. The rest counts by its version, also in a
checkout, so that a stage has the code version there that it has where the library is installed."""

STANDARD = ""
"""What a module of the standard library counts as; Python's version stands for all of them."""

_SITES = {"site-packages", "dist-packages"}
_STANDARD = tuple({os.path.join(sysconfig.get_path(kind), "") for kind in ("stdlib", "platstdlib")})


def of_demo(name: str) -> bool:
    """Whether a module is one of the demo's, which are followed."""
    return any(name == demo or name.startswith(demo + ".") for demo in DEMO)


def installed_as(name: str, spec: ModuleSpec) -> str | None:
    """`polars==2.0.1`, or STANDARD; None for source of the project.

    Installed is what lies below site-packages or dist-packages, or where a distribution beside it lists it (`pip install
    --target`). So a project that is installed in place is source. What no distribution lists counts by its name.
    """
    if name.partition(".")[0] == LIBRARY:
        return None if of_demo(name) else _library()
    if spec.origin in {"built-in", "frozen"}:
        return STANDARD
    return _installed(name, spec.origin, spec.submodule_search_locations is not None) if spec.origin else None


@functools.lru_cache(maxsize=1)
def _library() -> str:
    try:
        return f"{LIBRARY}=={metadata.version(LIBRARY)}"
    except metadata.PackageNotFoundError:
        return LIBRARY


@functools.cache
def _installed(name: str, file: str, package: bool) -> str | None:
    in_site = not _SITES.isdisjoint(file.split(os.sep))
    if file.startswith(_STANDARD) and not in_site:
        return STANDARD
    folder = file
    for _ in range(name.count(".") + 1 + package):
        folder = os.path.dirname(folder)
    owners = _owners(folder).get(name.partition(".")[0], [])
    if len(owners) > 1:  # they share a namespace, or one of them adds to the other
        path = re.compile(rf"^{re.escape(name.replace('.', '/'))}[/.]", re.MULTILINE)
        owners = [owner for owner in owners if path.search(owner.read_text("RECORD") or "")] or owners
    if owners:
        return " ".join(sorted(f"{owner.name}=={owner.version}" for owner in owners))
    return name.partition(".")[0] if in_site else None


@functools.cache
def _owners(folder: str) -> dict[str, list[metadata.Distribution]]:
    """Which distributions lists which name at the top of a folder: 1.5 MB of lists are read once, in some 10 ms."""
    owners: dict[str, list[metadata.Distribution]] = {}
    in_site = not _SITES.isdisjoint(folder.split(os.sep))
    for distribution in metadata.distributions(path=[folder]):
        files = distribution.read_text("RECORD")
        if files is not None:
            names = set(re.findall(r"^([^/,.]+)[/.]", files, re.MULTILINE))
        elif in_site:
            # Debian's packages keep no list. Elsewhere this is what setuptools leaves beside the source of a project.
            listed = distribution.read_text("top_level.txt")
            names = set((distribution.name.replace("-", "_").lower() if listed is None else listed).split())
        else:
            names = set()
        for name in names:
            owners.setdefault(name, []).append(distribution)
    return owners
