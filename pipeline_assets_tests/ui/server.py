"""A real `dagster dev` on 127.0.0.1: web server, daemon and code server, ended by its process group."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_assets_tests.recovery.children import environment

SECONDS = 240


@dataclass(frozen=True)
class Dagster:
    """What is served, and where."""

    url: str
    location: str

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL query. Raises AssertionError with what the server says."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = json.loads(answer.read())
        assert "errors" not in said, said["errors"]
        return said["data"]

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        fields = "runId status parentRunId stepKeysToExecute tags { key value }"
        found: list[dict[str, Any]] = self.ask(f"{{ runsOrError {{ ... on Runs {{ results {{ {fields} }} }} }} }}")[
            "runsOrError"
        ]["results"]
        return found

    def wait(self, done: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The runs, when they are as asked. Raises AssertionError at the deadline."""
        deadline = time.monotonic() + SECONDS
        while not done(found := self.runs()):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found


@contextmanager
def served(module: str, variables: Mapping[str, str] | None = None) -> Iterator[Dagster]:
    """`dagster dev` for a module, in DAGSTER_HOME."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = Path(os.environ["DAGSTER_HOME"], "dagster-dev.log")
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port), "-m", module],
            cwd=os.environ["DAGSTER_HOME"],
            env=environment(variables),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _ready(f"http://127.0.0.1:{port}/server_info", process, log)
            yield Dagster(f"http://127.0.0.1:{port}", module)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
