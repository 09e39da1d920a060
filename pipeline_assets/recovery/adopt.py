"""Adopt: make a checkpoint of what is in a table, whoever wrote it."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dagster import DagsterInstance
from dagster._core.definitions.repository_definition import RepositoryDefinition

from pipeline_assets import checkpoint_log, checkpoints
from pipeline_assets.delta import names
from pipeline_assets.delta.commit import Deadline, Proposal, commit_when
from pipeline_assets.delta.decide import Mode
from pipeline_assets.delta.location import Location
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.record import ADOPTED_BY_HAND, Part, Record, chain_id
from pipeline_assets.delta.scan import count_rows
from pipeline_assets.delta.table import Live, Table, open_table
from pipeline_assets.delta.writable import refuse_uncommittable, unwritable
from pipeline_assets.errors import PermanentError
from pipeline_assets.io.guards import refuse_other_partitioning, storage_takes_it
from pipeline_assets.io.hearing import hear, said_of
from pipeline_assets.io.merges import merges_into
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.io.steps import Outcome
from pipeline_assets.recovery.tables import job_of_all, outputs_of


class NotAdopted(PermanentError):
    """A table that was not adopted; nothing was changed."""


@dataclass(frozen=True)
class Adopted:
    """What was adopted: the table, the version that says so, and the partitions.

    recorded: those whose checkpoint was there, and only its event was lost, which it has now. unwritable: what the table
    has for which its stage cannot write it.
    """

    table: str
    version: int
    partitions: Sequence[str]
    recorded: Sequence[str] = ()
    unwritable: Sequence[str] = ()


def adopt(
    instance: DagsterInstance, repository: RepositoryDefinition, table: str, version: int | None = None
) -> Adopted:
    """Make checkpoints of all partitions of an asset's table that no checkpoint explains. No row is changed.

    table: the asset's key as `flights/legs`, or its table's path or URI. version: the one that is meant. Raises
    NotAdopted where there is no such asset or table, or the table has moved on; ConfigurationError where its partition
    columns are not the asset's; UnsupportedTable where no commit of ours may be in it. One that only its stage cannot write
    is adopted, to be read.
    """
    output = _output(instance, repository, table)
    there = open_table(output.location)
    if there is None:
        raise NotAdopted(f"There is no Delta table at {output.location.uri}; materialize {output.name} to make one.")
    refuse_other_partitioning(output, there)
    refuse_uncommittable(there)
    with storage_takes_it(output, None):
        done = _adopt(instance, output, there, table, version)
    return replace(done, unwritable=unwritable(there, output.mode))


def _adopt(instance: DagsterInstance, output: Output, table: Table, asked: str, version: int | None) -> Adopted:
    chain = str(uuid.uuid4())
    moment = int(time.time() * 1000)
    said: dict[str, Part] = {}
    recorded: set[str] = set()

    def propose(now: Table) -> Proposal | None:
        if version is not None and now.last_change() != version:
            raise NotAdopted(
                f"{now.location.uri} was changed last by version {now.last_change()}, not {version}. Nothing was "
                f"changed; look at it, then `pipeline-assets adopt {asked} --version {now.last_change()}`."
            )
        said.clear()
        counts = count_rows(now.location, now.version, _unexplained(instance, output, now, recorded))
        for key, rows in counts.items():
            said[key] = Part(chain, moment, rows=rows, rows_in=rows, engine=ADOPTED_BY_HAND)
        if not said:
            return None
        entries = {names.data(output.name, key): now.version + 1 for key in said}
        others = now.others(output.name)
        taken = others if names.WHOLE in said else {key: others.get(key, set()) for key in said}
        chains = {
            names.chain(owner, key): 0 for key, owners in taken.items() for owner in owners
        }  # it takes their place
        chains |= {names.chain(output.name, key): chain_id(chain) for key in said}
        return Proposal(Record("adopt", output.name, now.id, dict(said), output.mode), txns={**entries, **chains})

    committed = commit_when(table, propose, Deadline(output.settings.commit_seconds))
    if committed is None:
        return Adopted(output.location.uri, table.version, [], sorted(recorded))
    table.refresh()
    assert output.asset_key is not None
    adopted = {key: Outcome(committed.version, part, checkpoints.ADOPTED) for key, part in said.items()}
    for key, told in said_of(output, table, adopted).items():
        checkpoint_log.record_event(instance, output.asset_key, key, told)
    return Adopted(output.location.uri, committed.version, sorted(said), sorted(recorded))


def _unexplained(instance: DagsterInstance, output: Output, table: Table, recorded: set[str]) -> list[Partition]:
    """Partitions with data that no checkpoint explains; one whose event alone was lost gets it, and is `recorded`.

    Also those with a merge, below the live one, of which nobody knows any more from what it was made.
    """
    partitions = partitions_among(output.wanted(_all_keys(instance, output)), table.schema, output.name)
    lost: dict[str, Live] = {}
    found = []
    merging = [one.key for one in partitions] if output.mode is Mode.MERGE else []
    merges = merges_into(instance, output, merging, table)
    for one in partitions:
        live = table.live(output.name, one.key)
        if live is not None and live.part is None:
            live = replace(live, part=_remembered(instance, output, table, one.key, live.version))
        if live is None or live.part is None:
            if live is not None or table.paths([one]):
                found.append(one)
        elif table.foreign_between(one, live.version, table.version) is not None:
            found.append(one)
        else:
            lost[one.key] = live
            found += [one] if one.key in merges and merges[one.key].forgotten else []
    recorded.update(hear(instance, output, table, lost))
    return found


def _remembered(instance: DagsterInstance, output: Output, table: Table, key: str, version: int) -> Part | None:
    assert output.asset_key is not None
    found = checkpoint_log.of_version(instance, output.asset_key, key, version, table.id)
    return found.part if found is not None else None


def _all_keys(instance: DagsterInstance, output: Output) -> Sequence[str]:
    if output.partitions_def is None:
        return [names.WHOLE]
    return list(output.partitions_def.get_partition_keys(dynamic_partitions_store=instance))


def _output(instance: DagsterInstance, repository: RepositoryDefinition, table: str) -> Output:
    return _named(outputs_of(instance, job_of_all(repository)), table)


def _named(known: Mapping[str, Output], table: str) -> Output:
    if table in known:
        return known[table]
    by_place = {output.location.uri: output for output in known.values()}
    if "/" in table and (found := by_place.get(Location.of(table).uri)) is not None:
        return found
    raise NotAdopted(
        f"No asset of the code location is called {table!r} or has its table there. Nothing was changed; there are "
        f"{', '.join(sorted(known))}."
    )
