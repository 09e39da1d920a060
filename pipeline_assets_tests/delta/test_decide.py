"""Who may commit: each rule by example, in the order in which they are asked."""

from typing import Any

import pytest

from pipeline_assets.delta.decide import (
    Adopt,
    Again,
    Attempt,
    Facts,
    Keep,
    Mode,
    Name,
    Pin,
    Refuse,
    Rival,
    Wait,
    Write,
    decide,
    decide_range,
)


def pins(**versions: int) -> dict[str, Pin]:
    return {name: Pin(f"table-{name}", version) for name, version in versions.items()}


def rival(attempt: int = 50, reads_undone: bool = False, **versions: int) -> Rival:
    return Rival(Name("out", "k", 99, attempt), 7, pins(**versions), reads_undone)


def trying(number: int = 100, mode: Mode = Mode.OVERWRITE, **versions: int) -> Attempt:
    return Attempt(1, number, pins(**versions), mode)


MINE = Rival(Name("out", "k", 1, 90), 3)


def test_nothing_in_the_way_is_written() -> None:
    assert decide(Facts(), trying()) == Write()


def test_an_attempt_below_the_fence_is_refused() -> None:
    assert isinstance(decide(Facts(fence=101), trying(100)), Refuse)


def test_the_attempt_that_set_the_fence_may_commit() -> None:
    assert decide(Facts(fence=100), trying(100)) == Write()


def test_an_attempt_whose_run_is_over_is_refused_with_the_reason() -> None:
    assert decide(Facts(stopped="the run was cancelled"), trying()) == Refuse("the run was cancelled")


def test_what_the_chain_has_committed_is_adopted() -> None:
    assert decide(Facts(mine=MINE), trying()) == Adopt(MINE)


def test_a_zombie_does_not_adopt() -> None:
    assert isinstance(decide(Facts(fence=101, mine=MINE), trying(100)), Refuse)


def test_while_a_rollback_is_at_work_everybody_waits() -> None:
    assert decide(Facts(hold=7), trying()) == Wait(7)


def test_what_is_committed_needs_not_wait() -> None:
    assert decide(Facts(hold=7, mine=MINE), trying()) == Adopt(MINE)


def test_what_was_made_from_undone_data_is_made_again_from_new_pins() -> None:
    decision = decide(Facts(undone_inputs=["a"]), trying(a=1))
    assert isinstance(decision, Again)
    assert decision.pins == {}


@pytest.mark.parametrize(("theirs", "mine"), [({"a": 2}, {"a": 1}), ({"a": 2, "b": 3}, {"a": 1, "b": 3})])
def test_data_from_newer_inputs_is_kept(theirs: dict[str, int], mine: dict[str, int]) -> None:
    one = rival(**theirs)
    assert decide(Facts(rivals=[one]), trying(**mine)) == Keep(one)


def test_data_from_older_inputs_is_replaced() -> None:
    assert decide(Facts(rivals=[rival(a=1)]), trying(a=2)) == Write()


def test_newer_on_one_and_older_on_another_is_computed_from_the_newest_of_both() -> None:
    decision = decide(Facts(rivals=[rival(a=2, b=1)]), trying(a=1, b=2))
    assert isinstance(decision, Again)
    assert decision.pins == pins(a=2, b=2)


def test_from_equal_inputs_the_later_attempt_wins() -> None:
    later = rival(attempt=150, a=1)
    assert decide(Facts(rivals=[later]), trying(100, a=1)) == Keep(later)
    assert decide(Facts(rivals=[rival(attempt=50, a=1)]), trying(100, a=1)) == Write()


def test_an_older_chain_that_is_resumed_keeps_what_was_made_from_the_same_since_it_began() -> None:
    facts = Facts(rivals=[rival(attempt=50, raw=3)])
    assert isinstance(decide(facts, Attempt(1, 90, pins(raw=3), since=10)), Keep)
    assert isinstance(decide(facts, Attempt(1, 90, pins(raw=3), since=60)), Write)
    assert isinstance(decide(facts, Attempt(1, 90, pins(raw=3))), Write)


def test_a_resumed_chain_without_inputs_looks_at_the_world_later_and_wins() -> None:
    assert isinstance(decide(Facts(rivals=[rival(attempt=50)]), Attempt(1, 90, since=10)), Write)


def test_without_inputs_the_later_attempt_wins() -> None:
    later = rival(attempt=150)
    assert decide(Facts(rivals=[later]), trying(100)) == Keep(later)


def test_an_input_that_only_one_of_them_has_is_not_compared() -> None:
    assert decide(Facts(rivals=[rival(other=9)]), trying(a=1)) == Write()


def test_versions_of_a_table_that_was_made_anew_are_not_compared() -> None:
    old = Rival(Name("out", "k", 99, 50), 7, {"a": Pin("the-dropped-one", 57)})
    assert decide(Facts(rivals=[old]), trying(a=3)) == Write()


def test_what_was_made_from_undone_data_has_no_claim() -> None:
    assert decide(Facts(rivals=[rival(reads_undone=True, a=9)]), trying(a=1)) == Write()


def test_appending_does_not_ask_for_order() -> None:
    assert decide(Facts(rivals=[rival(attempt=150, a=9)]), trying(100, Mode.APPEND, a=1)) == Write()


def test_a_merge_gives_way_to_any_later_merge() -> None:
    newer = rival(a=5)
    assert decide(Facts(rivals=[rival(a=1), newer]), trying(100, Mode.MERGE, a=3)) == Keep(newer)


def ranged(**facts: Facts) -> Any:
    return decide_range(facts, {key: trying(a=3) for key in facts})


def test_in_a_range_each_partition_is_decided_by_itself() -> None:
    newer = rival(a=9)
    decision = ranged(one=Facts(), two=Facts(rivals=[newer]), three=Facts(mine=MINE))
    assert decision.all_of is None
    assert decision.writes == ["one"]
    assert (decision.each["two"], decision.each["three"]) == (Keep(newer), Adopt(MINE))


def test_a_range_waits_if_one_must_wait() -> None:
    assert ranged(one=Facts(), two=Facts(hold=7)).all_of == Wait(7)


def test_a_range_is_refused_if_one_is() -> None:
    assert isinstance(ranged(one=Facts(hold=7), two=Facts(stopped="over")).all_of, Refuse)


def test_what_of_a_range_is_made_again_is_made_again_together() -> None:
    attempts = {"one": trying(a=1, b=5), "two": trying(a=1, b=5)}
    facts = {"one": Facts(rivals=[rival(a=2, b=1)]), "two": Facts(rivals=[rival(a=4, b=1)])}
    decision = decide_range(facts, attempts)
    assert isinstance(decision.all_of, Again)
    assert decision.all_of.pins == pins(a=4, b=5)
