"""One attempt of a stage, step by step; between any two steps everything else may happen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline_assets.delta import names
from pipeline_assets.delta.choose import choose_state, reads_undone
from pipeline_assets.delta.decide import (
    Adopt,
    Again,
    Attempt,
    Facts,
    Keep,
    Name,
    Pin,
    Refuse,
    Rival,
    Wait,
    decide_range,
)
from pipeline_assets_tests.protocol.checks import on_commit
from pipeline_assets_tests.protocol.world import APPENDED, INPUTS, Broken, Chain, Item, Red, Table, World, mode_of

Steps = Iterator[None]
Pins = dict[str, Pin]


@dataclass
class Trying:
    """An attempt of a chain at a stage."""

    world: World
    chain: Chain
    stage: str
    number: int
    again: bool
    run: int = 0
    order: int = field(init=False)

    def __post_init__(self) -> None:
        """Which attempt of the chain at the stage this is, whatever the clocks say."""
        self.order = self.chain.attempts[self.stage] = self.chain.attempts.get(self.stage, 0) + 1

    @property
    def followed(self) -> bool:
        """Whether a later attempt of the chain at the stage has begun."""
        return self.chain.attempts[self.stage] > self.order

    @property
    def stopped(self) -> str | None:
        """What the event log says: whether the run of this attempt has been declared over."""
        return "its run has ended" if self.chain.run != self.run else None

    @property
    def keys(self) -> tuple[str, ...]:
        return self.world.keys_of(self.stage, self.chain)

    @property
    def table(self) -> Table:
        return self.world.tables[self.stage]

    def steps(self) -> Steps:
        """All of it. Raises Red."""
        if self.again and (yield from self.begin()):
            return
        yield
        began, raised = self.world.clock, False
        pins = yield from self.pin()
        while True:
            yield
            no_fence = self.table.version < 0 and self.followed
            if no_fence and "creation" not in self.world.without:
                raise Red("a later attempt has begun")
            version, decision = self.decide(pins)
            known = any(self.made_from_undone(pins, up) for up in pins)
            over = self.stopped
            yield
            what = decision.all_of
            self.world.count[type(what).__name__] += 1
            if isinstance(what, Refuse):
                raise Red(what.reason)
            if isinstance(what, Wait):
                continue
            if isinstance(what, Again):
                raised = raised or bool(what.pins)
                pins = {**pins, **what.pins} if what.pins else (yield from self.pin())
                continue
            if decision.writes and (over or no_fence):
                raise Broken("P3 a commit of an attempt that was known to be over")
            if self.commit(version, decision.writes, pins, began, known, raised):
                for key, one in decision.each.items():
                    if isinstance(one, Keep):
                        self.chain.kept[self.stage, key] = one.checkpoint.name
                        self.world.count["kept"] += 1
                    self.world.count["adopted"] += isinstance(one, Adopt)
                yield
                self.report(decision.writes)
                return

    def begin(self) -> Iterator[None]:
        """Give up the chain's earlier attempts; whether all is committed already."""
        while True:
            table = self.world.open(self.stage)
            if self.mine() and len(self.mine()) == len(self.keys):
                return True
            if table.version < 0:
                return False
            stands = table.txns.get(names.fence(self.chain.number), 0)
            if stands > self.number:
                raise Red("given up")
            version = table.version
            yield
            raised = 0 if "fence" in self.world.without else self.number
            if table.commit(version, {}, {names.fence(self.chain.number): raised}) is not None:
                self.world.fences[self.stage, self.chain.number] = self.number
                self.chain.fenced[self.stage] = self.order
                return False

    def pin(self) -> Iterator[None]:
        """The versions to read: what this chain wrote where it can be had, else the newest."""
        pins: Pins = {}
        for up in INPUTS[self.stage]:
            if up == "source":
                self.chain.source = self.chain.source or self.world.source_version
                pins[up] = Pin("id-source", self.chain.source)
                continue
            table = self.world.open(up)
            keys = self.world.keys_read(self.stage, self.chain, up)
            own = {} if "own" in self.world.without else self.own(up, keys)
            undone = frozenset() if "undone state" in self.world.without else self.world.undone
            state = choose_state(table.states(keys), own, undone)
            if state is None or not any(state.live.get(key) for key in keys):
                raise Red("no input")
            pins[up] = Pin(table.id, state.version)
            yield
        return pins

    def own(self, up: str, keys: Sequence[str]) -> dict[str, frozenset[Name]]:
        found = committed(self.world, up, self.chain, keys)
        return {key: frozenset({item.name}) for key, item in found.items()}

    def mine(self) -> dict[str, Item]:
        return committed(self.world, self.stage, self.chain, self.keys)

    def decide(self, pins: Pins) -> tuple[int, object]:
        """The real decision over the facts of this moment."""
        table = self.world.open(self.stage)
        undone_inputs = [up for up in pins if self.made_from_undone(pins, up)]
        mine = self.mine()
        facts = {}
        for key in self.keys:
            live = () if self.stage in APPENDED else table.live.get(key, ())
            facts[key] = Facts(
                fence=table.txns.get(names.fence(self.chain.number), 0),
                stopped=self.stopped,
                hold=table.txns.get(names.hold(self.stage, key), 0),
                mine=self.rival(mine[key]) if key in mine else None,
                rivals=[self.rival(item) for item in live],
                undone_inputs=undone_inputs,
            )
        attempt = Attempt(self.chain.number, self.number, pins, mode_of(self.stage))
        return table.version, decide_range(facts, dict.fromkeys(facts, attempt), self.world.rules)

    def rival(self, item: Item) -> Rival:
        stale = "stale" not in self.world.without and any(self.made_from_undone(item.pins, up) for up in item.pins)
        return Rival(item.name, 0, item.pins, stale)

    def made_from_undone(self, pins: Mapping[str, Pin], up: str) -> bool:
        if up == "source":
            return False
        keys = self.world.keys_read(self.stage, self.chain, up)
        table = self.world.tables[up]
        state = next((one for one in table.states(keys) if one.version == pins[up].version), None)
        return state is not None and reads_undone(state, keys, self.world.undone)

    def commit(self, version: int, keys: Sequence[str], pins: Pins, began: int, known: bool, raised: bool) -> bool:
        """Whether it stands, or there was nothing to commit."""
        if not keys:
            return True
        table, chain = self.table, self.chain
        made_of = self.contents(pins)
        items = {key: Item(Name(self.stage, key, chain.number, self.number), pins, made_of) for key in keys}
        before = dict(table.live)
        data = {key: (*(before.get(key, ()) if self.stage in APPENDED else ()), item) for key, item in items.items()}
        txns = {names.data(self.stage, key): version + 1 for key in keys}
        txns.update({names.chain(self.stage, key): chain.number for key in keys})
        txns.update({names.member(self.stage, key, chain.number): version + 1 for key in keys})
        made = table.commit(version, data, txns)
        if made is None:
            return False
        for key, item in items.items():
            on_commit(self, item, made, before.get(key, ()), began=began, known=known, raised=raised)
            self.world.commits.append((item.name, made, item))
        return True

    def report(self, keys: Sequence[str]) -> None:
        for name, _, item in self.world.commits:
            if (name.output, name.chain, name.attempt) == (
                self.stage,
                self.chain.number,
                self.number,
            ) and name.partition in keys:
                self.world.events.setdefault(name, item)

    def contents(self, pins: Pins) -> dict[tuple[str, str], Name]:
        """Whose data a result made from these pins contains."""
        found: dict[tuple[str, str], Name] = {}
        for up, pin in pins.items():
            if up == "source":
                continue
            for item in self.world.tables[up].items_at(pin.version, self.world.keys_read(self.stage, self.chain, up)):
                found.update(item.made_of)
                found[item.name.output, item.name.partition] = item.name
        return found


def committed(world: World, stage: str, chain: Chain, keys: Sequence[str]) -> dict[str, Item]:
    """A chain's checkpoints that are not undone: live in the table, or in the event log."""
    table, undone = world.tables[stage], world.undone
    found: dict[str, Item] = {}
    for key in keys:
        candidates = list(table.live.get(key, ()))
        if "event log" not in world.without:
            candidates += world.events.values()
        for item in candidates:
            name = item.name
            if (name.output, name.partition, name.chain) == (stage, key, chain.number) and name not in undone:
                found.setdefault(key, item)
    return found
