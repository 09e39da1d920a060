"""What Dagster's exceptions carry: the exception of a stage, or what its author asked for."""

from pipeline_assets.errors import ProgrammingError, ServiceUnavailable
from pipeline_assets.policy.verdict import Finding, Verdict, named


def users_exception(error: BaseException) -> Finding:
    """For DagsterUserCodeExecutionError: what the user's code raised."""
    inner = getattr(error, "user_exception", None)
    return inner if isinstance(inner, BaseException) else None


def failed_on_purpose(error: BaseException) -> Finding:
    """For Failure: its cause, unless the author ruled retries out."""
    return error.__cause__ if getattr(error, "allow_retries", True) else named(ProgrammingError, error)


def asked_to_retry(error: BaseException) -> Finding:
    """For RetryRequested: as its author says, and after as many seconds."""
    return Verdict(ServiceUnavailable, type(error).__name__, getattr(error, "seconds_to_wait", None))
