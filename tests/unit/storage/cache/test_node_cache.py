import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsdl.core.errors import StorageError
from rsdl.storage.cache import node_cache as room
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.node_cache import NodeCache, clear_cache
from rsdl.storage.locks import SharedLock, exclusive, exclusive_if_soon, lock_file
from rsdl.storage.store import FetchStatus


def filler(content: bytes) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        assert os.pwrite(fd, content, 0) == len(content)

    return fill


def hold(
    cache: NodeCache, name: str, size: int = 10, *, close_idle: bool = False
) -> SharedLock | None:
    content = filler(name.encode().ljust(size)[:size])
    return cache.hold(name, size, content, close_idle=close_idle)


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
    idle = hold(cache, "a", close_idle=True)
    assert idle is not None and hold(cache, "b") is None
    monkeypatch.setattr(room, "IDLE_S", 0.0)
    assert hold(cache, "b") is not None
    assert idle.read(0, 1) is None


def test_a_file_that_is_read_by_its_path_is_never_taken_for_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "IDLE_S", 0.0)
    cache = NodeCache(tmp_path, 10)
    held = hold(cache, "a")
    assert held is not None and hold(cache, "b") is None
    assert held.path.read_bytes() == b"a         "


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
    assert clear_cache(tmp_path) == 7 and cache.usage() == (1, 10)


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        NodeCache(tmp_path / "file" / "cache", 10)


def test_the_folder_is_the_configs_then_the_environments(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RSDL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert CacheConfig().root == Path("/x/rsdl/store")
    monkeypatch.setenv("RSDL_CACHE", "/y")
    assert CacheConfig().root == Path("/y")
    assert CacheConfig(folder="/z").root == Path("/z")
    assert CacheConfig.model_validate({"size": "2GB"}).size == 2 * 10**9


def fetch(cache: NodeCache, name: str, size: int = 10, *, urgent: bool = False) -> object:
    return cache.fetch(name, size, filler(name.encode().ljust(size)[:size]), urgent=urgent)


def test_what_can_wait_takes_no_room_from_what_is_held_nor_from_those_refused(tmp_path: Path):
    cache = NodeCache(tmp_path, 30)
    now = fetch(cache, "a", 20, urgent=True)
    assert isinstance(now, SharedLock)
    assert fetch(cache, "b", 20) is FetchStatus.FULL and not cache.is_pressed()
    early = fetch(cache, "c", 10)
    assert isinstance(early, SharedLock)
    assert fetch(cache, "d", 10, urgent=True) is FetchStatus.FULL and cache.is_pressed()
    early.close()
    assert fetch(cache, "e", 10) is FetchStatus.FULL  # somebody is short of it
    assert isinstance(fetch(cache, "d", 10, urgent=True), SharedLock)
    assert now.read(0, 1) == b"a"


def test_the_pressure_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = NodeCache(tmp_path, 10)
    assert fetch(cache, "a", 20, urgent=True) is FetchStatus.FULL
    assert fetch(cache, "b") is FetchStatus.FULL
    monkeypatch.setattr(room, "PRESSURE_S", 0.0)
    assert isinstance(fetch(cache, "b"), SharedLock)


def test_what_another_fetches_is_not_waited_for_by_who_fetches_ahead(tmp_path: Path):
    cache, go, begun = NodeCache(tmp_path, 100), threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        begun.set()
        go.wait()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(cache.hold, "a", 10, slow)
        begun.wait()
        assert fetch(cache, "a") is FetchStatus.BUSY
        go.set()
        future.result()
    assert isinstance(fetch(cache, "a"), SharedLock)


def test_those_who_waited_for_a_fetch_that_failed_hear_why_and_later_ones_try_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache, go, begun = NodeCache(tmp_path, 100), threading.Event(), threading.Event()
    waits = threading.Event()

    def pauses() -> Iterator[float]:
        yield 0.001  # taken before the first attempt
        waits.set()
        go.wait()
        while True:
            yield 0.001

    monkeypatch.setattr(room, "pauses", pauses)

    def fail(fd: int) -> None:
        begun.set()
        go.wait()
        raise StorageError("a", "is gone")

    with ThreadPoolExecutor(2) as pool:
        ahead = pool.submit(cache.fetch, "a", 10, fail)
        begun.wait()
        tries: list[int] = []
        waiting = pool.submit(cache.hold, "a", 10, tries.append)
        waits.wait()
        go.set()
        for future in (ahead, waiting):
            with pytest.raises(StorageError, match="is gone"):
                future.result()
    assert not tries
    assert hold(cache, "a") is not None


HOLDER = """
import sys, time
from pathlib import Path
from rsdl.storage.cache.node_cache import NodeCache, clear_cache
def fill(fd):
    print("begun", flush=True)
    time.sleep(3600)
NodeCache(Path(sys.argv[1]), 100).hold("a", 10, fill)
"""


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
def test_a_downloader_that_was_stopped_or_killed_holds_nobody_up(
    end: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        process.send_signal(end)
        if end is signal.SIGKILL:
            process.wait()
        monkeypatch.setattr(room, "STALL_S", 0.2)
        cache = NodeCache(tmp_path, 100)
        pin = hold(cache, "a")
        # One who is stopped may go on, so that it keeps its turn: others read by range.
        assert (pin is None) == (end is signal.SIGSTOP)
        assert hold(cache, "b") is not None
    finally:
        process.kill()
        process.communicate()
    assert hold(cache, "a") is not None
    assert not [name for name in names_in(tmp_path) if name.endswith((".part", ".turn"))]


def test_a_gate_that_stays_shut_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = NodeCache(tmp_path, 100)
    monkeypatch.setattr(room, "STALL_S", 0.05)
    with exclusive(tmp_path / room.CACHE_LOCK, 1):
        assert hold(cache, "a") is None
        with pytest.raises(StorageError):
            clear_cache(tmp_path)
    assert hold(cache, "a") is not None


def test_releasing_closes_readers_and_spares_what_is_fetched_ahead(tmp_path: Path):
    cache = NodeCache(tmp_path, 100)
    reader, other = (hold(cache, name, close_idle=True) for name in "ab")
    ahead = fetch(cache, "a")
    assert reader is not None and other is not None and isinstance(ahead, SharedLock)
    cache.release("a")
    assert reader.read(0, 1) is None
    assert other.read(0, 1) == b"b" and ahead.read(0, 1) == b"a"
    assert clear_cache(tmp_path) == 0


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path):
    cache = NodeCache(tmp_path / "cache", 100)
    shutil.rmtree(tmp_path / "cache")
    pin = hold(cache, "a")
    assert pin is not None and cache.usage() == (1, 10)


def test_what_is_being_renamed_is_counted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A listing that runs beside a renaming may see neither name."""
    cache, rename = NodeCache(tmp_path, 10), os.rename
    counting: list[bool] = []

    def look(source: Path, target: Path) -> None:
        gate = lock_file(tmp_path / room.CACHE_LOCK, create=True, wait=False)
        counting.append(gate is not None)
        if gate is not None:
            os.close(gate)
        rename(source, target)

    monkeypatch.setattr("rsdl.storage.cache.node_cache.os.rename", look)
    assert isinstance(cache.fetch("x", 10, lambda fd: None, urgent=True), SharedLock)
    assert counting == [False], "somebody may count while a copy has no name"


def test_a_gate_that_stays_shut_holds_no_copy_up_for_good(tmp_path: Path):
    with exclusive(tmp_path / "gate", 1), exclusive_if_soon(tmp_path / "gate", 0.05):
        pass
