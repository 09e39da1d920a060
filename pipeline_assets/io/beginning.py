"""How an attempt begins: what gives up the earlier attempts of its chain, and finds what they committed."""

from collections.abc import Sequence

from pipeline_assets.delta import names
from pipeline_assets.delta.commit import Deadline, Proposal, commit_when
from pipeline_assets.delta.files import delete_dead
from pipeline_assets.delta.record import Record
from pipeline_assets.delta.table import Table, open_table
from pipeline_assets.errors import Contention, GivenUp
from pipeline_assets.io import pins
from pipeline_assets.io.facts import committed_by_chain
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.io.steps import Step


def begin(step: Step, outputs: Sequence[tuple[Output, Sequence[str]]]) -> None:
    """Called at the first call that the IO manager gets in an attempt; a first attempt pays nothing.

    outputs: those of the step, with the partition keys that it writes. Raises GivenUp.
    """
    if step.begun:
        return
    step.begun = True
    if not step.attempt.again:
        return
    if step.instance is not None:
        step.told = pins.told(step.instance, step.attempt)
    for output, keys in outputs:
        table = open_table(output.location)
        if table is None:
            continue
        committed = committed_by_chain(step, output, keys, table)
        for checkpoint in committed.values():
            for name, pin in checkpoint.pins.items():
                step.told.setdefault(name, set()).add(pin)
        if len(committed) < len(keys):
            raise_fence(step, output, keys, table)


def give_up(step: Step, outputs: Sequence[tuple[Output, Sequence[str]]]) -> None:
    """Forbid this attempt itself to commit to its tables, and delete the files that it left. Raises GivenUp, Contention."""
    for output, keys in outputs:
        table = open_table(output.location)
        if table is not None:
            raise_fence(step, output, keys, table, below=step.attempt.number + 1)


def raise_fence(step: Step, output: Output, keys: Sequence[str], table: Table, *, below: int | None = None) -> None:
    """Forbid the attempts of this chain below one to commit to the table, and delete the files that they left.

    below: this attempt's own number unless said otherwise.
    """
    chain, number = step.attempt.chain.number, step.attempt.number if below is None else below
    entry = names.fence(chain)

    def propose(now: Table) -> Proposal | None:
        stands = now.txns.get(entry, 0)
        if stands > number:
            reason = f"this attempt ({number}) was given up by a later attempt or a rollback ({stands})"
            raise GivenUp(output=output.name, partition=None, reason=reason)
        if stands == number:
            return None
        return Proposal(Record("fence", output.name, now.id), txns={entry: number})

    deadline = Deadline(output.settings.commit_seconds)
    try:
        commit_when(table, propose, deadline)
    except TimeoutError as error:
        raise Contention(output=output.name, partition=None, tries=deadline.tries, seconds=deadline.seconds) from error
    delete_dead(table, chain, number, partitions_among(output.wanted(keys), table.schema, output.name))
