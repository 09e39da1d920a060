"""The storage below which tables lie: reachable, honouring conditional puts, its clock right, no rollback open."""

import os
import time
from collections.abc import Iterator

from obstore.exceptions import BaseError

from pipeline_assets.delta.location import Location
from pipeline_assets.delta.probe import clock_ahead, refuse_without_conditional_put
from pipeline_assets.errors import ConfigurationError, DamagedTable, UnsupportedTable
from pipeline_assets.recovery.doctor import ERROR, OK, WARNING, Finding
from pipeline_assets.recovery.rollback_store import SECONDS, Fold, Store

MOST_SECONDS = 5.0
"""So much may clocks differ: by them it is told which of two attempts of different run chains is the later."""


def storage(root: Location, more: str) -> Iterator[Finding]:
    """What there is to say of a root. more: how a command names the code location."""
    try:
        root.folders("")
        refuse_without_conditional_put(root)
        ahead = clock_ahead(root)
    except (UnsupportedTable, ConfigurationError) as error:
        yield Finding(
            ERROR, "storage", root.uri, str(error), "choose a store that honours If-None-Match, or a local disk"
        )
        return
    except (BaseError, OSError) as error:
        said = f"it cannot be reached or written: {str(error).splitlines()[0]}"
        yield Finding(ERROR, "storage", root.uri, said, "look at PIPELINE_ASSETS_ROOT, its keys and its endpoint")
        return
    yield Finding(OK, "storage", root.uri, _reached(root, there=ahead is not None))
    if ahead is not None:
        yield _clock(root, ahead)
    yield _rollback(root, more)


def _reached(root: Location, *, there: bool) -> str:
    if not there:
        return "there is nothing yet"
    return "reachable and writable" if root.is_local else "reachable, and creates a file only once"


def _clock(root: Location, ahead: float) -> Finding:
    if abs(ahead) <= MOST_SECONDS:
        return Finding(OK, "clock", root.uri, "as this host's")
    said = f"it is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    return Finding(WARNING, "clock", root.uri, said, "set this host's clock (timedatectl set-ntp true)")


def _rollback(root: Location, more: str) -> Finding:
    try:
        found = Store(root).read()
    except DamagedTable as error:
        return Finding(ERROR, "rollback", error.table, error.why, "restore its log from a backup")
    if found.open is None:
        return Finding(OK, "rollback", root.uri, "none is open")
    said = f"rollback {found.open.id} is open ({found.open.state}): the writers of what it holds wait"
    if _is_at_work(found):
        return Finding(WARNING, "rollback", root.uri, f"{said}; it is at work", "wait for its end")
    return Finding(ERROR, "rollback", root.uri, said, f"pipeline-assets rollback --continue{more}")


def _is_at_work(found: Fold) -> bool:
    recent = time.time() * 1000 - found.beat <= SECONDS * 1000
    return found.owner is not None and not found.owner.is_gone() and recent


def home(folder: str | None, project: str) -> Finding:
    """Which folder is Dagster's home. folder: DAGSTER_HOME; project: the nearest folder with a dagster.yaml."""
    if not folder:
        said = "DAGSTER_HOME is not set: these commands take this folder, Dagster's own a temporary instance"
        return Finding(WARNING, "home", project, said, f"export DAGSTER_HOME={project}")
    if not os.path.isfile(os.path.join(folder, "dagster.yaml")):
        return Finding(
            WARNING, "home", folder, "it has no dagster.yaml, so that all is as Dagster likes it", "write one"
        )
    return Finding(OK, "home", folder, "DAGSTER_HOME, with a dagster.yaml")
