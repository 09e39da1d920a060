"""Runs, retries, zombies and rollbacks, as generators that an explorer steps through."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline_assets.delta import names
from pipeline_assets.delta.decide import Name
from pipeline_assets_tests.protocol.attempts import Trying, committed
from pipeline_assets_tests.protocol.world import APPENDED, MERGED, Broken, Chain, Item, Red, World, outputs_of

HELD, RESTORED, LIFTED = 1, 2, 3


@dataclass
class Entry:
    """A partition of a table in a rollback's plan: what is expected to be live, what is undone, what it goes back to."""

    stage: str
    key: str
    undone: set[Name] = field(default_factory=set)
    expected: Name | None = None
    target: tuple[Item, ...] = ()


@dataclass
class Plan:
    """A rollback that survives its process. seen: the version of each table when it was made."""

    id: int
    chain: Chain
    entries: list[Entry]
    fence: int
    made: int
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(entry.stage for entry in self.entries))


def zombie(steps: Iterator[None]) -> Iterator[None]:
    """An attempt that goes on though it was given up."""
    try:
        yield from steps
    except Red:
        return


def run(world: World, chain: Chain, threads: list[tuple[Iterator[None], str, Chain]], again: bool) -> Iterator[None]:
    """One run of a chain: its stages in order, each retried when it is given up."""
    chain.run += 1
    number, chain.status, chain.why = chain.run, "running", ""
    chain.began = chain.began or world.clock
    for stage in chain.select:
        if again and finished(world, chain, stage):
            continue
        if stage not in chain.started:
            chain.started.append(stage)
        retry = again
        while True:
            steps = Trying(world, chain, stage, world.next_attempt(chain), retry, number).steps()
            given_up = False
            try:
                for _ in steps:
                    yield
                    if world.faults and world.random.random() < 0.02:
                        given_up = True  # timed out, or its process is gone
                        break
            except Red as error:
                if chain.run == number:
                    chain.status, chain.why = "red", str(error)
                return
            if chain.run != number:
                return
            if not given_up:
                break
            if world.random.random() < 0.6:
                threads.append((zombie(steps), "zombie", chain))
            retry = True
    chain.status = "green"


def finished(world: World, chain: Chain, stage: str) -> bool:
    keys, undone = world.keys_of(stage, chain), world.undone
    for output in outputs_of(stage):
        mine = committed(world, output, chain, keys)
        if not all(key in mine or chain.kept.get((output, key), None) not in {None, *undone} for key in keys):
            return False
    return True


def make_plan(world: World, chain: Chain, number: int) -> Plan:
    entries = []
    for output, key in [
        (output, key) for stage in chain.started for output in outputs_of(stage) for key in world.keys_of(stage, chain)
    ]:
        table = world.open(output)
        mine = {n for n in world.events if (n.output, n.partition, n.chain) == (output, key, chain.number)}
        entry = Entry(output, key, mine - world.undone)
        live = table.live.get(key, ())
        shown = live[-1:] if output in MERGED else live  # what others merged on top cannot be taken apart
        if any(item.name in entry.undone for item in shown):
            entry.expected = live[-1].name
            entry.target = before_all(world, output, key, entry.undone)
        entries.append(entry)
    chain.last = fence = max(world.clock, chain.last + 1)
    seen = {entry.stage: world.tables[entry.stage].version for entry in entries}
    return Plan(number, chain, entries, fence, world.clock, seen)


def before_all(world: World, output: str, key: str, undone: set[Name]) -> tuple[Item, ...]:
    """The newest state that has nothing of what is, or is to be, undone; of an appended table what else is there."""
    table = world.tables[output]
    if output in APPENDED:
        return tuple(item for item in table.live.get(key, ()) if item.name not in undone)
    if output in MERGED:
        return table.live[key][:-1]
    for version in reversed(table.explained):
        shown = table.versions[version]
        items = shown.live.get(key, ())
        if key not in shown.foreign and not any(item.name in undone or item.name in world.undone for item in items):
            return items
    return ()


def as_planned(world: World, plan: Plan, entry: Entry) -> bool:
    table = world.tables[entry.stage]
    live = table.live.get(entry.key, ())
    if entry.expected is not None:
        return bool(live) and live[-1].name == entry.expected and entry.key not in table.newest.foreign
    shown = live[-1:] if entry.stage in MERGED else live
    return not any(item.name.chain == plan.chain.number and item.name not in world.undone for item in shown)


def committed_since(world: World, plan: Plan, entry: Entry) -> bool:
    """Whether the chain has committed to the partition since the plan; also where another has replaced it already."""
    mine = (entry.stage, entry.key, plan.chain.number)
    return "seen" not in world.without and any(
        (name.output, name.partition, name.chain) == mine and version > plan.seen[entry.stage]
        for name, version, _ in world.commits
    )


def all_undone(world: World, plan: Plan, stage: str) -> None:
    """P7: nothing that the chain wrote before it was rolled back is left. Raises Broken."""
    keys = {entry.key for entry in plan.entries if entry.stage == stage}
    for name, _, _ in world.commits:
        mine = (name.output, name.chain) == (stage, plan.chain.number) and name.partition in keys
        if mine and name not in world.undone:
            raise Broken(f"P7 what a chain wrote into {stage} was rolled back, and is not undone")


@dataclass
class Rollbacks:
    """One rollback at a time, whose plan outlives it."""

    world: World
    plan: Plan | None = None
    number: int = 0

    def steps(self, chain: Chain) -> Iterator[None]:
        """Undo a chain, or go on with the plan that a crash left. Raises Broken."""
        for _ in range(9):
            if self.plan is None:
                self.number += 1
                self.plan = make_plan(self.world, chain, self.number)
            plan = self.plan
            yield
            if (yield from self.hold(plan)):
                break
            yield from self.lift(plan)
            self.plan = None
            self.world.count["planned again"] += 1
        else:
            return
        yield from self.restore(plan)
        self.plan = None
        plan.chain.kept.clear()
        self.world.count["rolled back"] += 1
        if plan.chain.status != "running":
            plan.chain.status = "undone"

    def hold(self, plan: Plan) -> Iterator[None]:
        """Whether all is held (or was already)."""
        if "hold" in self.world.without:
            return True
        progress = names.plan(plan.id)
        for stage in plan.stages:
            table = self.world.open(stage)
            while table.txns.get(progress, 0) == 0:
                version, entries = table.version, [one for one in plan.entries if one.stage == stage]
                if not all(as_planned(self.world, plan, one) for one in entries):
                    return False
                if any(committed_since(self.world, plan, one) for one in entries):
                    return False
                fence = names.fence(plan.chain.number)
                txns = {fence: max(plan.fence, table.txns.get(fence, 0)), progress: HELD}
                yield
                holds = {names.hold(stage, one.key): plan.id for one in entries}
                if table.commit(version, {}, {**holds, **txns}) is not None:
                    self.world.held[stage, plan.chain.number] = plan.made
                    self.world.fences[stage, plan.chain.number] = plan.fence
            if table.txns[progress] == LIFTED:
                return False
        return True

    def lift(self, plan: Plan) -> Iterator[None]:
        for stage in plan.stages:
            table, progress = self.world.tables[stage], names.plan(plan.id)
            while table.txns.get(progress, 0) in (0, HELD):
                version = table.version
                own = [names.hold(stage, one.key) for one in plan.entries if one.stage == stage]
                held = {name: 0 for name in own if table.txns.get(name, 0) == plan.id}
                yield
                table.commit(version, {}, {**held, progress: LIFTED})

    def restore(self, plan: Plan) -> Iterator[None]:
        for stage in plan.stages:
            table, progress = self.world.tables[stage], names.plan(plan.id)
            while table.txns.get(progress, 0) != RESTORED:
                version, entries = table.version, [one for one in plan.entries if one.stage == stage]
                ok = all(as_planned(self.world, plan, one) for one in entries)
                yield
                if version != table.version:
                    continue
                if not ok:
                    raise Broken("P7 a table moved while it was held")
                data = {one.key: one.target for one in entries if one.expected is not None}
                free = {names.hold(stage, one.key): 0 for one in entries}
                table.commit(version, data, {**free, progress: RESTORED})
                for one in entries:
                    table.undone |= one.undone
                all_undone(self.world, plan, stage)
