import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsdl.core.errors import StorageError
from rsdl.storage import cache as room
from rsdl.storage.cache import CacheConfig, NodeCache


def filler(content: bytes) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        assert os.pwrite(fd, content, 0) == len(content)

    return fill


def hold(cache: NodeCache, name: str, size: int = 10) -> room.Pin | None:
    return cache.hold(name, size, filler(name.encode().ljust(size)[:size]))


def names_in(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "copies").iterdir())


def test_a_copy_is_filled_once_and_then_found(tmp_path: Path):
    cache = NodeCache(tmp_path, 100)
    first = hold(cache, "a")
    assert first is not None and first.read(0, 10) == b"a         "

    def fail(fd: int) -> None:
        raise AssertionError("filled twice")

    again = NodeCache(tmp_path, 100).hold("a", 10, fail)
    assert again is not None and again.path == first.path and again.read(8, 9) == b"  "


def test_many_threads_that_keep_what_they_hold_wait_for_one_filler(tmp_path: Path):
    cache, filled = NodeCache(tmp_path, 10**6), []

    def fill(fd: int) -> None:
        filled.append(fd)
        time.sleep(0.01)
        os.pwrite(fd, b"x" * 10, 0)

    with ThreadPoolExecutor(16) as pool:
        for number in range(20):
            futures = [pool.submit(cache.hold, f"{number}", 10, fill) for _ in range(16)]
            pins = [future.result(timeout=20) for future in futures]
            assert all(pin is not None and pin.read(0, 10) == b"x" * 10 for pin in pins)
    assert len(filled) == 20 and len(names_in(tmp_path)) == 20


def test_what_was_used_last_stays_longest(tmp_path: Path):
    cache = NodeCache(tmp_path, 30)
    for name in ("a", "b", "c", "a", "d"):
        pin = hold(cache, name)
        assert pin is not None
        pin.close()
        time.sleep(0.002)
    kept = {(tmp_path / "copies" / name).read_bytes().strip() for name in names_in(tmp_path)}
    assert kept == {b"a", b"c", b"d"}


def test_what_is_in_use_is_never_dropped_and_the_warning_says_what_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    cache = NodeCache(tmp_path, 30 * 10**6)
    held = hold(cache, "a", 20 * 10**6)
    assert held is not None
    assert hold(cache, "b", 20 * 10**6) is None
    assert hold(cache, "c", 20 * 10**6) is None
    assert held.path.exists() and held.read(0, 1) == b"a"
    assert [record.message for record in caplog.records] == [
        f"data.cache.size at {tmp_path}: 20.0 MB are in use and 20.0 MB more are wanted: the rest "
        "is read by range, slower; give it 40.0 MB or more"
    ]
    held.close()
    assert hold(cache, "b", 20 * 10**6) is not None


def test_a_reader_that_has_gone_idle_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = NodeCache(tmp_path, 10)
    idle = hold(cache, "a")
    assert idle is not None and hold(cache, "b") is None
    monkeypatch.setattr(room, "IDLE_S", 0.0)
    assert hold(cache, "b") is not None
    assert idle.read(0, 1) is None


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(0, 60),
    wishes=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30), st.booleans()), max_size=25),
)
def test_never_more_than_its_size_and_never_wrong_bytes(
    size: int, wishes: list[tuple[int, int, bool]], tmp_path_factory: pytest.TempPathFactory
):
    root = tmp_path_factory.mktemp("cache")
    cache, held = NodeCache(root, size), []
    for number, length, keep in wishes:
        name = f"{number}-{length}"
        pin = hold(cache, name, length)
        if pin is not None:
            assert pin.read(0, 99) == name.encode().ljust(length)[:length]
            held.append(pin)
            if not keep:
                held.pop().close()
        assert cache.usage()[1] <= size
    assert all(pin.path.exists() for pin in held)


def test_a_failure_leaves_nothing_and_the_next_one_tries_again(tmp_path: Path):
    cache = NodeCache(tmp_path, 100)

    def fail(fd: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.hold("a", 10, fail)
    assert names_in(tmp_path) == []
    assert hold(cache, "a") is not None


def test_a_start_sweeps_what_the_dead_left_and_spares_the_living(tmp_path: Path):
    cache, go, begun = NodeCache(tmp_path, 100), threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        begun.set()
        go.wait()
        os.pwrite(fd, b"x" * 10, 0)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(cache.hold, "a", 10, slow)
        begun.wait()
        for name in ("dead.part", "dead.turn"):
            (tmp_path / "copies" / name).write_bytes(b"half")
        NodeCache(tmp_path, 100)
        assert not [name for name in names_in(tmp_path) if name.startswith("dead")]
        go.set()
        pin = future.result()
    assert pin is not None and pin.read(0, 10) == b"x" * 10


def test_clearing_frees_all_that_is_not_in_use(tmp_path: Path):
    cache = NodeCache(tmp_path, 100)
    held, other = hold(cache, "a"), hold(cache, "b", 7)
    assert held is not None and other is not None
    other.close()
    assert cache.clear() == 7 and cache.usage() == (1, 10)


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        NodeCache(tmp_path / "file" / "cache", 10)


def test_the_folder_is_the_configs_then_the_environments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert CacheConfig().root == Path("/x/rsdl/store")
    monkeypatch.setenv("RSDL_CACHE", "/y")
    assert CacheConfig().root == Path("/y")
    assert CacheConfig(folder="/z").root == Path("/z")
    assert CacheConfig.model_validate({"size": "2GB"}).size == 2 * 10**9
