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
from rsdl.storage.store import Entry, Store
from rsdl.storage.upload import NOTE

from .conftest import Gateway, wait_for

pytestmark = pytest.mark.ceph
MIB = 1 << 20

UPLOAD = """
import sys
from rsdl.storage.connect import connect
with connect(sys.argv[1]).create("big.bin") as path:
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
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
    spool = tmp_path / "cache" / "spool"

    def has_noted() -> bool:
        """Return whether the upload has begun and its process has written down which it is."""
        return any(note.stat().st_size for note in spool.glob(f"*/{NOTE}"))

    process = subprocess.Popen([sys.executable, "-c", UPLOAD, bucket])
    try:
        wait_for(has_noted)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    store = connect(bucket)
    assert store.size("big.bin") is None and uploads(gateway, bucket) == ["big.bin"]
    with store.create("other") as path:
        path.write_bytes(b"x")
    assert uploads(gateway, bucket) == [] and list(store.list()) == [Entry("other", 1)]


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
