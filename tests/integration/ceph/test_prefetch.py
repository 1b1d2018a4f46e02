"""Shards that are fetched before they are asked for, from a real gateway."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from rsdl.config.data import DataConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import StorageError
from rsdl.data.crop import CropRule
from rsdl.data.dataset import DataSet, eval_plan, train_plan
from rsdl.data.loader import BatchLoader, LoadRule
from rsdl.data.manifest import Shard
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.plan import Share
from rsdl.data.sources.folder import FolderSource
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.node_cache import CACHE_LOCK
from rsdl.storage.connect import connect
from rsdl.storage.locks import exclusive
from tests.conftest import draw_tree

from .conftest import Gateway, wait_for
from .fault_proxy import FaultProxy

pytestmark = pytest.mark.ceph
WINDOW = 4
LIMIT_S = 60


@pytest.fixture
def local(tmp_path: Path) -> str:
    """Return a data set of 15 training shards of one or two samples."""
    url = str(tmp_path / "many")
    source = FolderSource(draw_tree(tmp_path / "tree"), fractions=(0.9, 0.05, 0.05))
    pack(source, connect(url), PackOptions(shard_bytes=7000, num_workers=1))
    return url


@pytest.fixture
def remote(local: str, bucket: str) -> str:
    """Return the URL of the same in a bucket."""
    store = connect(f"{bucket}/many")
    for entry in connect(local).list():
        store.write(entry.name, connect(local).read(entry.name))
    return store.url


def shards_of(url: str) -> tuple[Shard, ...]:
    return DataSet(DataConfig(url=url)).manifest.splits["train"].shards


def config_of(url: str, folder: Path | None = None, size: int = 10**9) -> DataConfig:
    cache = {} if folder is None else {"cache": CacheConfig(folder=str(folder), size=size)}
    # What is kept of decoded pixels would spare shards, and looks into a few of them first.
    return DataConfig(url=url, batch_size=4, window=WINDOW, decoded_cache="off", **cache)


def loader_of(config: DataConfig, epoch: int = 0, share: Share | None = None) -> BatchLoader:
    data = DataSet(config).split("train", "data.train_split")
    plan = train_plan(config, data, seed=1, epoch=epoch)
    rule = LoadRule(16, CropRule(True), num_workers=2, prefetch=1)
    loader = BatchLoader(data, plan, share or Share(), rule)
    loader.following = lambda: train_plan(config, data, seed=1, epoch=epoch + 1)
    return loader


def copies_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("copies/*.tar")]


def size_of(path: Path) -> int:
    """Return the bytes of a copy, which may be gone by now."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.samples, other.samples)


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead-")]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    wait_for(lambda: not ahead_threads())


def test_the_next_window_comes_while_the_first_is_read_and_not_the_one_after(
    remote: str, tmp_path: Path
):
    folder = tmp_path / "own"
    loader = loader_of(config_of(remote, folder))
    with closing(iter(loader)) as batches:
        next(batches)
        # The loader is two batches ahead, in the second window, so that the third may come.
        wait_for(lambda: len(copies_in(folder)) >= 2 * WINDOW)
        wait_for(lambda: not list(folder.glob("copies/*.part")))
        assert len(copies_in(folder)) <= 3 * WINDOW < len(shards_of(remote))


def test_everything_is_fetched_once_and_the_next_epoch_s_first_window_is_there(
    fault_proxy: FaultProxy, remote: str, local: str, tmp_path: Path
):
    names = [shard.name for shard in shards_of(remote)]
    fault_proxy.requests.clear()
    config = config_of(remote, tmp_path / "own")
    for epoch in range(2):
        theirs = list(loader_of(config_of(local), epoch))
        assert_same(list(loader_of(config, epoch)), theirs)
    for name in names:
        gets = [line for line in fault_proxy.requests if line.startswith("GET") and name in line]
        assert len(gets) == 1


@pytest.mark.parametrize("windows", [0.3, 1.0, 2.5])
def test_any_cache_gives_the_same_batches_within_its_size_and_draws_no_byte_again_and_again(
    windows: float, fault_proxy: FaultProxy, remote: str, local: str, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    shards, folder = shards_of(remote), tmp_path / "own"
    window = sum(sorted(shard.bytes for shard in shards)[-WINDOW:])
    loader = loader_of(config_of(remote, folder, int(windows * window)))
    fault_proxy.requests.clear()
    drawn, most, ours = 0, 0, []

    def count(data: bytes) -> bytes:
        nonlocal drawn
        drawn += len(data)
        return data

    fault_proxy.edit = count
    for batch in loader:
        ours.append(batch)
        # Room is made and taken behind this gate: nothing is counted that makes way for another.
        with exclusive(folder / CACHE_LOCK, LIMIT_S):
            most = max(most, sum(map(size_of, folder.glob("copies/*"))))
    assert most <= int(windows * window)
    assert_same(ours, list(loader_of(config_of(local))))
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    if windows < 1:
        assert len(warnings) == 1 and f"{window / 1e6:,.1f} MB or more" in warnings[0]
    # Where two windows meet one may have to wait for the other.
    assert len(warnings) <= (windows < 2)
    # Once by range and once as a whole at the most; and the next epoch's first window.
    total = sum(shard.bytes for shard in shards)
    assert drawn <= 2 * total + window + 1000 * len(fault_proxy.requests)


def test_an_evaluation_is_fetched_ahead_too(remote: str, local: str, tmp_path: Path):
    def loader(config: DataConfig) -> BatchLoader:
        data = DataSet(config).split("train", "data.val_split")
        return BatchLoader(data, eval_plan(config, data), Share(), LoadRule(16, CropRule()))

    config = config_of(remote, tmp_path / "own")
    assert_same(list(loader(config)), list(loader(config_of(local))))


def test_a_shard_that_is_gone_is_an_error_only_once_it_is_needed(
    remote: str, tmp_path: Path, gateway: Gateway
):
    loader = loader_of(config_of(remote, tmp_path / "own"))
    last = list(loader.plan.batches(Share()))[-1].samples
    shard = int(loader._data.index.shards_of(last)[0])
    connect(remote).delete(loader._data.index.shard_names[shard])
    got = 0
    with pytest.raises(StorageError, match="no such object"):
        for _ in loader:
            got += 1
    assert got >= len(loader) - 5


def test_leaving_an_epoch_leaves_no_thread_and_no_open_file(remote: str, tmp_path: Path):
    config = config_of(remote, tmp_path / "own")
    open_files = []
    for epoch in range(6):
        with closing(iter(loader_of(config, epoch))) as batches:
            list(itertools.islice(batches, 3))
        wait_for(lambda: not ahead_threads())
        open_files.append(
            sum(os.path.realpath(f"/proc/self/fd/{fd}").startswith(str(tmp_path / "own"))
                for fd in os.listdir("/proc/self/fd"))
        )  # fmt: skip
    # What a thread keeps of index files by their paths.
    assert max(open_files[2:]) <= 6


RANK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from rsdl.data.plan import Share
from tests.integration.ceph.test_prefetch import config_of, loader_of
url, folder, size, rank, world = sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:7])
for epoch in range(3):
    for batch in loader_of(config_of(url, folder, size), epoch, Share(rank, world)):
        print(*batch.samples.tolist(), flush=True)
"""


def start_rank(url: str, folder: Path, size: int, rank: int, world: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[3])
    arguments = [sys.executable, "-c", RANK, root, url, str(folder), *map(str, (size, rank, world))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_ranks_on_one_tiny_cache_all_come_to_the_end(
    share: float, remote: str, local: str, tmp_path: Path
):
    size = int(share * sum(sorted(shard.bytes for shard in shards_of(remote))[-WINDOW:]))
    ranks = [start_rank(remote, tmp_path / "own", size, rank, 2) for rank in range(2)]
    said = [process.communicate()[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert sum(p.stat().st_size for p in (tmp_path / "own").glob("copies/*")) <= size
    for rank, text in enumerate(said):
        expected = [
            batch.samples.tolist()
            for epoch in range(3)
            for batch in loader_of(config_of(local), epoch, Share(rank, 2))
        ]
        assert [[int(word) for word in line.split()] for line in text.splitlines()] == expected


@pytest.mark.slow
def test_what_a_process_killed_while_fetching_leaves_is_cleaned_by_the_next_start(
    remote: str, local: str, tmp_path: Path, fault_proxy: FaultProxy
):
    folder = tmp_path / "own"
    held = threading.Event()

    def stall(data: bytes) -> bytes | None:
        if len(data) > 3000 and list(folder.glob("copies/*.tar.part")):
            held.set()
            return data[:1000] if held.is_set() else data
        return data

    fault_proxy.edit = stall
    process = start_rank(remote, folder, 10**9, 0, 1)
    try:
        assert held.wait(60)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    fault_proxy.edit = None
    assert list(folder.glob("copies/*.part"))
    assert_same(list(loader_of(config_of(remote, folder))), list(loader_of(config_of(local))))
    wait_for(lambda: not ahead_threads())
    assert {path.suffix for path in folder.glob("copies/*")} == {".tar", ".npy"}


def test_streaming_without_a_disk_fetches_nothing_ahead(
    remote: str, local: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    config = DataConfig(url=remote, batch_size=4, window=WINDOW, cache="none")
    ours = []
    for batch in loader_of(config):
        ours.append(batch)
        assert not ahead_threads()
    assert_same(ours, list(loader_of(config_of(local))))
    assert not copies_in(tmp_path / "cache")
