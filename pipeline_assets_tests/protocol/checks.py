"""The properties P1 to P9 of PROTOCOL.md: those of a commit, and those of an end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_assets_tests.protocol.world import (
    APPENDED,
    INPUTS,
    REMEMBERING,
    TABLES,
    WHOLE,
    WHOLE_TABLES,
    Broken,
    Item,
    World,
    outputs_of,
)

if TYPE_CHECKING:
    from pipeline_assets_tests.protocol.attempts import Trying


def on_commit(trying: "Trying", item: Item, before: Sequence[Item], *, began: int, known: bool) -> None:
    """What must hold of a commit at the moment it is made."""
    world, name = trying.world, item.name
    if known:
        raise Broken("P9 made from data that was known to be undone")
    if began < world.held.get((name.output, name.chain), 0):
        raise Broken("P3 begun before its chain was rolled back")
    if name.attempt < world.fences.get((name.output, name.chain), 0):
        raise Broken("P3 a commit below the fence")
    if trying.order < trying.chain.fenced.get(name.output, 0):
        raise Broken("P3 a commit of an attempt that was given up")
    same = (name.output, name.partition, name.chain)
    if any((n.output, n.partition, n.chain) == same and n not in world.undone for n, _, _ in world.commits):
        raise Broken("P1 two commits of a chain")
    if name.output not in APPENDED:
        for old in before:
            _nothing_backward(trying, item, old)
    if not any(stage == trying.stage for stage, _ in trying.chain.raised):
        _own_data(trying, item)
        _made_from_the_same(trying, item)


def _nothing_backward(trying: "Trying", item: Item, old: Item) -> None:
    if old.name in trying.world.undone or any(trying.made_from_undone(old.pins, up) for up in old.pins):
        return
    older = [up for up, pin in item.pins.items() if up in old.pins and pin.version < old.pins[up].version]
    newer = [up for up, pin in item.pins.items() if up in old.pins and pin.version > old.pins[up].version]
    if older and not newer:
        raise Broken("P5 older inputs")
    if not older and not newer and old.name.attempt > item.name.attempt:
        raise Broken("P5 an earlier attempt")


def _own_data(trying: "Trying", item: Item) -> None:
    """P6: a run reads its own data where there is a version in which it is live and nothing read is undone."""
    world, chain = trying.world, trying.chain
    for up, pin in item.pins.items():
        if up == "source":
            continue
        keys = [key for key in world.keys_read(trying.stage, chain, up) if key in world.keys_of(up, chain)]
        own = {
            n.partition: n
            for n, _, _ in world.commits
            if (n.output, n.chain) == (up, chain.number) and n not in world.undone
        }
        read = {i.name for i in world.tables[up].items_at(pin.version, keys)}
        for key in keys:
            if key in own and own[key] not in read and _readable(trying, up, pin.version, list(own.values())):
                raise Broken("P6 read what another chain wrote in place of its own")


def _made_from_the_same(trying: "Trying", item: Item) -> None:
    """Several outputs of a chain's step are made from the same inputs, unless those of one were taken back."""
    world, name = trying.world, item.name
    for other, _, made in world.commits:
        if other in world.undone or (other.partition, other.chain) != (name.partition, name.chain):
            continue
        undone = any(trying.made_from_undone(made.pins, up) for up in made.pins)
        if other.output in outputs_of(trying.stage) and made.pins != item.pins and not undone:
            raise Broken("P6 two outputs of a step are made from different inputs")


def _readable(trying: "Trying", up: str, until: int, own: Sequence[object]) -> bool:
    world = trying.world
    keys = world.keys_read(trying.stage, trying.chain, up)
    for version in range(until + 1):
        items = world.tables[up].items_at(version, keys)
        found = {item.name for item in items}
        if set(own) <= found and not any(item.name in world.undone for item in items):
            return True
    return False


def at_the_end(world: World) -> None:
    """P2, P7: nothing is unheard of, nothing is held."""
    for table in TABLES:
        world.open(table)
    lost = [name for name, _, _ in world.commits if name not in world.events]
    if lost:
        raise Broken(f"P2 a commit of {lost[0].output} has no event")
    for table in world.tables.values():
        if any(value for name, value in table.txns.items() if name.startswith("pa/hold/")):
            raise Broken("P7 a hold is left")


def nobody_is_missing(world: World) -> None:
    """P4: what chains that ended green wrote is in the gathered tables, or was replaced by something newer.

    And it is in the tables that remember every chain.
    """
    for name, _, _ in world.commits:
        live = world.tables[name.output].live.get(name.partition, ())
        if name.output in REMEMBERING and name not in world.undone and name not in {item.name for item in live}:
            raise Broken(f"P4 {name.output} has lost what a chain wrote")
    made = {name: version for name, version, _ in world.commits}
    for chain in world.chains:
        if chain.status != "green":
            continue
        for name, version, _ in world.commits:
            if name.chain != chain.number or name.output not in INPUTS["gather"] or name in world.undone:
                continue
            for gathering in [one for one in ("gather", "report") if one in chain.select]:
                live = world.tables[gathering].live.get(WHOLE, ())
                got = live[-1].made_of.get((name.output, name.partition)) if live else None
                if world.tables[name.output].live.get(name.partition) and (got is None or made[got] < version):
                    raise Broken(f"P4 {gathering} lacks what a green chain wrote")


def is_stale(world: World, item: Item) -> bool:
    """Whether an item was made from something undone, or from something stale."""
    stage, key = item.name.output, item.name.partition
    for up, pin in item.pins.items():
        if up == "source":
            continue
        keys = list(world.tables[up].live) if stage == "gather" else [WHOLE if up in WHOLE_TABLES else key]
        if any(
            one.name in world.undone or is_stale(world, one) for one in world.tables[up].items_at(pin.version, keys)
        ):
            return True
    return False
