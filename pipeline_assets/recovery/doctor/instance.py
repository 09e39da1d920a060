"""Dagster's instance: its databases, its daemon, its runs."""

from collections.abc import Iterator

from dagster import DagsterInstance
from dagster._core.storage.runs import SqliteRunStorage
from dagster._daemon.controller import get_daemon_statuses

from pipeline_assets.errors import describe
from pipeline_assets.policy.commands import to_resume
from pipeline_assets.recovery.doctor import ERROR, OK, WARNING, Finding
from pipeline_assets.recovery.run_ends import KILLED, Runs


def databases(instance: DagsterInstance) -> Iterator[Finding]:
    """Whether their schemas are those of this Dagster, and which kind they are."""
    storages = {
        "runs": instance.run_storage,
        "event log": instance.event_log_storage,
        "schedules": instance.schedule_storage,
    }
    for name, storage in storages.items():
        version = storage.alembic_version() if storage is not None else None
        if version is not None and version[0] != version[1]:
            said = f"the database of {name} has schema {version[0]}, this Dagster wants {version[1]}"
            yield Finding(ERROR, "instance", instance.root_directory, said, "dagster instance migrate")
            return
    if isinstance(instance.run_storage, SqliteRunStorage):
        said = "SQLite files, which only this host may use; its schema is up to date"
    else:
        said = f"{type(instance.run_storage).__name__}; its schema is up to date"
    yield Finding(OK, "instance", instance.root_directory, said)


def daemon(instance: DagsterInstance) -> Finding:
    """Whether Dagster's daemon gives signs of life: schedules, sensors and queued runs wait for it."""
    wanted = sorted(instance.get_required_daemon_types())
    found = get_daemon_statuses(instance, wanted, ignore_errors=True)
    silent = [name for name, status in found.items() if not status.healthy]
    if not silent:
        return Finding(OK, "daemon", "dagster-daemon", "it is at work")
    said = f"no sign of {', '.join(silent)}: nothing that is queued, scheduled or sensed is started"
    return Finding(WARNING, "daemon", "dagster-daemon", said, "dagster-daemon run (or dagster dev)")


def runs(instance: DagsterInstance, module: str | None) -> Iterator[Finding]:
    """Runs whose process is gone, or of which that cannot be told. module: the code location that a command has to name."""
    found = [one for one in Runs(instance).unfinished() if one.state == KILLED or one.host is not None]
    for one in found:
        what = f"of {describe(one.job, one.partition)}"
        gone = one.state == KILLED
        said = (
            f"{what} was killed"
            if gone
            else f"{what} is at work on {one.host}, or is gone: that cannot be told from here"
        )
        mend = to_resume(one.resume or one.run, module, option="" if gone else "--gone")
        yield Finding(WARNING, "runs", one.run, said, mend)
    if not found:
        yield Finding(OK, "runs", instance.root_directory, "no run was left by a process that is gone")
