"""The protocol under every schedule that we can think of, and with each of its rules taken out.

PIPELINE_ASSETS_EXPLORE=10000 explores as many seeds; CI explores a few hundred.
"""

import os
import random
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pipeline_assets.delta.decide import RULES, Rule
from pipeline_assets_tests.protocol.explore import Explorer, explore, first_broken
from pipeline_assets_tests.protocol.world import STAGES, Broken, World

SCHEDULES = int(os.environ.get("PIPELINE_ASSETS_EXPLORE", "400"))
ENOUGH = 2000
"""Within so many schedules a missing rule is found; the slowest needs some hundred."""


def test_no_property_breaks() -> None:
    assert first_broken(range(SCHEDULES)) is None


def test_the_schedules_do_what_they_are_for() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        seen += explore(seed)
    wanted = {"Again", "Refuse", "Wait", "adopted", "foreign passed over", "kept", "planned again", "rolled back"}
    wanted |= {"green", "undone"}
    assert {name for name in wanted if seen[name] < 5} == set()


@pytest.mark.parametrize("chains", [4, 8])
def test_without_faults_no_run_ends_red(chains: int) -> None:
    assert first_broken(range(SCHEDULES // 4), faults=False, chains=chains, selections=[STAGES]) is None


@pytest.mark.parametrize("missing", RULES, ids=lambda one: one.__name__)
def test_each_rule_of_the_decision_is_needed(missing: Rule) -> None:
    assert first_broken(range(ENOUGH), rules=[one for one in RULES if one is not missing]) is not None


@pytest.mark.parametrize(
    "missing",
    [
        "adopting",  # whoever opens a table records what has no event
        "creation",  # where there is no table, the event log is asked for a later attempt
        "event log",  # a chain's checkpoint counts also where another's data is live
        "fence",  # a retry gives up the attempts before it
        "foreign",  # a partition that somebody else wrote to is read where its own checkpoint put it
        "hold",  # a rollback holds all before it restores anything
        "one more",  # an attempt's number is above those of all before it, whatever the clocks say
        "own",  # a run reads what it wrote itself
        "several",  # several outputs of a step are made from the same
        "stale",  # data made from something undone has no claim
        "told",  # what an attempt is told to read is more than what its committed outputs read
        "undone state",  # a state that holds something undone is not read
    ],
)
def test_each_rule_around_the_decision_is_needed(missing: str) -> None:
    assert first_broken(range(ENOUGH), without=missing) is not None


def late_commit(without: str = "") -> World:
    """A chain commits between its rollback's plan and its hold, and another replaces it: too rare for seeds to find."""
    world = World(random.Random(0), without=frozenset({without}), faults=False)
    explorer = Explorer(world)
    late = explorer.new_chain(["a"], ["raw"])
    explorer.start(late, again=False)
    for _ in range(3):
        explorer.step(0)  # it has decided to write, and has not yet
    zombie = explorer.threads.pop()[0]
    late.status, late.run = "failed", late.run + 1
    explorer.roll_back(late)
    explorer.step(0)
    next(zombie)
    assert [name.chain for name, _, _ in world.commits] == [late.number]
    world.clock += 9
    explorer.start(explorer.new_chain(["a"], ["raw"]), again=False)
    while explorer.at_work("run"):
        explorer.step(1)
    assert len(world.commits) == 2
    explorer.drain()
    return world


def test_a_rollback_sees_what_its_chain_has_committed_since_the_plan() -> None:
    world = late_commit()
    assert world.count["planned again"] == 1
    assert world.commits[0][0] in world.undone
    with pytest.raises(Broken, match="P7"):
        late_commit(without="seen")


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.randoms(use_true_random=False))
def test_no_property_breaks_for_hypothesis_either(choices: random.Random) -> None:
    explorer = Explorer(World(choices))
    for _ in range(60):
        explorer.something_happens()
    explorer.world.random = random.Random(0)
    explorer.finish()


class Protocol(RuleBasedStateMachine):
    """Hypothesis says what happens next; what it finds, it makes short."""

    explorer: Explorer

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.explorer = Explorer(World(random.Random(seed)))

    @rule(
        keys=st.sets(st.sampled_from("abc"), min_size=1),
        select=st.sampled_from([STAGES, ("raw", "clean"), ("gather", "report")]),
    )
    def a_run_starts(self, keys: set[str], select: tuple[str, ...]) -> None:
        self.explorer.start(self.explorer.new_chain(sorted(keys), select), again=False)

    @precondition(lambda self: self.explorer.threads)
    @rule(which=st.integers(0, 99), steps=st.integers(1, 30))
    def somebody_goes_on(self, which: int, steps: int) -> None:
        for _ in range(steps):
            self.explorer.world.clock += 1
            if self.explorer.threads:
                self.explorer.step(which % len(self.explorer.threads))

    @precondition(lambda self: self.explorer.world.chains)
    @rule(which=st.integers(0, 99))
    def a_run_is_declared_failed(self, which: int) -> None:
        self.explorer.declared_failed(self.chain(which))

    @precondition(lambda self: self.explorer.world.chains)
    @rule(which=st.integers(0, 99))
    def a_run_is_resumed(self, which: int) -> None:
        if self.chain(which).status in ("failed", "undone", "red"):
            self.explorer.start(self.chain(which), again=True)

    @precondition(lambda self: self.explorer.world.chains)
    @rule(which=st.integers(0, 99))
    def a_run_is_rolled_back(self, which: int) -> None:
        self.explorer.roll_back(self.chain(which))

    @precondition(lambda self: self.explorer.at_work("rollback"))
    @rule()
    def a_rollback_is_killed(self) -> None:
        self.explorer.threads.remove(self.explorer.at_work("rollback")[0])

    def chain(self, which: int) -> Any:
        return self.explorer.world.chains[which % len(self.explorer.world.chains)]

    def teardown(self) -> None:
        if hasattr(self, "explorer"):
            self.explorer.finish()


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=40, stateful_step_count=40, suppress_health_check=list(HealthCheck))
