"""Just enough of HTTP/1.1 to tell where a message on a connection ends, and to keep its bytes as they are."""

import socket
from dataclasses import dataclass

_CHUNK = 1 << 16
_WITHOUT_BODY = ("204", "304")


class Closed(Exception):
    """The other end has gone in the middle of a message."""


@dataclass(frozen=True)
class Message:
    """A request or an answer. first: its first line. headers: by name in small letters. raw: all its bytes."""

    first: str
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return self.headers.get("connection", "").lower() == "close"


class Stream:
    """The messages that arrive on a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unread = bytearray()

    def message(self, *, head_only: bool = False) -> Message | None:
        """The next one; None where the other end has closed between two. head_only: it answers a HEAD. Raises Closed."""
        if not self._unread and not self._more():
            return None
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        bodiless = head_only or (first.startswith("HTTP/") and first.split(" ")[1] in _WITHOUT_BODY)
        body = b"" if bodiless else self._body(headers)
        return Message(first, headers, body, head + body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks()
        return self._exactly(int(headers.get("content-length", "0")))

    def _chunks(self) -> bytes:
        found = bytearray()
        while True:
            size = self._until(b"\r\n")
            found += size
            length = int(size.split(b";")[0], 16)
            if length == 0:
                break
            found += self._exactly(length + 2)
        while (trailer := self._until(b"\r\n")) != b"\r\n":
            found += trailer
        return bytes(found + b"\r\n")

    def _until(self, end: bytes) -> bytes:
        while (at := self._unread.find(end)) < 0:
            if not self._more():
                raise Closed
        return self._take(at + len(end))

    def _exactly(self, length: int) -> bytes:
        while len(self._unread) < length:
            if not self._more():
                raise Closed
        return self._take(length)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._unread[:length])
        del self._unread[:length]
        return taken

    def _more(self) -> bool:
        read = self._connection.recv(_CHUNK)
        self._unread += read
        return bool(read)
