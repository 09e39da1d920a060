"""The plan of a rollback, in both its forms; nothing is changed by making one.

*Undo a run*: what its chain wrote goes back to what was there before; what another chain has replaced since stays. *Back to
a run*: each table of the pipeline goes back to what it was when that run's chain ended; all later chains are undone.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, JobDefinition, RunsFilter

from pipeline_assets import checkpoint_log
from pipeline_assets.chains import BEGINS_TAG, Chain, ended_at, newest_attempt, runs_of
from pipeline_assets.delta.record import Part, chain_id
from pipeline_assets.delta.restorable import NotRestorable, refuse_vacuum
from pipeline_assets.io.outputs import Output
from pipeline_assets.io.partitions import partitions_among
from pipeline_assets.processes import is_gone
from pipeline_assets.recovery.code_location import ANY_ASSETS
from pipeline_assets.recovery.places import elsewhere
from pipeline_assets.recovery.rollback_forgotten import refuse_later, refuse_own
from pipeline_assets.recovery.rollback_plan import UNDO, Asked, NotRolledBack, OfTable, Plan
from pipeline_assets.recovery.rollback_targets import NEVER, History, Moment, Wanted, refuse_unrestorable
from pipeline_assets.recovery.tables import Handles, NoSuchStage, Outputs, outputs_of, planned_by

AT_ONCE = 8
"""How many tables are looked at together: most of it is waiting for the storage, and delta-rs."""


class NothingToUndo(NotRolledBack):
    """There is nothing that a rollback would change."""


def plan_of(instance: DagsterInstance, job: JobDefinition, asked: Asked, handles: Handles | None = None) -> Plan:
    """What a rollback would do, for the job of the run. Raises NotRolledBack, NotRestorable, NoSuchStage.

    handles: the tables that the caller has open; those that are opened are added.
    """
    handles = handles or Handles()
    run = instance.get_run_by_id(asked.run)
    if run is None:
        raise NotRolledBack(
            f"There is no run {asked.run} in this Dagster instance. Nothing was changed; `dagster run list` shows "
            "those there are."
        )
    outputs = outputs_of(instance, job, run.run_config)
    runs = runs_of(instance, run)
    for one in runs if asked.form == UNDO else ():
        _refuse_at_work(instance, one, asked)
    planned = planned_by(instance, runs, job, outputs)
    chosen = _chosen(outputs, asked)
    if asked.form == UNDO:
        tables = _undoing(instance, runs, chosen, planned, asked, handles)
    else:
        tables = _going_back(instance, runs, _of_pipeline(chosen, job, planned), asked, handles)
    if not any(entry.undone for one in tables for entry in one.entries):
        raise _nothing(asked, _made_anew(instance, runs))
    chains = sorted({chain for one in tables for entry in one.entries for chain in entry.chains})
    if asked.form == UNDO and runs[0].run_id not in chains:
        chains.append(runs[0].run_id)
    fences = {chain: _fence(instance, chain, tables, asked) for chain in chains}
    return Plan(asked, fences, tables)


def _undoing(
    instance: DagsterInstance,
    runs: Sequence[DagsterRun],
    chosen: Outputs,
    planned: Mapping[str, set[str]],
    asked: Asked,
    handles: Handles,
) -> list[OfTable]:
    chain = Chain(tuple(run.run_id for run in runs))
    number = chain.number

    def told(history: History) -> dict[str, list[Part]]:
        keys, output = _narrowed(planned.get(history.output.name, set()), asked), history.output
        found = {}
        if (
            keys
            and output.asset_key is not None
            and not _says_all(history, checkpoint_log.searched_since(instance, chain))
        ):
            found = checkpoint_log.of_chain(instance, chain, output.asset_key, keys, history.table.id)
        refuse_own(history, keys, number, found)
        return {key: [one.part for one in found.get(key, ())] for key in keys}

    def mine(moment: Moment) -> bool:
        return moment.part is not None and chain_id(moment.part.chain) == number

    outputs = [chosen[name] for name in planned if name in chosen]
    return _tables(instance, chain.runs, outputs, asked, handles, lambda _: mine, told)


def _going_back(
    instance: DagsterInstance, runs: Sequence[DagsterRun], chosen: Outputs, asked: Asked, handles: Handles
) -> list[OfTable]:
    if not any(run.status is DagsterRunStatus.SUCCESS for run in runs) or not all(run.is_finished for run in runs):
        raise NotRolledBack(
            f"Run {runs[-1].run_id} is {runs[-1].status.value}, and what it left is no state to go back to. Nothing was "
            "changed; name a run that has succeeded (`dagster run list`)."
        )
    ended = int(ended_at(instance, runs) * 1000)
    number = chain_id(runs[0].run_id)

    def later(moment: Moment) -> bool:
        return moment.part is not None and moment.at > ended and chain_id(moment.part.chain) != number

    def wanted(history: History) -> Wanted:
        if _is_undone(history, number):
            raise NotRolledBack(
                f"Run {asked.run} has been rolled back itself, in {history.output.name}, so it is no state to go back to. "
                f"Nothing was changed; name {_made_anew(instance, runs) or 'another run'}."
            )
        written = _narrowed(history.table.written_partitions(history.output.name), asked)
        refuse_later(instance, history, written, ended / 1000, number)
        return later

    run_ids = [run.run_id for run in runs]
    found = _tables(instance, run_ids, list(chosen.values()), asked, handles, wanted, lambda _: {})
    return [one for table in found if (one := _without_never(table)).entries]


def _is_undone(history: History, chain: int) -> bool:
    """Whether, in some partition, the newest that a chain has made is undone; what it made again since is not."""
    undone = {one for one in history.table.undone() if (one.output, one.chain) == (history.output.name, chain)}
    for key in {one.partition for one in undone}:
        made = (one.part for one in history.moments.get(key, ()) if one.kind != "restore" and one.part is not None)
        names = (part.name(history.output.name, key) for part in made if chain_id(part.chain) == chain)
        if next(names, None) in {None, *undone}:
            return True
    return False


def _says_all(history: History, since: float | None) -> bool:
    """Whether the table's log says all that was committed since a moment (None: ever), so that no event need be read."""
    return history.whole or (since is not None and history.begins < since)


def _tables(
    instance: DagsterInstance,
    run_ids: Sequence[str],
    outputs: Sequence[Output],
    asked: Asked,
    handles: Handles,
    wanted: Callable[[History], Wanted],
    told: Callable[[History], Mapping[str, Sequence[Part]]],
) -> list[OfTable]:
    """The plan of each table; all that cannot be rolled back are refused together, also what these runs wrote and is gone.

    told: of each partition of a run what its chain committed by the event log, where the table's log does not say it.
    """

    def look(output: Output) -> OfTable | NotRestorable | None:
        table = handles.newest(output)
        history = History.of(table, output) if table is not None else None
        if not _has_any(history, run_ids[0]) and (why := elsewhere(instance, run_ids, output, table)) is not None:
            raise NotRolledBack(why)
        if history is None:
            had_one = checkpoint_log.had_table(instance, run_ids, output.asset_key)
            return (
                NotRestorable(table=output.location.uri, why="it is not there any more, which --stage leaves out")
                if had_one
                else None
            )
        try:
            return _of_table(history, asked, wanted(history), told(history))
        except NotRestorable as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        looked = list(pool.map(look, sorted(outputs, key=lambda one: one.name)))
    refused = [one for one in looked if isinstance(one, NotRestorable)]
    if refused:
        raise refused[0] if len(refused) == 1 else NotRolledBack("\n".join(map(str, refused)))
    return [one for one in looked if isinstance(one, OfTable) and one.entries]


def _has_any(history: History | None, chain: str) -> bool:
    """Whether the log of a table speaks of a chain."""
    moments = history.moments.values() if history is not None else ()
    return any(one.part is not None and one.part.chain == chain for ones in moments for one in ones)


def _of_table(history: History, asked: Asked, wanted: Wanted, told: Mapping[str, Sequence[Part]]) -> OfTable:
    table, output = history.table, history.output
    mine = {key for key, moments in history.moments.items() if any(map(wanted, moments))}
    keys = sorted(_narrowed({*told, *mine}, asked))
    partitions = partitions_among(output.wanted(keys), table.schema, output.name) if keys else []
    entries = [history.entry(one, wanted, told.get(one.key, ())) for one in partitions]
    changing = [entry for entry in entries if entry.expected is not None]
    if changing:
        refuse_vacuum(table)
        refuse_unrestorable(table, changing, partitions)
    return OfTable(output.name, table.location.uri, table.id, table.version, table.schema.to_json(), entries)


def _without_never(one: OfTable) -> OfTable:
    entries = [entry for entry in one.entries if entry.state != NEVER]
    return OfTable(**{**one.__dict__, "entries": entries})


def _chosen(outputs: Outputs, asked: Asked) -> dict[str, Output]:
    missing = set(asked.named) - outputs.keys()
    if missing:
        raise NoSuchStage(missing, outputs)
    return {name: output for name, output in outputs.items() if asked.takes(name)}


def _of_pipeline(chosen: Outputs, job: JobDefinition, planned: Iterable[str]) -> Outputs:
    """Of the job that has every asset only the pipelines that the run belongs to."""
    if job.name != ANY_ASSETS:
        return chosen
    pipelines = {name.rpartition("/")[0] for name in planned}
    return {name: output for name, output in chosen.items() if name.rpartition("/")[0] in pipelines}


def _narrowed(keys: Iterable[str], asked: Asked) -> list[str]:
    return sorted(key for key in keys if asked.partition in (None, key))


def _made_anew(instance: DagsterInstance, runs: Iterable[DagsterRun]) -> str:
    """The run that has made again, as a chain of its own (decision 0030), what was undone of some runs; if there is one."""
    tags = [RunsFilter(tags={BEGINS_TAG: run.run_id}) for run in runs]
    found = [run.run_id for one in tags for run in instance.get_runs(one) if run.is_success]
    return f"run {found[-1]}, which made it again" if found else ""


def _nothing(asked: Asked, anew: str) -> NothingToUndo:
    narrowed = "".join(
        f" of {what} {name}"
        for what, name in (("stage", ", ".join(asked.named)), ("partition", asked.partition))
        if name
    )
    what = (
        f"Run {asked.run} has nothing left{narrowed}"
        if asked.form == UNDO
        else f"No later run changed anything{narrowed}"
    )
    name = f"; name {anew}" if anew and asked.form == UNDO else ""
    return NothingToUndo(f"{what} that could be undone. Nothing was changed{name}.")


def _fence(instance: DagsterInstance, chain: str, tables: Sequence[OfTable], asked: Asked) -> int:
    """Above every attempt of the chain that is known, and at least now. Raises NotRolledBack where it is at work."""
    first = instance.get_run_by_id(chain)
    runs = runs_of(instance, first) if first is not None else []
    for run in runs:
        _refuse_at_work(instance, run, asked)
    number = chain_id(chain)
    named = [name.attempt for one in tables for entry in one.entries for name in entry.undone if name.chain == number]
    return max(int(time.time() * 1000), newest_attempt(instance, runs) + 1, *(attempt + 1 for attempt in named), 0)


def _refuse_at_work(instance: DagsterInstance, run: DagsterRun, asked: Asked) -> None:
    if run.is_finished:
        return
    gone = is_gone(instance, run)
    if gone or (gone is None and asked.gone):
        return
    said = f"Run {run.run_id}, which would be undone, is {run.status.value}"
    if gone is None:
        raise NotRolledBack(
            f"{said}, and it cannot be told from here whether its process is alive. Nothing was changed; if you know that it "
            "is gone, say --gone."
        )
    raise NotRolledBack(f"{said}. Nothing was changed; wait for its end, or terminate it first.")
