"""What is held when: on a real cache, whose copies are made here."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from rsdl.core.errors import StorageError
from rsdl.data.index import Index, pack_rows
from rsdl.data.prefetch import Prefetcher
from rsdl.data.prefetch_schedule import ShardRequest
from rsdl.storage.cache.node_cache import NodeCache
from rsdl.storage.cache.shard_cache import NodeShardCache, Wanted
from rsdl.storage.store import FetchStatus
from tests.waiting import wait_for

SIZE = 10
WINDOW = 2
NUM = 8
# Windows of two shards, ten samples each; a window may come while the one before is read.
NEEDS = [
    ShardRequest(first=10 * w, stop=10 * w + 10, early=max(10 * w - 10, 0), shard=WINDOW * w + s)
    for w in range(NUM // WINDOW)
    for s in range(WINDOW)
]
INDEX = Index(pack_rows([]), np.ones(NUM, np.int64), [str(shard) for shard in range(NUM)])


class Setting:
    """A cache, a prefetcher on it, and what it has fetched."""

    def __init__(self, root: Path, size: int) -> None:
        self.cache = NodeCache(root, size)
        self.fetched: list[int] = []
        self.broken: set[int] = set()

        def wanted(name: str, sha256: str | None = None) -> Wanted:
            return Wanted(name, SIZE, lambda fd: self.fill(int(name), fd), ".tar")

        shard_cache = NodeShardCache(self.cache, wanted, wanted)
        self.prefetcher = Prefetcher(shard_cache, INDEX, iter(NEEDS), lead=1)

    def fill(self, shard: int, fd: int) -> None:
        if shard in self.broken:
            raise StorageError(str(shard), "is gone")
        os.pwrite(fd, bytes([shard]) * SIZE, 0)
        self.fetched.append(shard)

    def in_use(self) -> set[int]:
        """Return the shards that somebody holds."""
        held: set[int] = set()
        for path in (self.cache.root / "copies").glob("*.tar"):
            with suppress(FileNotFoundError):  # evicted meanwhile
                number = path.read_bytes()[0]
                held |= {number} if self.is_held(path) else set()
        return held

    @staticmethod
    def is_held(path: Path) -> bool:
        from rsdl.storage.cache.entries import CacheEntry

        return CacheEntry(0.0, 0, path).is_in_use()


@pytest.fixture
def open_setting(tmp_path: Path) -> Iterator[Callable[[int], Setting]]:
    """Return what makes a setting with a cache of so many shards."""
    made: list[Setting] = []

    def make(shards: int) -> Setting:
        made.append(Setting(tmp_path / str(len(made)), shards * SIZE))
        return made[-1]

    yield make
    for setting in made:
        setting.prefetcher.stop()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("ahead-")])
    assert not any(setting.in_use() for setting in made)


def test_two_windows_are_held_and_what_lies_behind_is_let_go(
    open_setting: Callable[[int], Setting],
):
    setting = open_setting(NUM)
    setting.prefetcher.start(0)
    wait_for(lambda: setting.in_use() == {0, 1, 2, 3})
    reader = setting.cache.hold("0", SIZE, lambda fd: None, ".tar", close_idle=True)
    assert reader is not None
    setting.prefetcher.tell(10)
    wait_for(lambda: setting.in_use() == {2, 3, 4, 5})
    assert reader.read(0, 1) is None
    setting.prefetcher.tell(20)
    wait_for(lambda: setting.in_use() == {4, 5, 6, 7})
    assert sorted(setting.fetched) == list(range(NUM))


def test_nothing_is_fetched_ahead_where_only_the_window_fits(
    open_setting: Callable[[int], Setting],
):
    setting = open_setting(WINDOW)
    setting.prefetcher.start(0)
    for window in range(NUM // WINDOW):
        now = {WINDOW * window, WINDOW * window + 1}
        wait_for(lambda now=now: setting.in_use() == now)
        assert set(setting.fetched) == set(range(WINDOW * window + WINDOW))
        setting.prefetcher.tell(10 * window + 10)
    assert len(setting.fetched) == NUM


def test_where_no_window_fits_what_fits_stays_until_it_is_read(
    open_setting: Callable[[int], Setting],
):
    setting = open_setting(1)
    setting.prefetcher.start(0)
    wait_for(lambda: len(setting.in_use()) == 1)
    first = setting.in_use()
    other = {0, 1} - first

    def ask() -> object:
        return setting.cache.fetch(str(*other), SIZE, lambda fd: None, ".tar", urgent=True)

    for _ in range(3):
        # The prefetcher may be hearing the same, with the shard's lock in its hands.
        wait_for(lambda: ask() is FetchStatus.FULL)
        assert setting.in_use() == first
    setting.prefetcher.tell(10)
    wait_for(lambda: setting.in_use() and setting.in_use() <= {2, 3})


def test_what_can_wait_makes_way_for_another_who_cannot(open_setting: Callable[[int], Setting]):
    setting = open_setting(2 * WINDOW)
    setting.prefetcher.start(0)
    wait_for(lambda: setting.in_use() == {0, 1, 2, 3})
    another = NodeCache(setting.cache.root, 2 * WINDOW * SIZE)

    def ask() -> bool:
        return not isinstance(another.fetch("x", SIZE, lambda fd: None, urgent=True), FetchStatus)

    assert not ask()
    wait_for(ask)
    assert {0, 1} <= setting.in_use()


def test_a_shard_that_cannot_be_had_keeps_no_other_from_coming(
    open_setting: Callable[[int], Setting],
):
    setting = open_setting(NUM)
    setting.broken = {0, 3}
    setting.prefetcher.start(0)
    wait_for(lambda: setting.in_use() == {1, 2})
    setting.prefetcher.tell(10)
    wait_for(lambda: setting.in_use() == {2, 4, 5})


def test_after_a_stop_nothing_is_held(open_setting: Callable[[int], Setting]):
    setting = open_setting(NUM)
    setting.prefetcher.start(0)
    setting.prefetcher.stop()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("ahead-")])
    assert not setting.in_use()
