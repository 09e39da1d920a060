"""Which version is read."""

from pipeline_assets.delta.choose import State, choose_state, reads_undone
from pipeline_assets.delta.decide import Name

MINE, THEIRS, OTHER = (Name("in", "k", chain, 1) for chain in (1, 2, 3))


def state(version: int, k: Name | None = None, other: Name | None = None) -> State:
    live = {"k": k, "l": other}
    return State(version, {key: frozenset({name}) if name else frozenset() for key, name in live.items()})


def chosen(
    *states: State, own: dict[str, frozenset[Name]] | None = None, undone: set[Name] | None = None
) -> int | None:
    found = choose_state(states, own or {}, undone or set())
    return found.version if found else None


OWN = {"k": frozenset({MINE})}


def test_without_own_data_the_newest_is_read() -> None:
    assert chosen(state(5, THEIRS), state(3, MINE)) == 5


def test_a_run_reads_its_own_data_after_another_has_replaced_it() -> None:
    assert chosen(state(5, THEIRS), state(3, MINE), own=OWN) == 3


def test_of_the_versions_with_own_data_the_newest_is_read() -> None:
    assert chosen(state(5, MINE, THEIRS), state(3, MINE), own=OWN) == 5


def test_a_state_that_holds_something_undone_is_passed_over_whosever_it_is() -> None:
    assert chosen(state(5, MINE, THEIRS), state(3, MINE, OTHER), own=OWN, undone={THEIRS}) == 3


def test_where_own_data_can_be_had_nowhere_the_newest_is_read() -> None:
    assert chosen(state(5, THEIRS), own=OWN) == 5


def test_no_state_is_none() -> None:
    assert chosen() is None


def test_only_the_partitions_that_are_read_count_as_undone() -> None:
    assert not reads_undone(state(5, MINE, THEIRS), ["k"], {THEIRS})
    assert reads_undone(state(5, MINE, THEIRS), ["k", "l"], {THEIRS})
