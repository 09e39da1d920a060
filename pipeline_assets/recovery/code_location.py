"""A code location: its jobs, those that work on the others, and how they are launched."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster import JobDefinition
from dagster._core.definitions.reconstruct import ReconstructableJob

from pipeline_assets.errors import ConfigurationError

EPHEMERAL, ANY_ASSETS = "__ephemeral_asset_job__", "__ASSET_JOB"
"""The job of `dg.materialize`, which no code location has, and the one that can run any of a location's assets,
whichever pipelines they belong to."""

RECOVERY_JOB, ROLLBACK_JOB, MAINTENANCE_JOB = "recovery_job", "rollback_job", "maintenance_job"
OPERATIONS = frozenset({RECOVERY_JOB, ROLLBACK_JOB, MAINTENANCE_JOB})
"""Jobs that work on other runs and their tables: one that failed is no pipeline's run, and nobody's last."""

NEVER_AGAIN = {"dagster/max_retries": "0"}
"""Tags of a run that a person launches and looks at: the daemon does not launch it again."""
QUIET: Mapping[str, Any] = {"console": {"config": {"log_level": "WARNING"}}}
"""The `loggers` of a run whose progress is shown otherwise."""


def job_beside(context: dg.OpExecutionContext, name: str) -> ReconstructableJob:
    """A job by name, of the code location that has the op's. Raises ConfigurationError."""
    wanted = ANY_ASSETS if name == EPHEMERAL else name
    own = context.get_step_execution_context().job
    if not isinstance(own, ReconstructableJob):
        raise ConfigurationError(
            f"{context.job_name} was run by itself (execute_in_process), so it is not known which code location is meant. "
            "Nothing was changed; launch it from the UI, or with `dagster job execute -m MODULE`."
        )
    if not own.repository.get_definition().has_job(wanted):
        raise ConfigurationError(
            f"The code location of {context.job_name} has no job {wanted}. Nothing was changed; launch it in the code "
            "location of the run."
        )
    return own.repository.get_reconstructable_job(wanted)


def with_loggers(job: JobDefinition, config: Mapping[str, Any], loggers: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run configuration with these `loggers`, as far as the job has them, where it says none itself."""
    known = {name: one for name, one in (loggers or {}).items() if name in job.loggers}
    return {**({"loggers": known} if known else {}), **config}


def definition_of(job: JobDefinition | ReconstructableJob) -> JobDefinition:
    """The definition of a job that may be reconstructable."""
    return job.get_definition() if isinstance(job, ReconstructableJob) else job
