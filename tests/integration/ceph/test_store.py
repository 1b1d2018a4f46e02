"""What a store promises, kept by a bucket."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rsdl.core.errors import StorageError
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import StorageConfig
from rsdl.storage.s3.upload import NOTE
from rsdl.storage.store import Entry, Store

from .conftest import Gateway, wait_for
from .fault_proxy import FaultProxy

pytestmark = pytest.mark.ceph
MIB = 1 << 20

UPLOAD = """
import sys
from rsdl.storage.connect import connect
from rsdl.storage.s3.endpoint import StorageConfig
with connect(sys.argv[1]).create("big.bin") as path:
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
"""

DIE_AS_IT_BEGINS = """
import os, signal
from rsdl.storage.s3.client import S3Client
call = S3Client.call
def die(self, url, operation, **arguments):
    answer = call(self, url, operation, **arguments)
    if operation == "create_multipart_upload":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
S3Client.call = die
"""


@pytest.fixture(params=["http", "https"])
def either(
    request: pytest.FixtureRequest, gateway: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """Return a store over each protocol: boto3 frames uploads differently over https."""
    if request.param == "https":
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gateway.tls_url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(gateway.certificate))
    return connect(f"{bucket}/some/prefix/")


def uploads(gateway: Gateway, bucket: str) -> list[str]:
    found = gateway.boto().list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    return [upload["Key"] for upload in found.get("Uploads", ())]


def test_what_is_written_is_read_found_listed_and_deleted(either: Store):
    assert list(either.list()) == [] and either.size("a") is None
    either.write("a", b"one")
    either.write("b/c d+ü.json", b"")
    with either.create("b/e.bin") as path:
        path.write_bytes(b"three")
        assert either.size("b/e.bin") is None
    entries = [Entry("a", 3), Entry("b/c d+ü.json", 0), Entry("b/e.bin", 5)]
    assert list(either.list()) == entries
    assert list(either.list("b/")) == entries[1:]
    assert [either.read(entry.name) for entry in entries] == [b"one", b"", b"three"]
    assert [either.size(entry.name) for entry in entries] == [3, 0, 5]
    assert [either.local(entry.name).read_bytes() for entry in entries] == [b"one", b"", b"three"]
    assert either.local("b/e.bin").suffix == ".bin"
    either.write("a", b"other")
    assert either.read("a") == either.local("a").read_bytes() == b"other"
    either.delete("a")
    either.delete("a")
    assert list(either.list()) == entries[1:]


def test_a_large_file_goes_up_and_comes_down_whole(either: Store, tmp_path: Path):
    data = random.Random(1).randbytes(37 * MIB + 12345)
    with either.create("big.bin") as path:
        path.write_bytes(data)
    assert either.size("big.bin") == len(data)
    assert hashlib.sha256(either.local("big.bin").read_bytes()).digest() == (
        hashlib.sha256(data).digest()
    )
    blob = either.open("big.bin", hashlib.sha256(data).hexdigest())
    for offset, length in ((0, 1), (8 * MIB - 1, 2), (len(data) - 1, 9), (len(data), 1), (0, 0)):
        assert blob.read(offset, length) == data[offset : offset + length]
    blob.close()
    assert not list((tmp_path / "cache" / "spool").iterdir())


def test_without_a_cache_parts_are_read_by_range(bucket: str, tmp_path: Path):
    data = random.Random(2).randbytes(3 * MIB)
    connect(bucket).write("x", data)
    blob = connect(bucket, None).open("x")
    for offset, length in ((0, 1), (MIB, 2 * MIB), (len(data) - 1, 9), (len(data), 1), (0, 0)):
        assert blob.read(offset, length) == data[offset : offset + length]
    assert not (tmp_path / "cache" / "copies").exists()


def test_a_failed_block_leaves_nothing(store: Store, gateway: Gateway, bucket: str):
    store.write("name", b"before")
    with pytest.raises(ZeroDivisionError), store.create("name") as path:
        path.write_bytes(bytes(20 * MIB))
        _ = 1 / 0
    assert store.read("name") == b"before"
    with pytest.raises(StorageError, match="no such file"), store.create("name"):
        pass  # wrote nothing
    assert uploads(gateway, bucket) == []


def test_a_killed_upload_is_never_visible_and_aborted_by_the_next_process(
    gateway: Gateway, bucket: str, tmp_path: Path
):
    staging = tmp_path / "cache" / "spool"

    def has_noted() -> bool:
        """Return whether the upload has begun and its process has written down which it is."""
        return any("UploadId" in note.read_text() for note in staging.glob(f"*/{NOTE}"))

    process = subprocess.Popen([sys.executable, "-c", UPLOAD, bucket])
    try:
        wait_for(has_noted, 300)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    store = connect(bucket)
    assert store.size("big.bin") is None and uploads(gateway, bucket) == ["big.bin"]
    with store.create("other") as path:
        path.write_bytes(b"x")
    assert uploads(gateway, bucket) == [] and list(store.list()) == [Entry("other", 1)]


def test_an_upload_killed_before_its_number_was_noted_is_aborted_too(
    gateway: Gateway, bucket: str, tmp_path: Path
):
    code = [sys.executable, "-c", DIE_AS_IT_BEGINS + UPLOAD, bucket]
    assert subprocess.run(code).returncode == -signal.SIGKILL
    assert uploads(gateway, bucket) == ["big.bin"]
    other = gateway.boto().create_multipart_upload(
        Bucket=bucket.removeprefix("s3://"), Key="big.bin.other"
    )
    assert other["UploadId"]
    with connect(bucket).create("other") as path:
        path.write_bytes(b"x")
    assert uploads(gateway, bucket) == ["big.bin.other"], "another's upload must stay"
    assert not list((tmp_path / "cache" / "spool").iterdir())


def test_an_upload_to_another_service_stays_noted_but_takes_no_room(
    gateway: Gateway, bucket: str, tmp_path: Path
):
    code = [sys.executable, "-c", DIE_AS_IT_BEGINS + UPLOAD, bucket]
    assert subprocess.run(code).returncode == -signal.SIGKILL
    config = StorageConfig(endpoint=gateway.url.replace("127.0.0.1", "localhost"))
    with connect(bucket, storage=config).create("other") as path:
        path.write_bytes(b"x")
    assert uploads(gateway, bucket) == ["big.bin"]
    assert [path.name for path in tmp_path.glob("cache/spool/*/*")] == [NOTE]


def test_of_several_who_write_once_one_succeeds_and_whoever_writes_the_same(either: Store):
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda n: either.write_once("m", b"%d" % (n % 4)), range(16)))
    winner = int(either.read("m"))
    assert [number for number in range(16) if told[number]] == list(range(winner, 16, 4))


def test_an_answer_that_was_lost_is_no_rival(fault_proxy: FaultProxy, store: Store):
    lost = []

    def lose(data: bytes) -> bytes | None:
        if lost or not data.startswith(b"HTTP/1.1 200"):
            return data
        lost.append(data)
        return None

    fault_proxy.edit = lose
    assert store.write_once("m", b"ours") and lost
    assert not store.write_once("m", b"theirs") and store.read("m") == b"ours"


def test_without_a_cache_a_path_needs_no_disk(bucket: str, tmp_path: Path):
    data = random.Random(3).randbytes(9 * MIB)
    connect(bucket).write("x", data)
    (tmp_path / "cache").rename(tmp_path / "before") if (tmp_path / "cache").exists() else None
    store = connect(bucket, None)
    assert store.local("x").read_bytes() == data and store.local("x").stat().st_size == len(data)
    assert not (tmp_path / "cache").exists()


def test_an_endpoint_in_the_config_is_taken_rather_than_the_environments(
    gateway: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    store = connect(bucket, storage=StorageConfig(endpoint=gateway.url))
    store.write("x", b"1")
    assert store.read("x") == store.local("x").read_bytes() == b"1"


def test_a_proxy_is_used_and_left_out_as_the_environment_says(
    gateway: Gateway, bucket: str, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
):
    # Asked for whole URLs, the gateway is its own forwarding proxy.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", gateway.url)
    monkeypatch.setenv("HTTP_PROXY", fault_proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("http_proxy", raising=False)
    store = connect(f"{bucket}/proxied")
    store.write("x", b"12345" * MIB)
    assert store.local("x").read_bytes() == b"12345" * MIB
    assert any(line.startswith(f"GET {gateway.url}/") for line in fault_proxy.requests)
    before = len(fault_proxy.requests)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect(f"{bucket}/proxied").size("x") == 5 * MIB
    assert len(fault_proxy.requests) == before


def test_a_body_read_to_its_end_lets_its_connection_serve_again(
    fault_proxy: FaultProxy, store: Store
):
    store.write("x", random.Random(4).randbytes(5 * MIB))
    for name in ("x", "x"):
        store.write(name, store.read(name))
        blob = store.open(name)
        blob.close()
    assert fault_proxy.connections == 1


def test_a_listing_goes_on_after_its_first_thousand(store: Store):
    names = [f"{number:04d}" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.write(name, b""), names))
    assert [entry.name for entry in store.list()] == names


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../../x", "a\0b"])
def test_a_name_never_leaves_the_prefix(name: str, store: Store):
    for act in (store.read, store.local, store.size, store.delete):
        with pytest.raises(StorageError, match="below the store's root"):
            act(name)


def test_a_bucket_whose_requesters_pay_is_read_by_who_agrees(gateway: Gateway, bucket: str):
    store = connect(f"{bucket}/p", storage=StorageConfig(requester_pays=True))
    gateway.boto().put_bucket_request_payment(
        Bucket=bucket.removeprefix("s3://"), RequestPaymentConfiguration={"Payer": "Requester"}
    )
    store.write("x", b"12")
    assert store.read("x") == store.local("x").read_bytes() == b"12"
    assert list(store.list()) == [Entry("x", 2)]
