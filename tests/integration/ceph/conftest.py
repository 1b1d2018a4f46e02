"""A real Ceph gateway, in plain processes below a temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from rsdl.storage.connect import connect
from rsdl.storage.store import Store
from tests.integration.ceph.fault_proxy import FaultProxy
from tests.waiting import wait_for as wait_for

SCRIPT = Path(__file__).parents[3] / "scripts" / "ceph_rgw"
PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "curl", "openssl")
ACCESS_KEY = "accesskeyofthetests"
SECRET_KEY = "secretkeyofthetests"
NAMES = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RSDL_CACHE",
         "RSDL_STORE_DEADLINE_S")  # fmt: skip


class Gateway:
    """A running gateway, to be ill-treated.

    Args:
        folder: Where the cluster lives.
        port: Of S3 over http.
        tls_port: Of S3 over https.
    """

    def __init__(self, folder: Path, port: int, tls_port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.tls_url = f"https://127.0.0.1:{tls_port}"
        self.certificate = folder / "tls.crt"

    def send(self, number: int) -> None:
        """Send a signal to the gateway alone."""
        os.kill(int((self.folder / "rgw.pid").read_text()), number)

    def restart(self) -> None:
        """Start the gateway again, killing it first if it runs."""
        run_script("restart-rgw", self.folder)

    def set(self, option: str, value: object) -> None:
        """Set an option of the running gateway."""
        socket_path = self.folder / "client.rgw.asok"
        command = ["ceph", "-c", self.folder / "ceph.conf", "daemon", socket_path]
        subprocess.run(
            [*map(str, command), "config", "set", option, str(value)],
            check=True, capture_output=True,
        )  # fmt: skip

    def administer(self, *arguments: str) -> None:
        """Tell the gateway about its users, as ``radosgw-admin`` does."""
        command = ["radosgw-admin", "-c", str(self.folder / "ceph.conf"), "-n", "client.rgw"]
        subprocess.run([*command, *arguments], check=True, capture_output=True)

    def boto(self, access_key: str = ACCESS_KEY) -> Any:  # noqa: ANN401 - boto3 has no types
        """Return a client that shares nothing with ours."""
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id=access_key, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip


def run_script(*arguments: object, **environment: str) -> None:
    command = [str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr


def free_ports(count: int) -> int:
    """Return the first of ``count`` ports in a row that nobody listens on."""
    # Processes that look at the same time begin at different places.
    for first in range(20000 + os.getpid() % 3000 * 3, 32000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@contextmanager
def run_cluster() -> Iterator[Gateway]:
    """Run a cluster of its own, for as long as the block lasts."""
    # Paths of sockets are limited to 107 bytes, which pytest's folders may exceed.
    folder = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))
    try:
        port = free_ports(3)  # the monitor takes the second
        run_script(
            "start", folder, port, RGW_TLS_PORT=str(port + 2),
            RGW_ACCESS_KEY=ACCESS_KEY, RGW_SECRET_KEY=SECRET_KEY,
            # Gateways tell each other of changes, and wait 30 s for one that was killed.
            RGW_EXTRA_CONF="rgw_cache_enabled = false",
        )  # fmt: skip
        yield Gateway(folder, port, port + 2)
    finally:
        subprocess.run([str(SCRIPT), "stop", str(folder)], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Gateway]:
    with run_cluster() as found:
        yield found


@pytest.fixture
def gateway(
    require: Callable[[str, bool], None],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Gateway:
    """Return a gateway that the environment names, with an empty cache for this test alone."""
    require("ceph", all(shutil.which(program) for program in PROGRAMS))
    found: Gateway = request.getfixturevalue("cluster")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("RSDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "60")
    return found


@pytest.fixture
def bucket(gateway: Gateway) -> str:
    """Return the URL of a new bucket."""
    name = f"b-{uuid.uuid4().hex[:12]}"
    gateway.boto().create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def store(bucket: str) -> Store:
    """Return a store below a prefix of the bucket."""
    return connect(f"{bucket}/some/prefix")


@pytest.fixture
def env(gateway: Gateway) -> dict[str, str]:
    """Return what tells a command where the gateway is."""
    return {name: os.environ[name] for name in NAMES}


@pytest.fixture
def remote(packed: str, bucket: str) -> str:
    """Return the URL of ``packed`` in a bucket."""
    copy(packed, f"{bucket}/packed")
    return f"{bucket}/packed"


def copy(source: str, target: str) -> None:
    """Copy all that lies below one URL to another."""
    given, taken = connect(source), connect(target)
    for entry in given.list():
        taken.write(entry.name, given.read(entry.name))


@pytest.fixture
def fault_proxy(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Return what stands between us and the gateway."""
    with FaultProxy(gateway.port) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", between.url)
        yield between


@pytest.fixture
def running(gateway: Gateway) -> Iterator[Gateway]:
    """Return a gateway that runs again after the test, whatever was done to it."""
    yield gateway
    gateway.send(signal.SIGCONT) if _is_there(gateway) else None
    gateway.restart()


def _is_there(gateway: Gateway) -> bool:
    try:
        gateway.send(0)
    except ProcessLookupError:
        return False
    return True
