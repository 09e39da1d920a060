"""The program of the proxy that `flaky.py` starts: in a process of its own, since clients may hold the GIL while they wait.

    python -m pipeline_assets_tests.flaky_proxy HOST PORT SEED

HOST, PORT: the server behind it. Says the port that it listens on; then each line on stdin is an order, as JSON:
`{"misbehave": RULE}`, `{"heal": true}` or `{"told": true}`, which is answered with a line of what was done so far. It ends
with its stdin. Requests pass unchanged, `Host` included, over which clients sign them: the server takes their signatures.
"""

import contextlib
import json
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline_assets_tests.http_messages import Closed, Message, Stream

HOST = "127.0.0.1"
DELAY_SECONDS = 0.2
RETRY_AFTER = 1
CONNECT_SECONDS = 10.0
_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We met an error.</Message></Error>"
_ANSWERS = {
    "slow_down": ("503 Slow Down", _SLOW_DOWN, ""),
    "slow_down_retry_after": ("503 Slow Down", _SLOW_DOWN, f"Retry-After: {RETRY_AFTER}\r\n"),
    "internal": ("500 Internal Server Error", _INTERNAL, ""),
}


@dataclass
class Rule:
    """Of the requests that it is about, `rate` meet one of the faults, at most `times` of them.

    methods: all where there are none. keys: a pattern of the object's key, or of the prefix that is listed.
    """

    faults: list[str]
    rate: float
    methods: list[str]
    keys: str
    times: float

    def fits(self, method: str, key: str) -> bool:
        return self.times > 0 and (not self.methods or method in self.methods) and re.search(self.keys, key) is not None


class Proxy:
    """Relays what comes, or does to it what the rules say."""

    def __init__(self, upstream: tuple[str, int], seed: int) -> None:
        self._upstream = upstream
        self._listening = socket.create_server((HOST, 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self.met: Counter[str] = Counter()
        self.passed = 0
        self._rng = random.Random(seed)
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._healed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what is said; what was done so far."""
        with self._lock:
            if "misbehave" in order:
                self._healed.clear()
                self._rules.insert(0, Rule(**order["misbehave"]))
            if "heal" in order:
                self._rules.clear()
                self._healed.set()
            return {"met": dict(self.met), "passed": self.passed}

    def _accept(self) -> None:
        while True:
            client, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection of a client, with one of its own to the server, for as many requests as come."""
        with contextlib.ExitStack() as stack:
            stack.callback(_close, client)
            stack.enter_context(contextlib.suppress(OSError, Closed))  # an end has gone, as the other is to see
            server = socket.create_connection(self._upstream, timeout=CONNECT_SECONDS)
            stack.callback(_close, server)
            server.settimeout(None)
            asking, answering = Stream(client), Stream(server)
            while (request := asking.message()) is not None and self._relay(request, client, server, answering):
                pass

    def _relay(self, request: Message, client: socket.socket, server: socket.socket, answering: Stream) -> bool:
        """Whether the connection is still good."""
        method, key = asked(request)
        fault = self._draw(method, key)
        if fault == "dropped_before":
            return False
        if fault == "hung":
            return self._hang()
        if fault in _ANSWERS:
            client.sendall(_answer(fault, with_body=method != "HEAD"))
            return True
        if fault == "request_cut":
            server.sendall(_cut(request))
            return False
        if fault == "delayed":
            time.sleep(DELAY_SECONDS)
        server.sendall(request.raw)
        answer = answering.message(head_only=method == "HEAD")
        if answer is None or fault == "dropped_after":
            return False
        if fault == "hung_after":
            return self._hang()
        if fault == "answer_cut":
            client.sendall(_cut(answer))
            return False
        client.sendall(answer.raw)
        return not answer.closes

    def _hang(self) -> bool:
        self._healed.wait()
        return False

    def _draw(self, method: str, key: str) -> str | None:
        with self._lock:
            for rule in self._rules:
                if rule.fits(method, key) and self._rng.random() < rule.rate:
                    rule.times -= 1
                    fault = self._rng.choice(rule.faults)
                    self.met[fault] += 1
                    return fault
            self.passed += 1
            return None


def asked(request: Message) -> tuple[str, str]:
    """The method and the object's key, or the prefix that is listed, without the bucket."""
    method, target, _ = request.first.split(" ", 2)
    parts = urlsplit(target)
    key = unquote(parts.path).lstrip("/").partition("/")[2]
    return method, parse_qs(parts.query).get("prefix", [key])[0]


def _cut(message: Message) -> bytes:
    """A message to the middle of its body; of one without a body all but the last byte."""
    return message.raw[: len(message.raw) - max(len(message.body) // 2, 1)]


def _answer(fault: str, *, with_body: bool) -> bytes:
    line, body, more = _ANSWERS[fault]
    head = f"HTTP/1.1 {line}\r\nContent-Type: application/xml\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + (body if with_body else b"")


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def main() -> None:
    """Listen, and obey."""
    host, port, seed = sys.argv[1:]
    proxy = Proxy((host, int(port)), int(seed))
    print(proxy.port, flush=True)
    for line in sys.stdin:
        print(json.dumps(proxy.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
