"""One cache for all processes of a node."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet
from rsdl.data.reader import ShardReader
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.connect import connect
from rsdl.storage.store import Store

from .conftest import wait_for
from .fault_proxy import FaultProxy

pytestmark = pytest.mark.ceph
MIB = 1 << 20

FETCH = """
import sys
from concurrent.futures import ThreadPoolExecutor
from rsdl.storage.connect import connect
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    paths = set(pool.map(lambda _: connect(sys.argv[1]).local("x.bin"), range(4)))
assert len(paths) == 1 and paths.pop().read_bytes() == b"abcd" * (1 << 20)
"""


def read_all(config: DataConfig) -> list[bytes]:
    """Read every training sample twice, in an order that jumps between shards."""
    data = DataSet(config).split("train", "split")
    reader = ShardReader(data.store, data.index.shard_names, data.index.shard_sha256s)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(data.index)), 2))
    shards, rows = data.index.shards_of(order), data.index.rows[order]
    pairs = zip(shards, rows, strict=True)
    found = [reader.read(int(s), int(r["offset"]), int(r["length"])) for s, r in pairs]
    reader.close()
    return found


def test_many_processes_and_threads_fetch_an_object_once(store: Store, fault_proxy: FaultProxy):
    connect(store.url).write("x.bin", b"abcd" * MIB)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCH, store.url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(line.startswith("GET") for line in fault_proxy.requests) == 1


def test_a_killed_downloader_keeps_nobody_waiting(
    store: Store, fault_proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    connect(store.url).write("x.bin", b"abcd" * MIB)
    passed = 0

    def stall(data: bytes) -> bytes | None:
        nonlocal passed
        passed += len(data)
        return data if passed < MIB else b""

    fault_proxy.edit = stall
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, store.url], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
        wait_for(lambda: passed > MIB)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert list((tmp_path / "cache" / "copies").glob("*.part"))
    fault_proxy.edit = None
    assert store.local("x.bin").read_bytes() == b"abcd" * MIB
    assert [path.suffix for path in (tmp_path / "cache" / "copies").iterdir()] == [".bin"]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.5])
def test_a_cache_of_any_size_gives_the_same_samples_within_its_size(
    share: float, remote: str, packed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    split = DataSet(DataConfig(url=packed)).manifest.splits["train"]
    total = split.index.bytes + sum(shard.bytes for shard in split.shards)
    folder = tmp_path / "small"
    size = split.index.bytes + int(share * total)
    cache = CacheConfig(folder=str(folder), size=size)
    assert read_all(DataConfig(url=remote, cache=cache)) == read_all(DataConfig(url=packed))
    assert sum(path.stat().st_size for path in folder.rglob("copies/*")) <= size
    assert ("data.cache.size" in caplog.text and "give it" in caplog.text) == (share < 1)


def test_without_a_cache_the_samples_are_the_same(remote: str, packed: str):
    assert read_all(DataConfig(url=remote, cache="none")) == read_all(DataConfig(url=packed))


def test_a_path_is_given_even_where_the_cache_has_no_room(store: Store, tmp_path: Path):
    small = connect(store.url, CacheConfig(folder=str(tmp_path / "small"), size=1))
    for number in range(8):
        store.write(f"{number}.bin", bytes([number]) * 1000)
        path = small.local(f"{number}.bin")
        assert path.read_bytes() == bytes([number]) * 1000
    assert len(list((tmp_path / "small").rglob("*.bin"))) == 4


def test_a_full_disk_is_read_past(remote: str, packed: str, small_disk: Path):
    cache = CacheConfig(folder=str(small_disk / "cache"))
    (small_disk / "ballast").write_bytes(bytes(1000 * 1024))
    assert read_all(DataConfig(url=remote, cache=cache)) == read_all(DataConfig(url=packed))
