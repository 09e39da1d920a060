"""Why a process ended without a word: by which signal, with which status, or since the memory was used up."""

import signal
from pathlib import Path

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


def _number(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return int(values[0]) if values and values[0].isdigit() else None
