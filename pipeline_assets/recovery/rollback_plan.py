"""What a rollback does, as it is asked for, agreed to and kept: undo a run, or go back to one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_assets.delta.record import chain_id
from pipeline_assets.delta.restore import Rollback, Target
from pipeline_assets.delta.table import Table
from pipeline_assets.errors import PermanentError
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.recovery.rollback_targets import Entry

UNDO, TO = "undo", "to"


class NotRolledBack(PermanentError):
    """A rollback that cannot, or need not, be; nothing was changed."""


@dataclass(frozen=True)
class Asked:
    """What a person asked for: `undo` a run or go back `to` it, for all stages and partitions or one, or for `stages`.

    gone: the processes of runs of which this host cannot tell are gone, by a person's word. answers: the failed run of which
    this is the consequence, where nobody asked; it has one once.
    """

    form: str
    run: str
    stage: str | None = None
    partition: str | None = None
    gone: bool = False
    stages: Sequence[str] = ()
    answers: str = ""

    @property
    def named(self) -> Sequence[str]:
        """The stages that it is narrowed to; none for all."""
        return [*([self.stage] if self.stage is not None else []), *self.stages]

    def takes(self, stage: str) -> bool:
        """Whether it is about a stage."""
        return not self.named or stage in self.named


@dataclass(frozen=True)
class OfTable:
    """The part of a plan that is about one stage's table, seen at a version."""

    stage: str
    uri: str
    table_id: str
    seen: int
    schema: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Plan:
    """What a rollback does. fences: for each chain that is undone (its first run's id) the attempts that may not commit."""

    asked: Asked
    fences: Mapping[str, int]
    tables: Sequence[OfTable]

    def as_json(self) -> dict[str, Any]:
        """As it is kept in the rollback table."""
        tables = [{**one.__dict__, "entries": [entry.as_json() for entry in one.entries]} for one in self.tables]
        return {"asked": dict(self.asked.__dict__), "fences": dict(self.fences), "tables": tables}

    def does_as(self, other: "Plan") -> bool:
        """Whether it does the same as another plan, whenever they were made."""
        return [(one.stage, list(one.entries)) for one in self.tables] == [
            (one.stage, list(one.entries)) for one in other.tables
        ]

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Plan":
        """The inverse."""
        tables = [
            OfTable(**{**one, "entries": [Entry.of_json(entry) for entry in one["entries"]]})
            for one in fields["tables"]
        ]
        return cls(Asked(**fields["asked"]), fields["fences"], tables)


def in_table(number: int, plan: Plan, one: OfTable, output: Output, table: Table) -> Rollback:
    """A plan as delta/ executes it in one table."""
    wanted = output.wanted([entry.partition for entry in one.entries])
    partitions = {found.key: found for found in partitions_among(wanted, table.schema, output.name)}
    targets = [
        Target(partitions[entry.partition], entry.expected, entry.undone, entry.back_to, entry.part, entry.take_out)
        for entry in one.entries
    ]
    fences = {chain_id(first): fence for first, fence in plan.fences.items()}
    return Rollback(number, one.stage, targets, fences, output.mode, one.seen, one.schema, one.table_id)
