"""A gateway that dies, hangs, sheds load or sends rubbish: late, but right, or a clear error."""

import hashlib
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from rsdl.core.errors import StorageError, UnreachableError
from rsdl.storage.connect import connect
from rsdl.storage.s3 import client
from rsdl.storage.store import Store

from .conftest import Gateway, wait_for
from .meddler import Meddler

pytestmark = pytest.mark.ceph
MIB = 1 << 20


def put(store: Store, name: str, size: int) -> str:
    """Write random bytes and return their SHA-256."""
    data = random.Random(size).randbytes(size)
    with store.create(name) as path:
        path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_filling(cache: Path, at_least: int) -> bool:
    """Return whether a download has written so many bytes of its preallocated file."""
    for part in cache.glob("copies/*.part"):
        with part.open("rb") as stream:
            written = sum(any(stream.read(MIB)[:4096]) for _ in range(0, 200))
        return written * MIB >= at_least
    return False


@pytest.mark.parametrize("act", ["kill", "stop"])
def test_a_download_outlives_the_gateways_death_and_its_hanging(
    act: str, running: Gateway, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "READ_TIMEOUT_S", 1)
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "59.5")  # a client of its own
    sha256 = put(store, "big.bin", 150 * MIB)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.local, "big.bin")
        wait_for(lambda: is_filling(tmp_path / "cache", 20 * MIB))
        running.send(signal.SIGKILL if act == "kill" else signal.SIGSTOP)
        assert not future.done()
        time.sleep(2)
        running.restart() if act == "kill" else running.send(signal.SIGCONT)
        assert sha256_of(future.result()) == sha256


def test_an_upload_outlives_the_gateways_death(running: Gateway, store: Store):
    data = random.Random(5).randbytes(100 * MIB)
    dead = threading.Timer(0.4, running.send, [signal.SIGKILL])
    alive = threading.Timer(2.4, running.restart)
    with store.create("big.bin") as path:
        path.write_bytes(data)
        dead.start()
        alive.start()
    dead.join()
    alive.join()
    assert sha256_of(store.local("big.bin")) == hashlib.sha256(data).hexdigest()


def test_when_nobody_comes_back_the_error_says_so(
    running: Gateway, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RSDL_STORE_DEADLINE_S", "0.5")
    store.write("x", b"1")
    running.send(signal.SIGKILL)
    with pytest.raises(UnreachableError, match=r"connection refused; check AWS_ENDPOINT_URL"):
        connect(store.url).read("x")


def test_a_gateway_that_sheds_load_is_asked_again(gateway: Gateway, store: Store):
    sha256 = put(store, "big.bin", 80 * MIB)
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    wanted = {"Bucket": bucket, "Key": f"{prefix}/big.bin"}
    gateway.set("rgw_max_concurrent_requests", 2)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        stack.callback(gateway.set, "rgw_max_concurrent_requests", 1024)
        # Answers that nobody reads keep the gateway busy: it may serve two, and has two.
        for _ in range(2):
            stack.enter_context(closing(gateway.boto().get_object(**wanted)["Body"]))
        with pytest.raises(ClientError, match="503"):
            gateway.boto().head_object(**wanted)

        path = pool.submit(store.local, "big.bin")
        time.sleep(1)
        assert not path.done()
        stack.close()
        assert sha256_of(path.result()) == sha256


@pytest.mark.parametrize("size", [3 * MIB, 20 * MIB])
def test_a_broken_connection_is_taken_up_where_it_broke(
    size: int, meddler: Meddler, store: Store, gateway: Gateway
):
    sha256 = put(connect(store.url), "x.bin", size)
    passed = 0

    def cut(data: bytes) -> bytes | None:
        nonlocal passed
        passed += len(data)
        if passed > MIB:
            passed = 0
            return None
        return data

    meddler.edit = cut
    assert sha256_of(store.local("x.bin")) == sha256
    assert len([r for r in meddler.requests if r.startswith("GET")]) >= size // MIB


def test_a_byte_flipped_on_the_way_is_noticed_and_fetched_again(meddler: Meddler, store: Store):
    sha256 = put(store, "x.bin", 3 * MIB)
    flipped = threading.Event()

    def flip(data: bytes) -> bytes:
        if len(data) < 20000 or flipped.is_set():
            return data
        flipped.set()
        return data[:-1] + bytes([data[-1] ^ 1])

    meddler.edit = flip
    assert sha256_of(store.local("x.bin")) == sha256
    assert flipped.is_set()


def test_bytes_that_are_always_wrong_are_an_error_and_not_kept(
    meddler: Meddler, store: Store, tmp_path: Path
):
    put(store, "x.bin", 3 * MIB)
    meddler.edit = lambda data: data if len(data) < 20000 else data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(StorageError, match=r"x\.bin: its content is not what was written"):
        store.local("x.bin")
    assert not list((tmp_path / "cache" / "copies").iterdir())


def test_bytes_of_another_sha256_than_the_manifests_are_an_error(store: Store):
    put(store, "x.bin", MIB)
    with pytest.raises(StorageError, match=r"x\.bin: its content is not what was written"):
        store.open("x.bin", "0" * 64)


@pytest.mark.parametrize("cached", [True, False])
def test_an_object_that_is_replaced_under_us_is_an_error(cached: bool, store: Store, bucket: str):
    store.write("x", b"first" * 1000)
    reader = connect(store.url) if cached else connect(store.url, None)
    blob = reader.open("x")
    assert blob.read(0, 5) == b"first"
    store.write("x", b"other" * 1000)
    if cached:
        assert blob.read(5, 5) == b"first"  # a copy is of one version
        return
    with pytest.raises(StorageError, match="was replaced while it was being read; nothing may"):
        blob.read(5, 5)
