"""What was live in a table's partitions, version by version: the candidates for a pinned read."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from urllib.parse import unquote

from pipeline_assets.delta import names
from pipeline_assets.delta.choose import State
from pipeline_assets.delta.decide import Mode, Name
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.record import Part, Record
from pipeline_assets.delta.table import Memory, Table

_SOON = 64
"""Log entries that are looked at before others are asked."""


def states(table: Table, output: str, partitions: Iterable[str], memory: Memory | None = None) -> Iterator[State]:
    """States of the partitions, newest first, for `choose_state`."""
    keys = list(partitions)
    newest = table.newest_explained(output)
    if newest is None:
        return
    yield State(newest, {key: _names(table, output, key, newest, memory) for key in keys})
    for state in states_at(table, output, keys, newest):
        if state.version < newest:
            yield state


def states_at(table: Table, output: str, partitions: Iterable[str], version: int) -> Iterator[State]:
    """The state that was live at a version, and those before it."""
    keys = list(partitions)
    records = list(table.records(output, version))
    for index, (number, _) in enumerate(records):
        yield State(number, {key: _names_since(records[index:], output, key) for key in keys})


def written_at(table: Table, output: str, partitions: Iterable[str], version: int) -> dict[str, int]:
    """For each partition the last version up to `version` at which a checkpoint or a restore spoke of it.

    The base where none has.
    """
    entries = {key: table.txns.get(names.data(output, key), version + 1) for key in partitions}
    found = {key: at for key, at in entries.items() if at <= version}
    later = set(entries) - set(found)
    for number, record in table.records(output, version) if later else ():
        found.update(dict.fromkeys(later & record.parts.keys(), number))
        later -= record.parts.keys()
        if not later:
            break
    if table.base is not None:
        found = {**dict.fromkeys(entries, table.base), **found}
    return found


def made_by(table: Table, output: str, partitions: Collection[str], chain: str) -> dict[str, tuple[int, Part]]:
    """For each partition the newest version that a chain (its first run's id) wrote, as far as the log goes."""
    found: dict[str, tuple[int, Part]] = {}
    for version, record in table.records(output):
        for key in set(partitions) - found.keys():
            part = record.parts.get(key)
            if record.kind == "write" and part is not None and part.chain == chain:
                found[key] = version, part
        if len(found) == len(partitions):
            break
    return found


def members(table: Table, output: str) -> dict[str, dict[int, int]]:
    """For each partition the chains that appended or merged there, and were not undone: chain → version."""
    prefix = names.chain(output, names.WHOLE).removesuffix(names.WHOLE)
    found: dict[str, dict[int, int]] = {}
    for app_id, version in table.txns.items():
        if version and app_id.startswith(prefix) and "/" in (said := app_id[len(prefix) :]):
            key, _, chain = said.partition("/")
            found.setdefault(unquote(key), {})[int(chain)] = version
    return found


def has_made_nothing(table: Table, output: str, chain: str, since: float) -> bool:
    """Whether the log shows that a chain (its first run's id) wrote nothing of an output since a time (seconds since 1970).

    False also where it does not say so soon: then others have to be asked.
    """
    for commit in islice(table.log.back_from(table.version), _SOON):
        record = commit.record
        parts = record.parts.values() if record is not None and record.output == output else ()
        if any(part is not None and part.chain == chain for part in parts):
            return False
        if commit.version == 0 or commit.info.get("timestamp", since * 1000) < since * 1000:
            return True
    return False


def made_at(table: Table, output: str, partition: str, version: int) -> int:
    """The version whose commit made what a partition shows since `version`: a restore brings data back, it makes none.

    Of a table that is appended to or merged into the version itself: what a rollback leaves there was never there before.
    """
    record = table.record_at(version)
    part = record.parts.get(partition) if record is not None and record.kind == "restore" else None
    if record is None or part is None or record.mode is not Mode.OVERWRITE:
        return version
    name = part.name(output, partition)
    for number, older in table.records(output, version - 1):
        made = older.parts.get(partition)
        if made is not None and older.kind != "restore" and made.name(output, partition) == name:
            return number
    return version


def shown_until(table: Table, output: str, one: Partition, version: int) -> int:
    """The last version up to which a partition shows the same rows as at `version`.

    Its files there are those that VACUUM takes last: a compaction may have rewritten those of `version` itself.
    """
    for number in range(version + 1, table.version + 1):
        commit = table.log.commit(number)
        if commit is None:
            return version
        record = commit.record
        ours = record is not None and record.output == output and one.key in record.parts
        if ours or (commit.is_foreign and table.foreign_between(one, number - 1, number) is not None):
            return number - 1
    return table.version


def _names(table: Table, output: str, partition: str, version: int, memory: Memory | None) -> frozenset[Name]:
    live = table.live(output, partition, memory)
    if live is None or live.part is None:
        return frozenset()
    record = table.record_at(live.version)
    if record is None or record.mode is Mode.OVERWRITE:
        return frozenset({live.part.name(output, partition)})
    return _names_since(list(table.records(output, version)), output, partition)


def _names_since(records: Sequence[tuple[int, Record]], output: str, partition: str) -> frozenset[Name]:
    """Whose data is in a partition, from the newest record back to the one that replaced all of it."""
    found: set[Name] = set()
    undone: set[Name] = set()
    for _, record in records:
        if partition not in record.parts:
            continue
        part = record.parts[partition]
        undone.update(record.undone)
        if part is not None and record.kind != "restore":
            found.add(part.name(output, partition))
        if record.mode is Mode.OVERWRITE:
            if part is not None:
                found.add(part.name(output, partition))
            break
    return frozenset(found - undone)
