"""Which version of an input is read: the pure part of pinned reads."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

from pipeline_assets.delta.decide import Name, Pin


@dataclass(frozen=True)
class State:
    """What is live in a table from the version of a checkpoint or a restore on.

    live: for each partition the checkpoints whose data is in it (one where partitions are replaced, several where
    they are appended or merged).
    """

    version: int
    live: Mapping[str, frozenset[Name]] = field(default_factory=dict)


def choose_state(states: Iterable[State], own: Mapping[str, frozenset[Name]], undone: Container[Name]) -> State | None:
    """The state at which an input is read; None where there is none.

    states: those that checkpoints and restores explain, newest first, as lazily as the caller likes. own: what the
    reading chain itself wrote there and was not undone, for each partition that is read. undone: names taken back.

    The newest state in which all of `own` is live and nothing that is read is undone, so that a run reads its own
    data also after another has replaced it; else the newest.
    """
    newest: State | None = None
    for state in states:
        if newest is None:
            newest = state
        if not own:
            return state
        live = all(names <= state.live.get(key, frozenset()) for key, names in own.items())
        if live and not reads_undone(state, state.live, undone):
            return state
    return newest


def newest_told(table_id: str, told: Iterable[Pin], is_undone: Callable[[Pin], bool]) -> Pin | None:
    """The pin that an attempt must read an input at; None where it may choose a state.

    told: what the outputs that the step has committed already were made from, and what earlier attempts were told to read
    instead. Of those of the same Delta table the newest, unless what it reads has been taken back.
    """
    for pin in sorted((pin for pin in told if pin.table_id == table_id), key=lambda pin: -pin.version):
        if not is_undone(pin):
            return pin
    return None


def reads_undone(state: State, partitions: Iterable[str], undone: Container[Name]) -> bool:
    """Whether something in these partitions of the state has been taken back."""
    return any(name in undone for key in partitions for name in state.live.get(key, ()))
