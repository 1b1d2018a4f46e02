"""A node's copies of what lies in object stores, shared by every process of the node.

A copy is one file, named by what it is a copy of. Readers hold a shared lock on the file itself,
which the kernel releases when they die. Who wants a copy that is being fetched waits for a download
lock beside it, since the copy itself may stay in use for ever. There is no index to be wrong after
a kill. Room is made by dropping the copies used least recently, never one in use; where that is not
enough the caller is told, and reads by range instead.

Nobody waits without end: a process that holds the download lock and gets nowhere, being stopped or
cut off from the store, is waited for until ``STALL_S`` have passed, and then the copy is done
without.
"""

import logging
import os
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rsdl.core.errors import RsdlError
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.entries import (
    DOWNLOAD_LOCK,
    FOLDER,
    PART,
    drop,
    entry_name,
    list_entries,
    sweep,
)
from rsdl.storage.local import translate
from rsdl.storage.locks import SharedLock, exclusive, exclusive_if_soon, lock_file, pauses
from rsdl.storage.store import FetchStatus

logger = logging.getLogger(__name__)

CACHE_LOCK = "gate"

# A reader that has not read for so long can do with opening its file again.
IDLE_S = 10.0

# Longer than a read may take to time out, shorter than anybody's patience with a hung process.
STALL_S = 30.0

# For so long after somebody was refused room, nobody takes any for what can wait.
PRESSURE_S = 5.0

# The last of a disk is left to others.
SPARE_SHARE = 0.02


class NodeCache:
    """The copies in one folder. For any number of threads and processes.

    Args:
        root: The folder; made when something is first kept.
        size: Bytes that it may hold.
    """

    def __init__(self, root: Path, size: int) -> None:
        self.root = root
        self.size = size
        self._folder = root / FOLDER
        self._cache_lock = root / CACHE_LOCK
        self._pressure = root / "pressure"
        self._pins: weakref.WeakSet[SharedLock] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._failures: dict[Path, tuple[float, RsdlError]] = {}
        self._told = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise translate(error, root) from error
        sweep(root)

    def hold(
        self,
        name: str,
        size: int,
        fill: Callable[[int], None],
        suffix: str = "",
        *,
        lasting: bool = False,
    ) -> SharedLock | None:
        """Return a pin on a copy, which one process fetches while the others wait.

        Args:
            name: What it is a copy of.
            size: Its bytes.
            fill: Writes them to an open file.
            suffix: The file's extension; an odd one is left out.
            lasting: Whether the copy stays in use even where the pin is not read from for long.

        Returns:
            The lock on it; ``None`` where there is no room, or whoever fetches it gets nowhere.
        """
        path = self._folder / entry_name(name, suffix)
        begin = time.time()
        for pause in pauses():
            failed_at, error = self._failures.get(path, (0.0, None))
            if error is not None and failed_at > begin and not path.exists():
                raise error  # of whom we waited for, who has tried for long enough
            outcome = self._get(path, size, fill, urgent=True)
            if isinstance(outcome, SharedLock):
                if not lasting:
                    self._watch(outcome)
                return outcome
            if outcome is FetchStatus.FULL or self._is_stalled(path, begin):
                return None
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def fetch(
        self,
        name: str,
        size: int,
        fill: Callable[[int], None],
        suffix: str = "",
        *,
        urgent: bool = False,
    ) -> SharedLock | FetchStatus:
        """Return a pin on a copy, fetching it if nobody else does, and never waiting for others.

        Args:
            name: What it is a copy of.
            size: Its bytes.
            fill: Writes them to an open file.
            suffix: The file's extension; an odd one is left out.
            urgent: Whether it is read now; else it takes no room that others are short of.

        Returns:
            A lasting pin, or why there is none.
        """
        return self._get(self._folder / entry_name(name, suffix), size, fill, urgent=urgent)

    def take(self, name: str, suffix: str = "") -> SharedLock | None:
        """Return a pin on a copy that is there already."""
        try:
            pin = SharedLock.take(self._folder / entry_name(name, suffix))
        except OSError as error:
            raise translate(error, self.root) from error
        if pin is not None:
            self._watch(pin)
        return pin

    def release(self, name: str, suffix: str = "") -> None:
        """Let go of a copy for every reader of this process; one that goes on pins it anew."""
        path = self._folder / entry_name(name, suffix)
        for pin in self._watched():
            if pin.path == path:
                pin.close()

    def is_pressed(self) -> bool:
        """Return whether any process was lately refused room for what it reads now."""
        try:
            return time.time() - self._pressure.stat().st_mtime < PRESSURE_S
        except OSError:
            return False

    def expect(self, size: int, *, loud: bool = True) -> None:
        """Say how many bytes of shards are read side by side.

        Where they do not fit, that is said once and for all: here if ``loud``, else elsewhere.
        """
        if size > self.size:
            self._told = self._told or not loud
            self._warn(
                f"{self.size / 1e6:,.1f} MB cannot hold the {size / 1e6:,.1f} MB of shards that "
                "are shuffled together (data.window): the rest is read by range, slower; give it "
                f"{size / 1e6:,.1f} MB or more, twice that to fetch ahead"
            )

    def clear(self) -> int:
        """Remove every copy that is not in use and return how many bytes that freed."""
        return clear_cache(self.root)

    def usage(self) -> tuple[int, int]:
        """Return the number of copies and their bytes."""
        entries = list_entries(self.root)
        return len(entries), sum(entry.size for entry in entries)

    def _get(
        self, path: Path, size: int, fill: Callable[[int], None], *, urgent: bool
    ) -> SharedLock | FetchStatus:
        try:
            if (pin := SharedLock.take(path)) is not None:
                return pin
            if not urgent and self.is_pressed():
                return FetchStatus.FULL
            download_lock = path.with_name(path.name + DOWNLOAD_LOCK)
            fd = lock_file(download_lock, create=True, wait=False)
            if fd is None:
                return FetchStatus.BUSY
            try:
                if not path.exists() and not self._fill(path, size, fill, urgent=urgent):
                    return FetchStatus.FULL
            finally:
                download_lock.unlink(missing_ok=True)
                os.close(fd)
            return SharedLock.take(path) or FetchStatus.BUSY
        except OSError as error:
            raise translate(error, self.root) from error

    def _fill(self, path: Path, size: int, fill: Callable[[int], None], *, urgent: bool) -> bool:
        part = path.with_name(path.name + PART)
        while (fd := lock_file(part, create=True, wait=True)) is None:
            pass  # it was being swept away
        try:
            if not self._admit(fd, size, urgent=urgent):
                part.unlink()
                return False
            fill(fd)
            os.fdatasync(fd)
            os.utime(fd)
            # While nobody counts: a listing may miss what is renamed meanwhile, by both names.
            with exclusive_if_soon(self._cache_lock, STALL_S):
                os.rename(part, path)
        except BaseException as error:
            with suppress(OSError):
                part.unlink()
            if isinstance(error, RsdlError):
                self._failures[path] = time.time(), error
            raise
        finally:
            os.close(fd)
        self._failures.pop(path, None)
        return True

    def _admit(self, fd: int, size: int, *, urgent: bool) -> bool:
        """Give an open part its full size, if there is room or room can be made."""
        os.ftruncate(fd, 0)  # what a killed run left in it
        try:
            with exclusive(self._cache_lock, STALL_S):
                if not self._make_room(size, urgent=urgent):
                    return False
                if size:
                    os.posix_fallocate(fd, 0, size)
                return True
        except OSError as error:  # a full disk, or one who was stopped at the gate
            os.ftruncate(fd, 0)
            self._warn(f"cannot keep {size / 1e6:,.0f} MB: {error.strerror or error}")
            return False

    def _make_room(self, size: int, *, urgent: bool) -> bool:
        entries = list_entries(self.root)
        used = sum(entry.size for entry in entries)
        disk = shutil.disk_usage(self.root)
        room = min(self.size - used, disk.free - int(disk.total * SPARE_SHARE))
        if size > room and urgent:
            self._release_idle()
        for entry in entries:
            if size <= room:
                break
            if drop(entry.path):
                room += entry.size
                used -= entry.size
        if size > room and urgent:
            self._pressure.touch()
            self._warn(
                f"{used / 1e6:,.1f} MB are in use and {size / 1e6:,.1f} MB more are wanted: the "
                f"rest is read by range, slower; give it {(used + size) / 1e6:,.1f} MB or more"
            )
        return size <= room

    def _is_stalled(self, path: Path, begin: float) -> bool:
        """Return whether whoever fetches a copy has not got on for long."""
        moved = begin
        with suppress(OSError):
            moved = max(begin, path.with_name(path.name + PART).stat().st_mtime)
        return time.time() - moved > STALL_S

    def _watch(self, pin: SharedLock) -> None:
        with self._lock:
            self._pins.add(pin)

    def _watched(self) -> list[SharedLock]:
        with self._lock:
            return list(self._pins)

    def _release_idle(self) -> None:
        for pin in self._watched():
            if time.monotonic() - pin.used_at > IDLE_S:
                pin.close()

    def _warn(self, problem: str) -> None:
        if not self._told:
            self._told = True
            logger.warning("data.cache.size at %s: %s", self.root, problem)


def clear_cache(root: Path) -> int:
    """Remove every copy of a cache that is not in use and return how many bytes that freed."""
    try:
        with exclusive(root / CACHE_LOCK, STALL_S):
            return sum(entry.size for entry in list_entries(root) if drop(entry.path))
    except OSError as error:
        raise translate(error, root) from error


def open_cache(config: CacheConfig) -> NodeCache:
    """Return this process's cache in a folder; one object, so that it knows all of its readers."""
    key = (os.getpid(), config.root.absolute(), int(config.size))
    with _lock:
        if key not in _caches:
            _caches[key] = NodeCache(key[1], key[2])
        return _caches[key]


_caches: dict[tuple[int, Path, int], NodeCache] = {}
_lock = threading.Lock()
