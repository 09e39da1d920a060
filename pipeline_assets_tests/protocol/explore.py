"""The explorer: seeded schedules of everything that may happen, and what must hold afterwards."""

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import RULES, Rule
from pipeline_assets_tests.protocol.checks import at_the_end, is_stale, nobody_is_missing
from pipeline_assets_tests.protocol.runs import Rollbacks, run
from pipeline_assets_tests.protocol.world import REMEMBERING, STAGES, TABLES, WHOLE, WHOLE_TABLES, Broken, Chain, World

KEYS = ("a", "b", "c")
SELECTIONS = (*[STAGES] * 4, ("gather", "report"), ("clean", "count", "gather", "report"), ("raw", "clean"))
ENDLESS = 20_000


@dataclass
class Explorer:
    """One schedule; its choices come from the world's random numbers (a seed's, or hypothesis's)."""

    world: World
    chains: int = 5
    selections: Sequence[Sequence[str]] = SELECTIONS
    threads: list[tuple[Iterator[None], str, Chain]] = field(default_factory=list)
    rollbacks: Rollbacks = field(init=False)

    def __post_init__(self) -> None:
        self.rollbacks = Rollbacks(self.world)

    def start(self, chain: Chain, again: bool) -> None:
        self.threads.append((run(self.world, chain, self.threads, again), "run", chain))

    def step(self, index: int) -> None:
        try:
            next(self.threads[index][0])
        except StopIteration:
            self.threads.pop(index)

    def at_work(self, kind: str) -> list[tuple[Iterator[None], str, Chain]]:
        return [thread for thread in self.threads if thread[1] == kind]

    def new_chain(self, keys: Sequence[str] | None = None, select: Sequence[str] | None = None) -> Chain:
        random_ = self.world.random
        keys = keys or random_.sample(KEYS, random_.choice((1, 1, 1, 2, 3)))
        # Unlike each other, whatever the source of the random numbers says.
        salt = f"{random_.getrandbits(64)} {len(self.world.chains)}"
        chain = Chain(
            str(uuid.uuid5(uuid.NAMESPACE_OID, salt)),
            tuple(sorted(keys)),
            tuple(select or random_.choice(self.selections)),
        )
        self.world.chains.append(chain)
        return chain

    def something_happens(self) -> None:
        """One event of the schedule: mostly a step of somebody, now and then a start, a death, a rollback."""
        world = self.world
        world.clock += 1
        world.source_version += world.random.random() < 0.05
        if world.random.random() < 0.03:
            self.somebody_else_writes(world.random.choice(TABLES))
        dice = world.random.random()
        chain = world.random.choice(world.chains) if world.chains else None
        if dice < 0.06 and len(world.chains) < self.chains:
            self.start(self.new_chain(), again=False)
        elif not world.faults or dice >= 0.22 or chain is None:
            self.someone_steps()
        elif dice < 0.10:
            self.declared_failed(chain)
        elif dice < 0.16:
            if chain.status in ("failed", "undone", "red"):
                self.start(chain, again=True)
        elif dice < 0.19:
            self.roll_back(chain)
        elif self.at_work("rollback") and world.random.random() < 0.5:
            self.threads.remove(self.at_work("rollback")[0])

    def someone_steps(self) -> None:
        if self.threads:
            index = self.world.random.randrange(len(self.threads))
            if self.threads[index][1] != "zombie" or self.world.random.random() < 0.2:
                self.step(index)

    def somebody_else_writes(self, table: str) -> None:
        """A foreign commit. Under a hold it stops the rollback for a person's word, which is no part of this."""
        there = self.world.tables[table]
        free = [key for key in there.live if not there.txns.get(names.hold(table, key), 0)]
        if free:
            there.write_of_somebody_else(self.world.random.choice(free))
            self.world.count["foreign"] += 1

    def declared_failed(self, chain: Chain) -> None:
        """The run is declared failed: its process is dead, or goes on as a zombie."""
        if chain.status != "running":
            return
        chain.status, chain.run = "failed", chain.run + 1
        for thread in [one for one in self.at_work("run") if one[2] is chain]:
            self.threads.remove(thread)
            if self.world.random.random() < 0.5:
                self.threads.append((thread[0], "zombie", chain))

    def roll_back(self, chain: Chain) -> None:
        if self.at_work("rollback"):
            return
        if self.rollbacks.plan is not None:
            chain = self.rollbacks.plan.chain
        elif chain.status not in ("failed", "red", "green"):
            return
        self.threads.append((self.rollbacks.steps(chain), "rollback", chain))

    def drain(self) -> None:
        """Everybody ends. Raises Broken."""
        for _ in range(ENDLESS):
            if not self.threads:
                return
            self.world.clock += 1
            self.step(self.world.random.randrange(len(self.threads)))
        raise Broken("P8 does not end")

    def finish(self) -> None:
        """No more faults: what is open is ended, what failed is resumed, and everything must hold."""
        world = self.world
        healthy, world.faults = not world.faults, False
        if self.rollbacks.plan is not None:
            self.roll_back(self.rollbacks.plan.chain)
        self.drain()
        if healthy and any(chain.status == "red" for chain in world.chains):
            raise Broken(f"P8 a healthy run ends red: {[chain.why for chain in world.chains]}")
        for chain in list(world.chains):
            if chain.status in ("failed", "red"):
                self.start(chain, again=True)
                self.drain()
        at_the_end(world)
        before = {name: dict(world.tables[name].live) for name in TABLES}
        self.refresh()
        nobody_is_missing(world)
        if not world.count["rolled back"] and before != {name: dict(world.tables[name].live) for name in TABLES}:
            raise Broken("P7 changed without a rollback")

    def refresh(self) -> None:
        """What a rollback lists: chains that kept what is undone, stale consumers, gathering tables that are behind."""
        world = self.world
        for chain in list(world.chains):
            if chain.status == "green" and any(name in world.undone for name in chain.kept.values()):
                self.start(chain, again=True)
                self.drain()
        for stage in STAGES[1:]:
            for key in (WHOLE,) if stage in WHOLE_TABLES else tuple(world.tables[stage].live):
                live = world.tables[stage].live.get(key, ())
                behind = stage in WHOLE_TABLES or (live and is_stale(world, live[-1]))
                if world.count["rolled back"] and behind and stage not in REMEMBERING:
                    world.clock += 9
                    self.start(self.new_chain([key] if key != WHOLE else ["a"], [stage]), again=False)
                    self.drain()


def explore(
    seed: int, *, rules: Sequence[Rule] = RULES, without: str = "", faults: bool = True, **how: Any
) -> Counter[str]:
    """One schedule from a seed; what happened how often. Raises Broken."""
    world = World(random.Random(seed), rules, frozenset({without}), faults)
    explorer = Explorer(world, **how)
    for _ in range(350):
        explorer.something_happens()
    explorer.finish()
    return world.count + Counter(chain.status for chain in world.chains)


def first_broken(seeds: range, **how: Any) -> tuple[int, str] | None:
    """The first seed whose schedule breaks a property, and which."""
    for seed in seeds:
        try:
            explore(seed, **how)
        except Broken as error:
            return seed, str(error)
    return None
