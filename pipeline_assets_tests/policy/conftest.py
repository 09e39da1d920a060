"""A server that nobody vouches for, and small projects on disk."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_assets_tests.policy.project import Project


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server whose certificate nobody vouches for. openssl comes with Debian's ca-certificates."""
    pem = str(tmp_path_factory.mktemp("tls") / "server.pem")
    asked = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", *asked, "-keyout", pem, "-out", f"{pem}.crt"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{pem}.crt", pem)
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=shake_hands, args=(server, context), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()


def shake_hands(server: socket.socket, context: ssl.SSLContext) -> None:
    """Tries with everybody who comes, until the server is shut down."""
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client:
            try:
                context.wrap_socket(client, server_side=True).close()
            except OSError:
                continue


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty project, first on `sys.path`; forgotten afterwards."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    made = Project(folder)
    yield made
    made.forget()
