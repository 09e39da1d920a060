"""A real PostgreSQL server for the tests: databases that several hosts could share."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60.0


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
def server() -> Iterator[Postgres]:
    """A server whose data are thrown away, and so need not be durable.

    In a folder of its own: who starts pytest meanwhile closes pytest's to other users.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-") as made:
        folder = Path(made)
        folder.chmod(0o777)
        with _in(folder) as found:
            yield found


@contextmanager
def _in(folder: Path) -> Iterator[Postgres]:
    found = Postgres(folder, _programs())
    data = folder / "data"
    _run([found.programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"])
    command = [found.programs / "postgres", "-D", data, "-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            _as_postgres([*command, "-c", f"unix_socket_directories={folder}"]), stdout=log, stderr=log, cwd="/"
        )
    try:
        _wait_for(found, process)
        yield found
    finally:
        process.send_signal(signal.SIGQUIT)  # at once, without writing anything
        process.wait(SECONDS)


def _wait_for(server: Postgres, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SECONDS
    asked = [str(server.programs / "pg_isready"), "-q", "-h", str(server.folder)]
    while subprocess.run(asked, check=False).returncode != 0:
        said = (server.folder / "log").read_text()
        over = process.poll() is not None or time.monotonic() > deadline
        assert not over, f"PostgreSQL did not start: {said}"
        time.sleep(0.05)


def _programs() -> Path:
    """Where the server's programs are; Debian has them in a folder of their own."""
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else max(Path("/usr/lib/postgresql").glob("*/bin"))


def _run(command: Sequence[str | Path]) -> None:
    subprocess.run(_as_postgres(command), check=True, stdout=subprocess.DEVNULL, cwd="/")


def _as_postgres(command: Sequence[str | Path]) -> list[str]:
    """As the user postgres where this is root, whom the server refuses."""
    as_whom = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    return [*as_whom, *map(str, command)]
