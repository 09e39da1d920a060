"""Where a stage's table disagrees with the event log, and what mends it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster import DagsterInstance

from pipeline_assets import checkpoint_log
from pipeline_assets.delta.names import WHOLE
from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import DamagedTable
from pipeline_assets.io.hearing import RECENT
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.policy.commands import named_by, to_resume
from pipeline_assets.recovery.places import folder_of, is_there
from pipeline_assets.recovery.run_ends import KILLED, Runs
from pipeline_assets.recovery.told import Told

FOREIGN, LOST, REMOVED, ANEW, UNREADABLE = "foreign commit", "lost event", "removed", "made anew", "unreadable"
ELSEWHERE = "elsewhere"
"""A relative root is another in another folder."""


@dataclass(frozen=True)
class Disagreement:
    """One of the above. partition: `*` for the whole table. version: the table's, where one is meant. mend: a command."""

    stage: str
    partition: str
    kind: str
    why: str
    mend: str
    version: int | None = None


@dataclass(frozen=True)
class Shown:
    """What a stage's table shows: for each partition the version of its live data, and its chain's number (0: nothing)."""

    table: Table | None
    versions: Mapping[str, int]
    chains: Mapping[str, int]

    def has(self, partition: str) -> bool:
        """Whether a checkpoint is live in a partition."""
        return bool(self.chains.get(partition))


class Comparing:
    """Compares tables with what the event log says of them."""

    def __init__(self, instance: DagsterInstance, runs: Runs, module: str | None) -> None:
        self.instance, self.runs = instance, runs
        self.module, self.more = module, named_by(module)

    def disagreements(self, output: Output, shown: Shown, told: Told, *, exact: bool = False) -> list[Disagreement]:
        """Those of a stage. exact: each partition's event is asked for, not only those that may be lost."""
        table, newest = shown.table, told.newest
        point = newest.checkpoint if newest is not None else None
        there = newest.uri if newest is not None and point is not None and point.part.chain else None
        is_it = table is not None and point is not None and point.table_id in ("", table.id)
        if there is not None and not is_it and not is_there(there, output):
            return [self._elsewhere(output, there)]
        if table is None:
            return [] if point is None or not point.part.chain else [self._removed(output)]
        if point is not None and point.table_id not in ("", table.id):
            return [self._anew(output, table, point.table_id)]
        if not table.is_ours:
            return [self._unexplained(output, table)] if table.delta.file_uris() else []
        return [*self._lost(output, shown, told, exact=exact), *self._foreign(output, table, shown)]

    def damaged(self, output: Output, error: DamagedTable) -> Disagreement:
        """A table that cannot be read."""
        why = f"its table at {output.location.uri} cannot be read: {error.why}"
        return Disagreement(output.name, WHOLE, UNREADABLE, why, f"pipeline-assets doctor{self.more}")

    def _again(self, output: Output) -> str:
        return f"dagster asset materialize --select {output.name}{self.more or ' -m MODULE'}"

    def _adopt(self, output: Output) -> str:
        return f"pipeline-assets adopt {output.name}{self.more}"

    def _removed(self, output: Output) -> Disagreement:
        why = f"there is no table any more at {output.location.uri}"
        return Disagreement(output.name, WHOLE, REMOVED, why, self._again(output))

    def _elsewhere(self, output: Output, there: str) -> Disagreement:
        here, folder = output.location.uri, folder_of(there, output)
        why = f"its newest checkpoint is of the table at {there}, and the code location has it at {here} now"
        mend = f"cd {shlex.quote(folder)}" if folder is not None else self._again(output)
        return Disagreement(output.name, WHOLE, ELSEWHERE, why, mend)

    def _anew(self, output: Output, table: Table, before: str) -> Disagreement:
        why = f"the table is another one (id {table.id}) than that of its newest checkpoint ({before})"
        return Disagreement(output.name, WHOLE, ANEW, why, self._adopt(output), table.version)

    def _unexplained(self, output: Output, table: Table) -> Disagreement:
        why = "somebody else made the table, and no checkpoint explains what is in it"
        return Disagreement(output.name, WHOLE, FOREIGN, why, self._adopt(output), table.version)

    def _foreign(self, output: Output, table: Table, shown: Shown) -> list[Disagreement]:
        last = table.last_foreign()
        keys = sorted(key for key, version in shown.versions.items() if version < last)
        if not keys:
            return []
        found = []
        for one in partitions_among(output.wanted(keys), table.schema, output.name):
            commit = table.foreign_between(one, shown.versions[one.key], table.version)
            if commit is not None:
                why = f"version {commit.version} is a foreign commit ({commit.operation}) on top of the checkpoint"
                mend = self._adopt(output)
                found.append(Disagreement(output.name, one.key, FOREIGN, why, mend, commit.version))
        return found

    def _lost(self, output: Output, shown: Shown, told: Told, *, exact: bool) -> list[Disagreement]:
        table = shown.table
        assert table is not None
        assert output.asset_key is not None
        suspects = [key for key in shown.versions if shown.has(key)]
        if not exact and len(suspects) > 1:
            suspects = self._may_be_lost(output, table, shown, told, suspects)
        versions = {key: shown.versions[key] for key in suspects}
        # Not by the newest event, which Dagster keeps beside the log also where its run was deleted.
        lost = checkpoint_log.unheard(self.instance, output.asset_key, versions, table.id)
        return [one for key in sorted(lost) if (one := self._of_lost(output, table, key, versions[key], told))]

    def _may_be_lost(self, output: Output, table: Table, shown: Shown, told: Told, keys: Sequence[str]) -> list[str]:
        """Partitions of which no event speaks at all, or whose last run has not sent one, or that were written just now.

        An older commit was looked at by those who wrote after it (docs/decisions/0012-looking-back.md).
        """
        recent = self._recent(output, table)
        found = []
        for key in keys:
            run = told.unfinished.get(key)
            of_it = run is not None and shown.chains[key] in {chain_id(one) for one in self.runs.chain(run)[:1]}
            if key not in told.ids or of_it or shown.versions[key] in recent:
                found.append(key)
        return found

    def _recent(self, output: Output, table: Table) -> set[int]:
        """The newest commits whose runs may not have told of them."""
        made: dict[int, set[str]] = {}
        for version, record in table.records(output.name, most=RECENT):
            made[version] = {part.run for part in record.parts.values() if part is not None}
        runs = set[str]().union(*made.values())
        self.runs.load(runs)
        quiet = self.runs.silent(runs)
        return {version for version, runs in made.items() if runs & quiet}

    def _of_lost(self, output: Output, table: Table, key: str, version: int, told: Told) -> Disagreement | None:
        record = table.record_at(version)
        part = record.parts.get(key) if record is not None else None
        run = part.run if part is not None else ""
        seen = self.runs.seen(run) if run else None
        if seen is not None and seen.state not in (KILLED, "failed"):
            return None  # it is about to send it
        mend = self._adopt(output)
        if seen is not None and seen.resume is not None and told.unfinished.get(key) == run:
            mend = to_resume(seen.resume, self.module)
        why = f"version {version} was committed, and its event was lost"
        return Disagreement(output.name, key, LOST, why, mend, version)
