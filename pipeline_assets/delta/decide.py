"""Who may commit: the pure decision of the commit protocol.

`decide` is asked for one output and partition, with the facts of one version of its table, each time before a
commit is tried at exactly the next version. Its rules are functions in the order in which they are asked; the
first that has an answer decides. The tests take out each in turn and watch a property fail.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Mode(str, Enum):
    """What a write does with the rows that are there."""

    OVERWRITE = "overwrite"
    APPEND = "append"
    MERGE = "merge"


@dataclass(frozen=True)
class Name:
    """A checkpoint's name: output, partition, run chain and attempt (ms). Unique for each commit of ours."""

    output: str
    partition: str
    chain: int
    attempt: int


@dataclass(frozen=True)
class Pin:
    """The version at which an input is read, and the Delta table (metadata id) that it is a version of."""

    table_id: str
    version: int


Pins = Mapping[str, Pin]


@dataclass(frozen=True)
class Rival:
    """A checkpoint whose data a write would replace (merge: or update), as its commit describes it.

    `reads_undone`: it was made from something that has been undone since, so it has no claim.
    """

    name: Name
    version: int
    pins: Pins = field(default_factory=dict)
    reads_undone: bool = False


@dataclass(frozen=True)
class Attempt:
    """An attempt that wants to commit: its chain, its number (ms), what it read, and since when there is the chain (ms).

    since: of a chain's first run the number itself, as far as ties are concerned.
    """

    chain: int
    number: int
    pins: Pins = field(default_factory=dict)
    mode: Mode = Mode.OVERWRITE
    since: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of one output and partition at one version of its table.

    fence: attempts of this chain below it may not commit. hold: id of the rollback at work, 0 for none.
    stopped: why the run or attempt is over by the word of the event log, None while it is wanted.
    mine: this chain's checkpoint of the partition that is not undone, live or remembered, and its version.
    rivals: whose data would be replaced; for an overwrite the live checkpoint, for a merge the later merges that
    read the same input partitions. undone_inputs: inputs whose pin reads something that has been undone.
    """

    fence: int = 0
    hold: int = 0
    stopped: str | None = None
    mine: Rival | None = None
    rivals: Sequence[Rival] = ()
    undone_inputs: Sequence[str] = ()


@dataclass(frozen=True)
class Refuse:
    """Given up: write nothing, end red."""

    reason: str


@dataclass(frozen=True)
class Adopt:
    """Already committed by this chain: take it as the result."""

    checkpoint: Rival


@dataclass(frozen=True)
class Wait:
    """A rollback is at work: decide again later, refuse at the deadline."""

    rollback: int


@dataclass(frozen=True)
class Again:
    """Compute again; from these pins at least (none named: choose anew)."""

    pins: Pins
    reason: str


@dataclass(frozen=True)
class Keep:
    """What is there was made from newer inputs, or from the same later: write nothing, end green."""

    checkpoint: Rival


@dataclass(frozen=True)
class Write:
    """Commit at exactly the next version."""


Decision = Refuse | Adopt | Wait | Again | Keep | Write
Rule = Callable[[Facts, Attempt], Decision | None]


def fenced(facts: Facts, attempt: Attempt) -> Decision | None:
    """1a. A later attempt, a continuation or a rollback has given this attempt up."""
    if attempt.number < facts.fence:
        return Refuse(f"this attempt ({attempt.number}) was given up by a later attempt or a rollback ({facts.fence})")
    return None


def stopped(facts: Facts, attempt: Attempt) -> Decision | None:
    """1b. The run has ended, or a later attempt of the step has begun."""
    return Refuse(facts.stopped) if facts.stopped else None


def committed(facts: Facts, attempt: Attempt) -> Decision | None:
    """2. Exactly once: what this chain has committed is not committed again."""
    return Adopt(facts.mine) if facts.mine else None


def held(facts: Facts, attempt: Attempt) -> Decision | None:
    """3. While a rollback is at work everybody waits."""
    return Wait(facts.hold) if facts.hold else None


def undone(facts: Facts, attempt: Attempt) -> Decision | None:
    """4. What was read has been taken back."""
    if facts.undone_inputs:
        return Again({}, f"what was read of {', '.join(sorted(facts.undone_inputs))} has been rolled back")
    return None


def older_inputs(facts: Facts, attempt: Attempt) -> Decision | None:
    """5. Nothing goes backward: data made from newer inputs is not replaced by data from older ones."""
    raised: dict[str, Pin] = {}
    for rival in _with_a_claim(facts, attempt):
        theirs = {name: pin for name, pin in rival.pins.items() if _comparable(attempt.pins.get(name), pin)}
        newer = {name: pin for name, pin in theirs.items() if pin.version > attempt.pins[name].version}
        older = [name for name, pin in theirs.items() if pin.version < attempt.pins[name].version]
        if newer and not older:
            return Keep(rival)
        for name, pin in newer.items():
            raised[name] = max(pin, raised.get(name, pin), key=lambda p: p.version)
    if raised:
        names = ", ".join(sorted(raised))
        return Again({**attempt.pins, **raised}, f"what is there was made from a newer version of {names}")
    return None


def equal_inputs(facts: Facts, attempt: Attempt) -> Decision | None:
    """5, the tie. Without inputs the later attempt wins; from equal ones what was made since the chain began stays.

    So an older chain that is resumed after a newer one changes nothing, and a newer one that is asked for again does.
    """
    for rival in _with_a_claim(facts, attempt):
        theirs = {name: pin for name, pin in rival.pins.items() if _comparable(attempt.pins.get(name), pin)}
        equal = all(attempt.pins[name].version == pin.version for name, pin in theirs.items())
        since = attempt.number if attempt.since is None or not theirs else attempt.since
        if equal and rival.name.attempt > since:
            return Keep(rival)
    return None


RULES: tuple[Rule, ...] = (fenced, stopped, committed, held, undone, older_inputs, equal_inputs)


def decide(facts: Facts, attempt: Attempt, rules: Sequence[Rule] = RULES) -> Decision:
    """What this attempt may do with one output and partition; 6. `Write` where no rule objects."""
    for rule in rules:
        decision = rule(facts, attempt)
        if decision is not None:
            return decision
    return Write()


@dataclass(frozen=True)
class RangeDecision:
    """What an attempt over many partitions may do: `all_of` for every one, else each by itself."""

    all_of: Refuse | Wait | Again | None
    each: Mapping[str, Decision]

    @property
    def writes(self) -> list[str]:
        """The partitions to be committed together."""
        return [key for key, decision in self.each.items() if isinstance(decision, Write)]


def decide_range(
    facts: Mapping[str, Facts], attempts: Mapping[str, Attempt], rules: Sequence[Rule] = RULES
) -> RangeDecision:
    """Each partition is decided by itself; all are refused, wait, or are computed again where one is.

    The pins of `Again` are, for each input, the newest that any partition asks for.
    """
    each = {key: decide(facts[key], attempts[key], rules) for key in facts}
    for decision in each.values():
        if isinstance(decision, Refuse):
            return RangeDecision(decision, each)
    for decision in each.values():
        if isinstance(decision, Wait):
            return RangeDecision(decision, each)
    again = [decision for decision in each.values() if isinstance(decision, Again)]
    if again:
        pins: dict[str, Pin] = {}
        for decision in again:
            for name, pin in decision.pins.items():
                pins[name] = max(pin, pins.get(name, pin), key=lambda p: p.version)
        return RangeDecision(Again(pins, again[0].reason), each)
    return RangeDecision(None, each)


def _with_a_claim(facts: Facts, attempt: Attempt) -> list[Rival]:
    if attempt.mode is Mode.APPEND:
        return []
    return [rival for rival in facts.rivals if not rival.reads_undone]


def _comparable(mine: Pin | None, theirs: Pin) -> bool:
    return mine is not None and mine.table_id == theirs.table_id
