"""When the attempts of a step began, and which runs succeeded: by the event log, and as this process has heard it."""

import weakref
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterInstance

STARTS = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
_RUN_ENDS = {DagsterEventType.PIPELINE_SUCCESS, DagsterEventType.PIPELINE_FAILURE, DagsterEventType.PIPELINE_CANCELED}
_PAGE = 200


def step_starts(
    instance: DagsterInstance, run_id: str, step_key: str, *, to_the_first: bool = False, any_will_do: bool = False
) -> list[int]:
    """When the attempts of a step by a run began (ms), in order.

    to_the_first: the search, newest first, may end at what was no restart. any_will_do: it may end at the newest.
    """
    found: list[int] = []
    for entry in newest_first(instance, run_id, STARTS):
        if entry.step_key != step_key:
            continue
        found.append(moment_of(entry))
        is_first = entry.get_dagster_event().event_type is DagsterEventType.STEP_START
        if any_will_do or (to_the_first and is_first):
            break
    return found[::-1]


def newest_first(instance: DagsterInstance, run_id: str, kinds: set[DagsterEventType]) -> Iterator[dg.EventLogEntry]:
    """A run's events of some kinds."""
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor, kinds, limit=_PAGE, ascending=False)
        yield from (record.event_log_entry for record in page.records)
        if not page.has_more:
            return
        cursor = page.cursor


def listen(instance: DagsterInstance, run_id: str) -> None:
    """Hear from now on when the steps of a run begin in this process, and its success: asking takes milliseconds."""
    runs = _heard.setdefault(instance, {})
    if run_id in runs:
        return
    steps: dict[str, list[int]] = runs.setdefault(run_id, {})

    def hear(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            return
        if event.event_type is DagsterEventType.STEP_START:
            steps[event.step_key or ""] = [moment_of(entry)]
        elif event.event_type is DagsterEventType.STEP_RESTARTED and event.step_key in steps:
            steps[event.step_key].append(moment_of(entry))
        elif event.event_type in _RUN_ENDS:
            runs.pop(run_id, None)
            if event.event_type is DagsterEventType.PIPELINE_SUCCESS:
                remember_success(instance, [run_id])

    instance.add_event_listener(run_id, hear)


def heard(instance: DagsterInstance, run_id: str, step_key: str, nth: int) -> list[int] | None:
    """The same for the first attempts of a step, where this process has heard of each; None where it may not have."""
    found = _heard.get(instance, {}).get(run_id, {}).get(step_key, [])
    return list(found) if len(found) >= nth else None


def remember_success(instance: DagsterInstance, runs: Iterable[str]) -> None:
    """Note of some runs that they have succeeded, which does not change any more."""
    _succeeded.setdefault(instance, set()).update(runs)


def known_successes(instance: DagsterInstance) -> AbstractSet[str]:
    """The runs of which this process knows that they have succeeded."""
    return _succeeded.get(instance, frozenset())


def moment_of(entry: dg.EventLogEntry) -> int:
    """When an event was, in ms since 1970: the unit of attempts' numbers."""
    return int(entry.timestamp * 1000)


_heard: "weakref.WeakKeyDictionary[Any, dict[str, dict[str, list[int]]]]" = weakref.WeakKeyDictionary()
"""By instance, run and step; a restart is heard only where the first start was."""
_succeeded: "weakref.WeakKeyDictionary[Any, set[str]]" = weakref.WeakKeyDictionary()
