"""Writing an output exactly once: decide, write the files, decide again, commit."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import polars as pl
from deltalake import Schema

from pipeline_assets import checkpoints, faults
from pipeline_assets.delta import commit as commits
from pipeline_assets.delta.commit import Committed, Deadline, courtesy_lock, settle
from pipeline_assets.delta.decide import Adopt, Again, Keep, Mode, RangeDecision, Refuse, Rival, Wait
from pipeline_assets.delta.files import DataFile, Sink, delete_dead
from pipeline_assets.delta.handles import newest
from pipeline_assets.delta.merge import try_merge
from pipeline_assets.delta.names import first_to_last
from pipeline_assets.delta.partitions import Partition
from pipeline_assets.delta.record import Part, Record
from pipeline_assets.delta.rows import by_key, refuse_null_values, refuse_nulls
from pipeline_assets.delta.schema import Conformed
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.delta.writable import refuse_configuration, refuse_unwritable
from pipeline_assets.errors import Contention, GivenUp, Held, NotNew
from pipeline_assets.io import proposals
from pipeline_assets.io.columns import conformed
from pipeline_assets.io.facts import Looked, answered, decide, look, outcome_of
from pipeline_assets.io.guards import refuse_emptying, refuse_taken, storage_takes_it
from pipeline_assets.io.hearing import hear, hear_recent
from pipeline_assets.io.merge_config import WriteMode
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.io.steps import ComputeAgain, Outcome, Step

Try = Callable[[Table | None, Sequence[str]], Committed | None]


@dataclass
class Writer:
    """One output of one attempt on its way into its table."""

    step: Step
    output: Output
    keys: Sequence[str]
    table: Table | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    new_columns: bool = False
    looked: Looked | None = None

    def write(self, frame: pl.LazyFrame) -> dict[str, Outcome]:
        """Write a frame; what became of each partition. Nothing is computed where nothing would be written.

        Raises GivenUp, Held, Contention, PartitionRefused, SchemaError, UnsupportedTable, StorageRefused, ComputeAgain.
        """
        with storage_takes_it(self.output, self._spoken):
            return self._write(frame)

    def _write(self, frame: pl.LazyFrame) -> dict[str, Outcome]:
        self.output.refuse_bad_choices()
        self.table = newest(self.output.location)
        if self.table is not None:
            refuse_unwritable(self.table, self.output.mode)
            with answered(self.output, self.keys):
                hear_recent(self.step.instance, self.output, self.table, self.step.attempt.run_id)
        else:
            refuse_configuration(self.output.location.uri, self.output.settings.table_config, self.output.mode)
        looked, decision = self._decide(asking_run=False)
        self._raise(decision)
        if self._settled(decision) or self._not_new(looked):
            return self.outcomes
        refuse_taken(self.output, self.keys, self.table)
        fitting = conformed(self.output, self.table, frame)
        self.new_columns = fitting.changed
        partitions = partitions_among(self.output.wanted(self.keys), fitting.schema, self.output.name)
        if self.output.mode is Mode.MERGE:
            self._merge(fitting, partitions)
        else:
            self._replace(fitting, partitions)
        return self.outcomes

    def _replace(self, fitting: Conformed, partitions: Sequence[Partition]) -> None:
        """Overwrite or append: files first, then the commit that names them."""
        sink = self._sink(fitting.schema)
        base = self._columns_now()
        files = self._files(sink, fitting.frame)
        try:
            refuse_nulls(self.output.name, files, fitting.schema, self.output.location)
            filed = by_key(self.output.name, files, partitions)
            if self.output.mode is Mode.OVERWRITE:
                refuse_emptying(self.output, self.table, [one for one in partitions if not filed[one.key]])
        except BaseException:
            sink.discard()
            raise
        self._crash("before_write")

        def attempt(table: Table | None, keys: Sequence[str]) -> Committed | None:
            if table is None:
                return self._create(fitting.schema, filed, keys)
            if base is None and self.output.write_mode in (WriteMode.error, WriteMode.ignore):
                raise ComputeAgain({}, f"{table.location.uri} was created meanwhile")
            if not self._fits(table, fitting, base):
                return None
            written = [one for one in partitions if one.key in set(keys)]
            whole = fitting.schema if table.schema.to_json() != fitting.schema.to_json() else None
            proposal = proposals.write(self.step, self.output, table, written, filed, whole)
            return commits.try_commit(table, proposal, self._last_word)

        self._commit(attempt, sink.discard)
        made = {key for key, outcome in self.outcomes.items() if outcome.flag is None}
        sink.location.delete([file.path for key, own in filed.items() if key not in made for file in own])

    def _files(self, sink: Sink, frame: pl.LazyFrame) -> list[DataFile]:
        """Write the files. Who gives an attempt up deletes them, also while they are written: then that is the reason."""
        try:
            return sink.write(frame)
        except FileNotFoundError:
            self._refresh()
            self._refuse(self._decide()[1])
            raise

    def _columns_now(self) -> str | None:
        return self.table.schema.to_json() if self.table is not None else None

    def _fits(self, table: Table, fitting: Conformed, base: str | None) -> bool:
        """Whether the rows fit the table now. Columns are added first, by a commit of their own."""
        now = table.schema.to_json()
        if now == fitting.schema.to_json():
            return True
        if now != base:
            raise ComputeAgain({}, f"the columns of {table.location.uri} were changed meanwhile")
        if not table.partition_columns and self.output.mode is Mode.OVERWRITE:
            return True
        added = [one for one in fitting.schema.fields if one.name in fitting.added]
        commits.try_add_columns(table, added, Record("columns", self.output.name, table.id))
        return False

    def _create(self, schema: Schema, filed: Mapping[str, list[DataFile]], keys: Sequence[str]) -> Committed | None:
        if self.output.mode is Mode.OVERWRITE:
            proposal = proposals.creation(self.step, self.output, filed, keys)
        else:
            proposal = proposals.empty_creation(self.step, self.output)
        config = self.output.settings.table_config
        made = commits.try_create(self.output.location, schema, self.output.columns, proposal, config, self._last_word)
        return made if proposal.record.parts else None

    def _merge(self, fitting: Conformed, partitions: Sequence[Partition]) -> None:
        base = self._columns_now()
        source = fitting.frame.collect(engine="streaming")
        refuse_null_values(self.output.name, source, fitting.schema)
        merge = proposals.merge_of(self.output, source, partitions)
        if merge.deletes:
            refuse_emptying(
                self.output, self.table, [one for one in partitions if source.filter(one.expression()).is_empty()]
            )
        self._crash("before_write")

        def attempt(table: Table | None, keys: Sequence[str]) -> Committed | None:
            if table is None:
                return self._create(fitting.schema, {}, keys)
            if not self._fits(table, fitting, base):
                return None
            own = merge.only([one for one in partitions if one.key in set(keys)])
            return try_merge(table, proposals.merged(self.step, self.output, table, own), own, self._last_word)

        self._commit(attempt, lambda: None)

    def _commit(self, attempt: Try, discard: Callable[[], None]) -> None:
        """Decide and try until it is settled. An error keeps the files: the commit may still be on its way.

        Who lost a try to another writer queues up with those of this host; most meet none.
        """
        deadline = Deadline(self.output.settings.commit_seconds)
        while True:
            with courtesy_lock(self.output.location) if deadline.tries else nullcontext():
                self._refresh()
                looked, decision = self._decide()
                if isinstance(decision.all_of, (Refuse, Again)):
                    discard()
                self._raise(decision)
                if self._settled(decision):
                    return discard()
                committed = None
                if decision.all_of is None:
                    self._hear(looked, decision.writes)
                    committed = attempt(self.table, decision.writes)
            if committed is not None:
                return self._made(committed, decision)
            if deadline.passed:
                discard()
                raise self._late(decision, deadline)
            deadline.pause()

    def _decide(self, *, asking_run: bool = True) -> tuple[Looked, RangeDecision]:
        looked = self.looked = look(self.step, self.output, self.keys, self.table, asking_run=asking_run)
        return looked, decide(self.step, self.output, looked)

    def _last_word(self) -> None:
        """Right before a commit: a process that was stopped since it decided (a suspended host) asks once more."""
        self.step.still_wanted()
        if self.looked is None or self.looked.is_old:
            self._refuse(self._decide()[1])

    def _refuse(self, decision: RangeDecision) -> None:
        if isinstance(decision.all_of, Refuse):
            raise GivenUp(output=self.output.name, partition=self._spoken, reason=decision.all_of.reason)

    def _raise(self, decision: RangeDecision) -> None:
        self._refuse(decision)
        if isinstance(decision.all_of, Again):
            raise ComputeAgain(decision.all_of.pins, decision.all_of.reason)

    def _settled(self, decision: RangeDecision) -> bool:
        """Whether nothing is left to be written; what was adopted or kept is noted."""
        if decision.all_of is not None or decision.writes:
            return False
        self._take(decision)
        return True

    def _not_new(self, looked: Looked) -> bool:
        """Modes `error` and `ignore`: a table that is there is not touched, unless this chain is at work on it."""
        if self.table is None or self.output.write_mode not in (WriteMode.error, WriteMode.ignore):
            return False
        if self.output.write_mode is WriteMode.error:
            raise NotNew(output=self.output.name, table=self.output.location.uri)
        for key in self.keys:
            live = looked.live.get(key)
            part = live.part if live is not None else None
            version = live.version if live is not None else self.table.version
            self.outcomes[key] = Outcome(version, part or Part(chain="", attempt=0), checkpoints.KEPT)
        return True

    def _take(self, decision: RangeDecision) -> None:
        for key, one in decision.each.items():
            if isinstance(one, Adopt):
                self.outcomes[key] = self._outcome(key, one.checkpoint, checkpoints.ADOPTED)
            elif isinstance(one, Keep):
                self.outcomes[key] = self._outcome(key, one.checkpoint, checkpoints.KEPT)

    def _outcome(self, key: str, checkpoint: Rival, flag: str) -> Outcome:
        assert self.table is not None
        return outcome_of(self.step, self.output, self.table, key, checkpoint, flag)

    def _made(self, committed: Committed, decision: RangeDecision) -> None:
        self._crash("after_commit")
        self._take(decision)
        created = self.table is None
        if created or self.new_columns:
            self._refresh()
        if created and self.step.attempt.again and self.table is not None:
            # There was no table yet whose fence could have told which files are dead; now the chain has committed.
            attempt = self.step.attempt
            partitions = partitions_among(self.output.wanted(self.keys), self.table.schema, self.output.name)
            delete_dead(self.table, attempt.chain.number, attempt.number, partitions)
        settle(self.output.location, committed)
        for key, part in committed.record.parts.items():
            if part is not None:
                self.outcomes[key] = Outcome(committed.version, part)

    def _hear(self, looked: Looked, keys: Sequence[str]) -> None:
        """Nothing is overwritten that the event log has not heard of (invariant 2)."""
        if self.table is not None:
            hear(
                self.step.instance,
                self.output,
                self.table,
                {key: looked.live[key] for key in keys if key in looked.live},
            )

    def _late(self, decision: RangeDecision, deadline: Deadline) -> Exception:
        if isinstance(decision.all_of, Wait):
            held = decision.all_of.rollback
            return Held(output=self.output.name, partition=self._spoken, rollback=held, seconds=deadline.seconds)
        tries, seconds = deadline.tries, deadline.seconds
        return Contention(output=self.output.name, partition=self._spoken, tries=tries, seconds=seconds)

    def _refresh(self) -> None:
        if self.table is None:
            self.table = open_table(self.output.location)
        else:
            self.table.refresh()

    def _sink(self, schema: Schema) -> Sink:
        return Sink(
            self.output.location,
            schema,
            self.table.partition_columns if self.table is not None else self.output.columns,
            self.step.attempt.chain.number,
            self.step.attempt.number,
            self.output.settings.parquet,
        )

    @property
    def _spoken(self) -> str:
        return first_to_last(self.keys)

    def _crash(self, point: str) -> None:
        if faults.armed(point, self.output.name):
            faults.crash(point, self.output.name, self.step.attempt.chain.first, ",".join(self.keys))
