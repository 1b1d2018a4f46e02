"""A node's cache of objects from object stores, shared by every process of the node.

An entry is one file, named by a hash of its source. Readers hold a shared lock on the file itself;
the kernel releases it when they die. A process that needs an entry while another downloads it waits
for a separate download lock, since the file itself may stay in use indefinitely. There is no index,
so a kill cannot leave a wrong one. Eviction removes the least recently used entries, never one in
use; where that does not free enough, the caller gets ``None`` or a status and reads by range.

Shards of a later window, fetched ahead, are not urgent: they take no room from those that are read
now, of any process. Under pressure, which is a file that urgent requests without room touch, the
processes release them. Measured with two processes whose windows last 30 s: where the cache holds
the two windows in use and no more, 2 and 4% of the reads go by range, and 10 and 17% without the
pressure file; with room for half a window more, below 1% and up to 8%. What makes way is fetched
again, up to 1.7 times in all, at 0.05 ms of a core a sample; a read by range costs 2 ms.

Every wait is bounded: when a process holds the download lock but makes no progress for ``STALL_S``
(suspended, or cut off from the store), the waiters go on without the entry.
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

# A lock not read for this long may be closed; its reader then reopens the file.
IDLE_S = 10.0

# Longer than a read timeout; short enough not to hang a run on a suspended process.
STALL_S = 30.0

# For this long after an urgent request found no room, non-urgent requests take none.
PRESSURE_S = 5.0

# This share of the disk stays free for other programs.
SPARE_SHARE = 0.02


class NodeCache:
    """The cached files in one folder; safe for threads and processes.

    Args:
        root: The folder; created if missing.
        size: Size limit in bytes.
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
        close_idle: bool = False,
    ) -> SharedLock | None:
        """Return a shared lock on a cached copy; one process fetches it, the others wait.

        Args:
            name: Identifies the source.
            size: Its size in bytes.
            fill: Writes the bytes to an open file.
            suffix: The file's extension; an unusual one is left out.
            close_idle: Whether the cache may close the lock once it is not read for long and others
                need the room; its reader then asks again.

        Returns:
            The lock; ``None`` where there is no room or the process that fetches makes no progress.
        """
        path = self._folder / entry_name(name, suffix)
        begin = time.time()
        for pause in pauses():
            failed_at, error = self._failures.get(path, (0.0, None))
            if error is not None and failed_at > begin and not path.exists():
                raise error  # another thread's fetch, which used up its retries while we waited
            outcome = self._get(path, size, fill, urgent=True)
            if isinstance(outcome, SharedLock):
                if close_idle:
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
        """Return a shared lock on a cached copy, fetching it if no other process does; never wait.

        Args:
            name: Identifies the source.
            size: Its size in bytes.
            fill: Writes the bytes to an open file.
            suffix: The file's extension; an unusual one is left out.
            urgent: Whether it is read now; if not, it gets no room while urgent requests lack it.

        Returns:
            A lock that is never closed as idle, or the reason why there is none.
        """
        return self._get(self._folder / entry_name(name, suffix), size, fill, urgent=urgent)

    def take(self, name: str, suffix: str = "") -> SharedLock | None:
        """Return a lock on an entry that exists already, closed when idle; else ``None``."""
        try:
            pin = SharedLock.take(self._folder / entry_name(name, suffix))
        except OSError as error:
            raise translate(error, self.root) from error
        if pin is not None:
            self._watch(pin)
        return pin

    def release(self, name: str, suffix: str = "") -> None:
        """Close this process's idle-tracked locks on an entry; an active reader locks it again."""
        path = self._folder / entry_name(name, suffix)
        for pin in self._watched():
            if pin.path == path:
                pin.close()

    def is_pressed(self) -> bool:
        """Return whether an urgent request of any process found no room lately."""
        try:
            return time.time() - self._pressure.stat().st_mtime < PRESSURE_S
        except OSError:
            return False

    def expect(self, size: int, *, loud: bool = True) -> None:
        """Declare how many bytes of shards are read concurrently.

        Logs one warning if they do not fit; with ``loud=False`` the caller reports it instead.
        """
        if size > self.size:
            self._told = self._told or not loud
            self._warn(
                f"{self.size / 1e6:,.1f} MB cannot hold the {size / 1e6:,.1f} MB of shards that "
                "are shuffled together (data.window): the rest is read by range, slower; give it "
                f"{size / 1e6:,.1f} MB or more, twice that to fetch ahead"
            )

    def usage(self) -> tuple[int, int]:
        """Return the number of files in the cache and their bytes."""
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
            pass  # another process's sweep removed it
        try:
            if not self._admit(fd, size, urgent=urgent):
                part.unlink()
                return False
            fill(fd)
            os.fdatasync(fd)
            os.utime(fd)
            # Under the cache lock: a concurrent listing may miss both names of a renamed file.
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
        """Allocate the full size of an open partial file, evicting others if needed."""
        os.ftruncate(fd, 0)  # drop what a killed run left in it
        try:
            with exclusive(self._cache_lock, STALL_S):
                if not self._make_room(size, urgent=urgent):
                    return False
                if size:
                    os.posix_fallocate(fd, 0, size)
                return True
        except OSError as error:  # the disk is full, or a suspended process holds the cache lock
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
        """Return whether the fetching process has made no progress for ``STALL_S``."""
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
    """Remove every entry of a cache that is not in use and return the bytes freed."""
    try:
        with exclusive(root / CACHE_LOCK, STALL_S):
            return sum(entry.size for entry in list_entries(root) if drop(entry.path))
    except OSError as error:
        raise translate(error, root) from error


def open_cache(config: CacheConfig) -> NodeCache:
    """Return this process's cache for a folder: one object, so that it knows all readers."""
    key = (os.getpid(), config.root.absolute(), int(config.size))
    with _lock:
        if key not in _caches:
            _caches[key] = NodeCache(key[1], key[2])
        return _caches[key]


_caches: dict[tuple[int, Path, int], NodeCache] = {}
_lock = threading.Lock()
