"""`rollback_job`: what `pipeline-assets rollback` does, from the UI's launchpad."""

from collections.abc import Iterable
from typing import Any

import dagster as dg
from dagster import MetadataValue
from pydantic import Field

from pipeline_assets.errors import ConfigurationError, PipelineAssetsError
from pipeline_assets.markdown import table
from pipeline_assets.policy.commands import located, module_of
from pipeline_assets.recovery.code_location import ANY_ASSETS, NEVER_AGAIN, ROLLBACK_JOB, job_beside
from pipeline_assets.recovery.refresh import Refreshed, owing
from pipeline_assets.recovery.rollback import RolledBack, continue_, open_rollback, roll_back
from pipeline_assets.recovery.rollback_plan import TO, UNDO, Asked, NotRolledBack, Plan
from pipeline_assets.recovery.rollback_planning import plan_of
from pipeline_assets.recovery.rollback_words import is_owed, plan_table


class RollbackConfig(dg.Config):
    """Which run is undone, or gone back to. Exactly one of undo, to and go_on is said."""

    undo: str | None = Field(
        default=None,
        description="A run's id: every stage and partition that its chain wrote goes back to what was there before; what "
        "another run has replaced since stays.",
    )
    to: str | None = Field(
        default=None,
        description="A run's id, which has succeeded: every table of its pipeline goes back to what it was when that run "
        "ended; all later runs are undone.",
    )
    go_on: bool = Field(default=False, description="Ends the rollback that a crash has left open, as it was planned.")
    stage: str | None = Field(default=None, description="Only this stage, by its asset key: flights/legs.")
    partition: str | None = Field(default=None, description="Only this partition, by its key.")
    refresh: bool = Field(
        default=False,
        description="Makes again what is owed then, in order: stages made from what is undone, or behind their inputs.",
    )
    dry_run: bool = Field(default=True, description="Only shows the plan. Nothing is changed until this is false.")
    gone: bool = Field(
        default=False,
        description="The processes of the runs to be undone are gone, by your word, where that cannot be told from the "
        "host that this job runs on.",
    )
    overwrite: bool = Field(
        default=False,
        description="With go_on: what somebody else wrote while the tables were held may go; and where files of a target "
        "are gone, nothing is left in its place.",
    )

    def asked(self) -> Asked | None:
        """What is asked for; None where an open rollback is to go on. Raises ConfigurationError."""
        if [bool(self.undo), bool(self.to), self.go_on].count(True) != 1:
            raise ConfigurationError(
                "Say exactly one of undo (a run's id), to (a run's id) and go_on in the configuration of the op rollback. "
                "Nothing was changed; launch it again."
            )
        if self.go_on and (self.stage or self.partition or self.gone):
            raise ConfigurationError(
                "go_on ends what was begun, as it was planned: it goes with no stage, partition or gone. Nothing was "
                "changed; launch it again without."
            )
        if self.overwrite and not self.go_on:
            raise ConfigurationError("overwrite goes with go_on. Nothing was changed; launch it again without.")
        if self.go_on:
            return None
        return Asked(UNDO if self.undo else TO, str(self.undo or self.to), self.stage, self.partition, self.gone)


def rollback_job(name: str = ROLLBACK_JOB) -> dg.JobDefinition:
    """A job that rolls back tables of the code location that it is put into; its op `rollback` takes RollbackConfig.

    A refusal is a failed step whose message says why, with nothing changed.
    """

    @dg.op(name="rollback", out=dg.Out(dg.Nothing), description="Shows the plan and, unless dry_run, executes it.")
    def rollback(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        try:
            _roll_back(context, config)
        except PipelineAssetsError as error:
            raise dg.Failure(located(str(error), module_of(context.run)), allow_retries=False) from error

    @dg.job(
        name=name,
        tags=NEVER_AGAIN,
        executor_def=dg.in_process_executor,
        description="Undoes a run, or goes back to one: all its tables, or none. Shows the plan unless dry_run is false.",
    )
    def job() -> None:
        rollback()

    return job


def _roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
    asked = config.asked()
    if asked is None:
        _go_on(context, config)
        return
    run = context.instance.get_run_by_id(asked.run)
    job = job_beside(context, run.job_name if run is not None else ANY_ASSETS).get_definition()
    plan = plan_of(context.instance, job, asked)
    _show(context, plan)
    if config.dry_run:
        context.add_output_metadata({"plan": MetadataValue.md(plan_table(plan)), "done": "nothing, it was a dry run"})
        return
    _tell(context, config, roll_back(context.instance, job, asked, plan))


def _go_on(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
    job = job_beside(context, ANY_ASSETS).get_definition()
    stored = open_rollback(context.instance, job)
    if stored is None:
        raise NotRolledBack("No rollback is open, so there is nothing to continue. Nothing was changed.")
    plan = Plan.of_json(stored.plan)
    _show(context, plan)
    if config.dry_run:
        said = f"nothing, it was a dry run; rollback {stored.id} is {stored.state}"
        context.add_output_metadata({"plan": MetadataValue.md(plan_table(plan)), "done": said})
        return
    run = context.instance.get_run_by_id(plan.asked.run)
    own = job_beside(context, run.job_name if run is not None else ANY_ASSETS).get_definition()
    _tell(context, config, continue_(context.instance, own, overwrite=config.overwrite))


def _show(context: dg.OpExecutionContext, plan: Plan) -> None:
    """The plan in the run's log before anything is done, so that it is there whatever comes."""
    context.log.info("The plan:\n%s", plan_table(plan))


def _tell(context: dg.OpExecutionContext, config: RollbackConfig, done: RolledBack) -> None:
    """What was done, and what is owed in all of the code location."""
    context.log.info("Done, by rollback %s", done.id)
    stages = [one.stage for one in done.plan.tables]
    made = owing(context.instance, job_beside(context, ANY_ASSETS), done.id, stages, make=config.refresh)
    said: dict[str, Any] = {
        "plan": MetadataValue.md(plan_table(done.plan)),
        "done": f"by rollback {done.id}",
        "owed": MetadataValue.md(_owed(made)),
        **({"made again by": MetadataValue.md(_links(made.runs))} if made.runs else {}),
    }
    if not made.success:
        failure = located(made.failure, module_of(context.run))
        raise dg.Failure(
            f"Rollback {done.id} is done; what is owed after it was not all made again: {failure}",
            metadata=said,
            allow_retries=False,
        )
    context.add_output_metadata(said)


def _owed(made: Refreshed) -> str:
    rows = [(one.stage, one.partition, one.why, is_owed(one)) for one in made.left]
    return table(("stage", "partition", "why", "what"), rows) if rows else "nothing"


def _links(runs: Iterable[str]) -> str:
    return ", ".join(f"[{run}](/runs/{run})" for run in runs)
