"""How a run ends whose process did not say so: why (a signal, a status, the memory), and its entry in the instance."""

import signal
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from pipeline_assets.processes import AT_WORK

CGROUPS = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")


def memory_kills() -> int | None:
    """How many processes of this one's control group the kernel has killed for want of memory; None where it does not say."""
    try:
        group = OF_THIS_PROCESS.read_text().strip().splitlines()[-1].rpartition(":")[2].strip("/")
    except (OSError, IndexError):
        return None
    for folder in (CGROUPS / group, CGROUPS):  # in a container its own group is mounted as the root
        for name in ("memory.events", "memory/memory.oom_control"):
            found = _number(folder / name, "oom_kill")
            if found is not None:
                return found
    return None


def why(code: int, kills_before: int | None) -> str:
    """What to say of a process that ended with a status (minus the signal). kills_before: `memory_kills` when it began."""
    if code == -signal.SIGKILL and kills_before is not None and (memory_kills() or 0) > kills_before:
        return "its process was killed by the kernel: out of memory"
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its process was killed by {name}"
    return f"its process ended with exit status {code}, and no word of why"


def mark_ended(
    instance: DagsterInstance, run: DagsterRun, failed: str, cancelled: str | None = None, *, stopped: bool = False
) -> bool:
    """Mark a run that is at work failed, or cancelled if that was asked for (stopped: it was); whether that was still to do.

    failed, cancelled: what its event says. Others (a code server, its own process) may have seen first that it has ended.
    """
    now = instance.get_run_by_id(run.run_id)
    if now is None or now.status not in AT_WORK:
        return False
    if stopped or now.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(now, failed if cancelled is None else cancelled)
    else:
        instance.report_run_failed(now, failed)
    return True


def _number(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return int(values[0]) if values and values[0].isdigit() else None
