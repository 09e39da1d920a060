"""Pinned reads: which version of an input an attempt reads, and its rows."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from deltalake import DeltaTable

from pipeline_assets import checkpoint_log
from pipeline_assets.chains import Chain, chain_of
from pipeline_assets.delta import names
from pipeline_assets.delta.choose import choose_state, newest_told, reads_undone
from pipeline_assets.delta.decide import Mode, Name, Pin
from pipeline_assets.delta.handles import newest
from pipeline_assets.delta.record import Part
from pipeline_assets.delta.scan import empty, open_at, scan
from pipeline_assets.delta.states import has_made_nothing, made_by, states, states_at
from pipeline_assets.delta.table import Memory, Table, open_table
from pipeline_assets.delta.types import polars_type
from pipeline_assets.errors import ConfigurationError, ForeignData, NotMaterialized
from pipeline_assets.io import pins
from pipeline_assets.io.foreign import mend_of, touched
from pipeline_assets.io.merge_config import WriteMode
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.io.steps import Read, Step


def read(step: Step, output: Output, keys: Sequence[str], source_run: str | None = None) -> Read:
    """Pin an input. Raises NotMaterialized, ForeignData, DamagedTable.

    source_run: for an op's output the run that made it.
    """
    table = newest(output.location)
    if table is None:
        raise NotMaterialized(output=output.name, partitions=keys, table=output.location.uri)
    found = Read(
        output,
        table,
        Pin(table.id, table.version),
        partitions_among(output.wanted(keys), table.schema, output.name),
    )
    if not table.is_ours:
        found.pin = _source_pin(step, output, table)
    else:
        found.pin = _explained_pin(step, found, source_run)
        found.ignored = touched(found, table.version)
        found.kept_at = touched(found, found.pin.version) if found.ignored else {}
    step.reads[output.name] = found
    return found


def frame_of(
    found: Read, only: Iterable[str] | None = None, columns: Sequence[str] | None = None, *, new_run: str = ""
) -> pl.LazyFrame:
    """The rows of a read, of all its partitions or only of some, with the columns of the newest version that is read.

    new_run: the command that reads the newest versions, for the text of VersionGone.
    """
    chosen = found.partitions if only is None else [one for one in found.partitions if one.key in set(only)]
    newest = [one for one in chosen if one.key not in found.kept_at]
    kept = [one for one in chosen if one.key in found.kept_at]
    location = found.output.location
    is_kept = len(found.kept_at) == len(found.partitions)
    version = max(found.kept_at.values()) if is_kept else found.table.same_data_as(found.pin.version)
    mend = mend_of(found, chosen, new_run)
    opened = _opened(found, version, mend)
    frames = [scan(location, version, newest, columns, opened, opened if kept else None, mend)] if newest else []
    for one in kept:
        again = mend_of(found, [one], new_run)
        frames.append(scan(location, found.kept_at[one.key], [one], columns, like=opened, mend=again))
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical")


def _opened(found: Read, version: int, mend: str) -> DeltaTable:
    """The table at a version, opened once for all partitions of a dict."""
    if found.opened is None or found.opened.version() != version:
        here = found.table.delta
        found.opened = here if here.version() == version else open_at(found.output.location, version, mend)
    return found.opened


def missing(found: Read) -> list[str]:
    """Partitions that are read and are not there. Raises ForeignData for one that holds what nobody explains.

    What was in somebody else's table before our first commit to it is there: it is read as it was then. What a rollback
    took away altogether is not.
    """
    table = found.table
    if not table.is_ours:
        return []
    written = set(table.written_partitions(found.output.name)) - _taken_away(found)
    absent = [one for one in found.partitions if one.key not in written]
    if not absent or not table.paths(absent):
        return [one.key for one in absent]
    base = open_table(found.output.location, table.base) if table.base is not None else None
    there = {one.key for one in absent if base is not None and base.paths([one])}
    foreign = {one.key for one in absent if one.key not in there and table.paths([one])}
    if foreign:
        raise ForeignData(
            table=found.output.location.uri,
            why=f"partition {min(foreign)} holds data that no checkpoint of {found.output.name} explains",
        )
    return [one.key for one in absent if one.key not in there]


def _taken_away(found: Read) -> set[str]:
    """Partitions that a rollback has left without rows, at the pin."""
    table, name = found.table, found.output.name
    empty = [
        one
        for one in found.partitions
        if table.txns.get(names.chain(name, one.key)) == 0
        and table.txns.get(names.data(name, one.key), 0) <= found.pin.version
    ]
    return {one.key for one in empty if not table.paths([one])}


def read_what_is_undone(found: Read, keys: Iterable[str], version: int) -> bool:
    """Whether what these partitions held at a version has been taken back since. `found.table` is refreshed."""
    found.table.refresh()
    undone = found.table.undone()
    if not undone:
        return False
    state = next(iter(states_at(found.table, found.output.name, keys, version)), None)
    return state is not None and reads_undone(state, keys, undone)


def has_moved_on(found: Read) -> bool:
    """Whether what is read of an input is newer by now than its pin."""
    found.table.refresh()
    if not found.table.is_ours:
        return found.table.last_change() > found.pin.version
    entries = (names.data(found.output.name, key) for key in found.keys)
    return any(found.table.txns.get(entry, 0) > found.pin.version for entry in entries)


def declared_empty(output: Output) -> pl.LazyFrame:
    """No rows: for a stage that reads its own history, and for whom there is none yet.

    Its columns are those of the table, else those of the asset's metadata `dagster/column_schema`, whose types may be
    Delta's (`long`, `date`, …). Raises ConfigurationError where they are not.
    """
    table = open_table(output.location)
    if table is not None:
        return empty(scan(table.location, table.version).collect_schema())
    declared = output.metadata.get("dagster/column_schema")
    columns = getattr(getattr(declared, "schema", declared), "columns", ())
    try:
        return empty(pl.Schema({column.name: polars_type(column.type) for column in columns}))
    except ValueError as error:
        raise ConfigurationError(
            f"{output.name} reads its own history, of which there is none yet, and its metadata 'dagster/column_schema' "
            f"does not say with Delta's types what it has ({error}). Nothing was read; write `long`, `date`, …"
        ) from error


def memory_of(step: Step, output: Output, table: Table) -> Memory | None:
    """What the event log remembers of an asset's checkpoints, for when log clean-up took the commits."""
    instance, asset_key = step.instance, output.asset_key
    if instance is None or asset_key is None:
        return None

    def memory(partition: str, version: int) -> Part | None:
        found = checkpoint_log.of_version(instance, asset_key, partition, version, table.id)
        return found.part if found else None

    return memory


def part_at(step: Step, output: Output, table: Table, key: str, version: int) -> Part | None:
    """The checkpoint that made a partition's version, by the table's log, else by the event log."""
    record = table.record_at(version)
    part = record.parts.get(key) if record is not None else None
    if part is None and (memory := memory_of(step, output, table)) is not None:
        part = memory(key, version)
    return part


def own_names(step: Step, found: Read, chain: Chain) -> dict[str, frozenset[Name]]:
    """For each partition that is read: what the chain itself wrote there and was not undone."""
    output, table, undone = found.output, found.table, found.table.undone()
    own: dict[str, frozenset[Name]] = {}
    unsure = []
    for key in found.keys:
        if output.mode.value != "overwrite" and table.has_member(output.name, key, chain.number):
            unsure.append(key)
        elif names.data(output.name, key) in table.txns:
            if table.txns.get(names.chain(output.name, key)) == chain.number:
                live = table.live(output.name, key, memory_of(step, output, table))
                name = live.part.name(output.name, key) if live and live.part else None
                if name and name not in undone:
                    own[key] = frozenset({name})
            else:
                unsure.append(key)
    if unsure and output.asset_key is None:
        made = made_by(table, output.name, unsure, chain.first)
        own.update({key: frozenset({part.name(output.name, key)} - undone) for key, (_, part) in made.items()})
    elif unsure and step.instance is not None and output.asset_key is not None:
        began = checkpoint_log.searched_since(step.instance, chain)
        if began is not None and has_made_nothing(table, output.name, chain.first, began):
            return {key: mine for key, mine in own.items() if mine}
        told = checkpoint_log.of_chain(step.instance, chain, output.asset_key, unsure, table.id)
        for key, committed in told.items():
            found_names = [one.part.name(output.name, key) for one in committed]
            own[key] = frozenset(name for name in found_names if name not in undone)
    return {key: mine for key, mine in own.items() if mine}


def _explained_pin(step: Step, found: Read, source_run: str | None) -> Pin:
    output, table = found.output, found.table
    memory = memory_of(step, output, table)
    told = step.told.get(output.name, ())
    given = newest_told(table.id, told, lambda pin: read_what_is_undone(found, found.keys, pin.version))
    if given is not None:
        return given
    chain = step.attempt.chain
    if source_run is not None and source_run not in chain.runs and step.instance is not None:
        run = step.instance.get_run_by_id(source_run)
        chain = chain_of(step.instance, run) if run is not None else chain
    own = own_names(step, found, chain)
    state = choose_state(states(table, output.name, found.keys, memory), own, table.undone())
    if output.asset_key is None and not own and not step.attempt.detached:
        _refuse_of_another_run(found, chain)
    if state is None:
        return Pin(table.id, table.version if table.base is None else table.base)
    _refuse_forgotten(step, found)
    missed = {key: mine for key, mine in own.items() if not mine <= state.live.get(key, frozenset())}
    return Pin(table.id, max(_gone(step, found, chain, missed), default=state.version))


def _gone(step: Step, found: Read, chain: Chain, missed: Mapping[str, frozenset[Name]]) -> list[int]:
    """The versions at which a chain made what is missed, and whose entries log clean-up has taken.

    What is there now is another chain's: it is not read instead, also where they can be opened no more.
    """
    output, table = found.output, found.table
    if not missed or step.instance is None or output.asset_key is None:
        return []
    told = checkpoint_log.of_chain(step.instance, chain, output.asset_key, list(missed), table.id)
    made = [(key, one) for key, committed in told.items() for one in committed]
    versions = {one.version for key, one in made if one.part.name(output.name, key) in missed[key]}
    return [version for version in versions if table.record_at(version) is None]


def _refuse_of_another_run(found: Read, chain: Chain) -> None:
    """An op's output is a value of its run: that of another is never taken for it."""
    output = found.output
    live = found.table.live(output.name, found.keys[0])
    theirs = live is not None and live.part is not None and live.part.chain != chain.first
    if theirs and output.mode is Mode.OVERWRITE and output.write_mode is not WriteMode.ignore:
        raise NotMaterialized(
            output=f"{output.name} of run {chain.runs[-1]}", partitions=["*"], table=output.location.uri
        )


def _refuse_forgotten(step: Step, found: Read) -> None:
    """Refuse where neither the table's log nor the event log can say what is live."""
    if step.instance is None:
        return
    for key in found.keys:
        live = found.table.live(found.output.name, key)
        if live is None or live.part is not None:
            continue
        memory = memory_of(step, found.output, found.table)
        if memory is None or memory(key, live.version) is None:
            raise ForeignData(
                table=found.output.location.uri,
                why=f"version {live.version} was written as {found.output.name}, but neither the table's log nor "
                "Dagster's event log knows any more from what",
            )


def _source_pin(step: Step, output: Output, table: Table) -> Pin:
    """The version at first sight of the chain, recorded before computing; the earliest of the chain wins."""
    given = newest_told(table.id, step.told.get(output.name, ()), lambda _: False)
    if given is not None:
        return given
    now = Pin(table.id, table.last_change())
    if step.instance is None or output.asset_key is None:
        return now
    seen = pins.observed(step.instance, step.attempt.chain, output.asset_key, table.id)
    if seen is None:
        pins.observe(step.instance, step.attempt, output.asset_key, now)
        seen = pins.observed(step.instance, step.attempt.chain, output.asset_key, table.id)
    return seen or now
