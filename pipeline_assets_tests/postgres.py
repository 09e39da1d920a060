"""A real PostgreSQL server for the tests: databases that several hosts could share."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Postgres:
    """A server that listens on a socket in a folder only."""

    folder: Path
    programs: Path

    def database(self) -> str:
        """A new database; its URL."""
        name = f"db{uuid.uuid4().hex}"
        _run([self.programs / "createdb", "-h", self.folder, "-U", "postgres", name])
        return f"postgresql+psycopg2://postgres@/{name}?host={self.folder}"


@contextmanager
def server(folder: Path) -> Iterator[Postgres]:
    """A server whose data are thrown away, and so need not be durable."""
    found = Postgres(folder, _programs())
    data = folder / "data"
    folder.chmod(0o777)
    for above in folder.parents[:3]:
        above.chmod(above.stat().st_mode | 0o011)
    _run([found.programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"])
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    _run([found.programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"])
    try:
        yield found
    finally:
        _run([found.programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"])


def _programs() -> Path:
    """Where the server's programs are; Debian has them in a folder of their own."""
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else max(Path("/usr/lib/postgresql").glob("*/bin"))


def _run(command: Sequence[str | Path]) -> None:
    """As the user postgres where this is root, whom the server refuses."""
    as_whom = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    subprocess.run([*as_whom, *map(str, command)], check=True, stdout=subprocess.DEVNULL, cwd="/")
