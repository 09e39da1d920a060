"""A flaky object store: an S3 server behind a proxy on this host that misbehaves as it is told."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from pipeline_assets_tests.recovery.children import environment
from pipeline_assets_tests.seaweed import HOST, S3

PROGRAM = "pipeline_assets_tests.flaky_proxy"
ALWAYS = 1_000_000_000


class Fault(Enum):
    """What may become of a request."""

    DROPPED_BEFORE = "dropped_before"
    """The connection is cut before the server has the request."""
    DROPPED_AFTER = "dropped_after"
    """The connection is cut when the server has done it: the answer is lost."""
    SLOW_DOWN = "slow_down"
    """503."""
    SLOW_DOWN_RETRY_AFTER = "slow_down_retry_after"
    INTERNAL = "internal"
    """500."""
    DELAYED = "delayed"
    REQUEST_CUT = "request_cut"
    """The server gets half of the body."""
    ANSWER_CUT = "answer_cut"
    """The client gets half of the body."""
    HUNG = "hung"
    """Nothing is answered, and the server never hears of it."""
    HUNG_AFTER = "hung_after"
    """Nothing is answered, but the server has done it."""


PASSING = [fault for fault in Fault if not fault.value.startswith("hung")]
"""All that is over soon."""


class Flaky:
    """The proxy's process. s3: the server as seen through it."""

    def __init__(self, server: S3, seed: int = 0) -> None:
        upstream = urlsplit(server.endpoint)
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROGRAM, str(upstream.hostname), str(upstream.port), str(seed)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        assert self._process.stdout is not None
        self.s3 = replace(server, endpoint=f"http://{HOST}:{int(self._process.stdout.readline())}")

    def misbehave(
        self,
        *faults: Fault,
        rate: float = 1.0,
        methods: Collection[str] = (),
        keys: str = "",
        times: int = ALWAYS,
    ) -> None:
        """From now on, until `heal`; of several such rules the last one goes first.

        faults: one of them is drawn, of all that pass where none is named. rate: of the requests that meet one. methods:
        only these. keys: a pattern of the objects' keys, or of the prefixes that are listed. times: so many requests.
        """
        names = [fault.value for fault in faults or PASSING]
        rule = {"faults": names, "rate": rate, "methods": list(methods), "keys": keys, "times": times}
        self._tell({"misbehave": rule})

    def heal(self) -> None:
        """Behave from now on; what hangs is dropped."""
        self._tell({"heal": True})

    @property
    def met(self) -> Counter[Fault]:
        """How many requests met which fault."""
        return Counter({Fault(name): count for name, count in self._tell({"told": True})["met"].items()})

    @property
    def passed(self) -> int:
        """How many requests met none."""
        return int(self._tell({"told": True})["passed"])

    def close(self) -> None:
        """End it, and with it all connections."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def flaky(server: S3, seed: int = 0) -> Iterator[Flaky]:
    """A proxy before the server, which ends with the block, and with this process."""
    proxy = Flaky(server, seed)
    try:
        yield proxy
    finally:
        proxy.close()
