"""One attempt of a stage, step by step; between any two steps everything else may happen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline_assets.delta import names
from pipeline_assets.delta.choose import choose_state, newest_told, reads_undone
from pipeline_assets.delta.decide import (
    Adopt,
    Again,
    Attempt,
    Facts,
    Keep,
    Name,
    Pin,
    RangeDecision,
    Refuse,
    Rival,
    Wait,
    decide_range,
)
from pipeline_assets_tests.protocol.checks import on_commit
from pipeline_assets_tests.protocol.world import (
    APPENDED,
    INPUTS,
    REMEMBERING,
    Broken,
    Chain,
    Item,
    Red,
    World,
    mode_of,
    outputs_of,
)

Steps = Iterator[None]
Pins = dict[str, Pin]


@dataclass
class Trying:
    """An attempt of a chain at a stage, which writes one table or several."""

    world: World
    chain: Chain
    stage: str
    number: int
    again: bool
    run: int = 0
    order: int = field(init=False)
    read_by_committed: dict[str, set[Pin]] = field(default_factory=dict)

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

    def steps(self) -> Steps:
        """All of it. Raises Red."""
        if self.again and (yield from self.begin()):
            return
        yield
        pins = yield from self.pin()
        for output in outputs_of(self.stage):
            pins = yield from self.write(output, pins)

    def write(self, output: str, pins: Pins) -> Iterator[None]:
        """One output, until it is settled; from which pins in the end. Raises Red."""
        began, table = self.world.clock, self.world.tables[output]
        while True:
            yield
            no_fence = table.version < 0 and self.followed
            if no_fence and "creation" not in self.world.without:
                raise Red("a later attempt has begun")
            version, decision = self.decide(output, pins)
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
                pins = yield from self.compute_again(pins, what.pins)
                continue
            if decision.writes and (over or no_fence):
                raise Broken("P3 a commit of an attempt that was known to be over")
            if self.commit(output, version, decision.writes, pins, began, known):
                for key, one in decision.each.items():
                    if isinstance(one, Keep):
                        self.chain.kept[output, key] = one.checkpoint.name
                        self.world.count["kept"] += 1
                    self.world.count["adopted"] += isinstance(one, Adopt)
                yield
                self.report(output, decision.writes)
                return (yield from self.as_adopted(decision, pins))

    def begin(self) -> Iterator[None]:
        """Give up the chain's earlier attempts; whether all is committed already."""
        whole = True
        for output in outputs_of(self.stage):
            whole = (yield from self.begin_at(output)) and whole
        return whole

    def begin_at(self, output: str) -> Iterator[None]:
        table = self.world.tables[output]
        while True:
            self.world.open(output)
            self.note_pins_of_committed(output)
            if len(self.mine(output)) == len(self.keys):
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
                self.world.fences[output, self.chain.number] = self.number
                self.chain.fenced[output] = self.order
                return False

    def note_pins_of_committed(self, output: str) -> None:
        """Several outputs of a step are made from the same."""
        if "several" not in self.world.without:
            for item in self.mine(output).values():
                for up, pin in item.pins.items():
                    self.read_by_committed.setdefault(up, set()).add(pin)

    def as_adopted(self, decision: RangeDecision, pins: Pins) -> Iterator[None]:
        """An earlier attempt's commit that this one did not know of when it began says what the other outputs are made of."""
        adopted = [one.checkpoint for one in decision.each.values() if isinstance(one, Adopt)]
        unlike = any(
            pins[up] != pin and pin not in self.read_by_committed.get(up, ())
            for checkpoint in adopted
            for up, pin in checkpoint.pins.items()
        )
        return (yield from self.compute_again(pins, {})) if unlike else pins

    def compute_again(self, pins: Pins, told: Mapping[str, Pin]) -> Iterator[None]:
        """From other pins; what it is told is remembered by the chain."""
        for output in outputs_of(self.stage):
            self.note_pins_of_committed(output)
        for up, pin in told.items():
            if pin != pins[up]:
                self.chain.raised.setdefault((self.stage, up), set()).add(pin)
        return (yield from self.pin())

    def pin(self) -> Iterator[None]:
        """The versions to read: what the attempt was told, what this chain wrote where it can be had, else the newest."""
        pins: Pins = {}
        for up in INPUTS[self.stage]:
            told = [*self.read_by_committed.get(up, ()), *self.chain.raised.get((self.stage, up), ())]
            if up == "source":
                self.chain.source = self.chain.source or self.world.source_version
                pins[up] = max([Pin("id-source", self.chain.source), *told], key=lambda pin: pin.version)
                continue
            table = self.world.open(up)
            keys = self.world.keys_read(self.stage, self.chain, up)
            given = newest_told(table.id, told, lambda pin, up=up: self.made_from_undone({up: pin}, up))
            if "told" in self.world.without and self.read_by_committed.get(up):
                given = min(self.read_by_committed[up], key=lambda pin: pin.version)
            if given is not None:
                pins[up] = given
                continue
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

    def mine(self, output: str) -> dict[str, Item]:
        return committed(self.world, output, self.chain, self.keys)

    def decide(self, output: str, pins: Pins) -> tuple[int, object]:
        """The real decision over the facts of this moment."""
        table = self.world.open(output)
        undone_inputs = [up for up in pins if self.made_from_undone(pins, up)]
        mine = self.mine(output)
        facts = {}
        for key in self.keys:
            live = () if output in APPENDED else table.live.get(key, ())
            facts[key] = Facts(
                fence=table.txns.get(names.fence(self.chain.number), 0),
                stopped=self.stopped,
                hold=table.txns.get(names.hold(output, key), 0),
                mine=self.rival(mine[key]) if key in mine else None,
                rivals=[self.rival(item) for item in live if item.name not in self.world.undone],
                undone_inputs=undone_inputs,
            )
        since = self.chain.began if self.chain.run > 1 else None
        attempt = Attempt(self.chain.number, self.number, pins, mode_of(output), since)
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

    def commit(self, output: str, version: int, keys: Sequence[str], pins: Pins, began: int, known: bool) -> bool:
        """Whether it stands, or there was nothing to commit."""
        if not keys:
            return True
        table, chain = self.world.tables[output], self.chain
        made_of = self.contents(pins)
        items = {key: Item(Name(output, key, chain.number, self.number), pins, made_of) for key in keys}
        before = dict(table.live)
        data = {key: (*(before.get(key, ()) if output in REMEMBERING else ()), item) for key, item in items.items()}
        txns = {names.data(output, key): version + 1 for key in keys}
        txns.update({names.chain(output, key): chain.number for key in keys})
        txns.update({names.member(output, key, chain.number): version + 1 for key in keys})
        made = table.commit(version, data, txns)
        if made is None:
            return False
        for key, item in items.items():
            on_commit(self, item, before.get(key, ()), began=began, known=known)
            self.world.commits.append((item.name, made, item))
        return True

    def report(self, output: str, keys: Sequence[str]) -> None:
        for name, _, item in self.world.commits:
            mine = (name.output, name.chain, name.attempt) == (output, self.chain.number, self.number)
            if mine and name.partition in keys:
                self.world.events.setdefault(name, item)

    def contents(self, pins: Pins) -> dict[tuple[str, str], Name]:
        """Whose data a result made from these pins contains."""
        found: dict[tuple[str, str], Name] = {}
        for up, pin in pins.items():
            if up == "source":
                continue
            keys = self.world.keys_read(self.stage, self.chain, up)
            self.refuse_foreign(up, pin.version, keys)
            for item in self.world.tables[up].items_at(pin.version, keys):
                found.update(item.made_of)
                found[item.name.output, item.name.partition] = item.name
        return found

    def refuse_foreign(self, up: str, version: int, keys: Iterable[str]) -> None:
        """A partition that somebody else touched is read where its own checkpoint put it."""
        touched = set(keys) & self.world.tables[up].versions[version].foreign
        self.world.count["foreign passed over"] += len(touched)
        if touched and "foreign" in self.world.without:
            raise Broken(f"P6 read what somebody else wrote into {up}")


def committed(world: World, output: str, chain: Chain, keys: Sequence[str]) -> dict[str, Item]:
    """A chain's checkpoints that are not undone: live in the table, or in the event log."""
    table, undone = world.tables[output], world.undone
    found: dict[str, Item] = {}
    for key in keys:
        candidates = list(table.live.get(key, ()))
        if "event log" not in world.without:
            candidates += world.events.values()
        for item in candidates:
            name = item.name
            if (name.output, name.partition, name.chain) == (output, key, chain.number) and name not in undone:
                found.setdefault(key, item)
    return found
