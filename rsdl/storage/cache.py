"""A node's copies of what lies in object stores, shared by every process of the node.

A copy is one file, named by what it is a copy of, and the file is its own lock: whoever uses it
holds it together with others, and the kernel lets go for the dead. Those who wait for a copy wait
at an empty turnstile beside it, since the copy itself may stay in use for ever once it is there.
There is no index to be wrong after a kill. Room is made by dropping the copies used least recently,
never one in use; where that is not enough the caller is told, and reads by range instead.
"""

import hashlib
import logging
import os
import re
import shutil
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ByteSize, ConfigDict, Field

from rsdl.storage.local import translate
from rsdl.storage.locks import Pin, exclusive, lock_file

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "RSDL_CACHE"
PART = ".part"
TURNSTILE = ".turn"
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}")

# A reader that has not read for so long can do with opening its file again.
IDLE_S = 10.0

# The last of a disk is left to others.
SPARE_SHARE = 0.02


class CacheConfig(BaseModel):
    """Where copies of remote shards lie on this node, and how much room they get."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str | None = Field(
        None, description="Folder on a local disk; null: $RSDL_CACHE, else ~/.cache/rsdl/store."
    )
    size: ByteSize = Field(
        ByteSize(50 * 10**9), description='At most so many bytes in it, such as "200GB".'
    )

    @property
    def root(self) -> Path:
        """The folder that is meant."""
        folder = self.folder or os.environ.get(FOLDER_VARIABLE)
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(folder or f"{base}/rsdl/store").expanduser()


class NodeCache:
    """The copies in one folder. For any number of threads and processes.

    Args:
        root: The folder; made when something is first kept.
        size: Bytes that it may hold.
    """

    def __init__(self, root: Path, size: int) -> None:
        self.root = root
        self.size = size
        self._copies = root / "copies"
        self._gate = root / "gate"
        self._pins: weakref.WeakSet[Pin] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._told = False
        try:
            self._copies.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise translate(error, root) from error
        self._sweep()

    def hold(
        self, name: str, size: int, fill: Callable[[int], None], suffix: str = ""
    ) -> Pin | None:
        """Return a pin on a copy, which one process fetches while the others wait.

        Args:
            name: What it is a copy of.
            size: Its bytes.
            fill: Writes them to an open file.
            suffix: The file's extension; an odd one is left out.

        Returns:
            The pin; ``None`` where there is no room.
        """
        ending = suffix if SUFFIX.fullmatch(suffix) else ""
        path = self._copies / (hashlib.sha256(name.encode()).hexdigest() + ending)
        try:
            while True:
                if (pin := Pin.take(path)) is not None:
                    with self._lock:
                        self._pins.add(pin)
                    return pin
                turnstile = path.with_name(path.name + TURNSTILE)
                fd = lock_file(turnstile, create=True, wait=True)
                if fd is None:
                    continue  # someone else has just finished the copy, or failed to
                try:
                    if not path.exists() and not self._fill(path, size, fill):
                        return None
                finally:
                    turnstile.unlink(missing_ok=True)
                    os.close(fd)
        except OSError as error:
            raise translate(error, self.root) from error

    def clear(self) -> int:
        """Remove every copy that is not in use and return how many bytes that freed."""
        with exclusive(self._gate):
            return sum(size for _, size, path in self._listing() if self._drop(path))

    def usage(self) -> tuple[int, int]:
        """Return the number of copies and their bytes."""
        sizes = [size for _, size, _ in self._listing()]
        return len(sizes), sum(sizes)

    def _fill(self, path: Path, size: int, fill: Callable[[int], None]) -> bool:
        part = path.with_name(path.name + PART)
        while (fd := lock_file(part, create=True, wait=True)) is None:
            pass  # it was being swept away
        try:
            if not self._admit(fd, size):
                part.unlink()
                return False
            fill(fd)
            os.fdatasync(fd)
            os.utime(fd)
            os.rename(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        finally:
            os.close(fd)
        return True

    def _admit(self, fd: int, size: int) -> bool:
        """Give an open part its full size, if there is room or room can be made."""
        with exclusive(self._gate):
            os.ftruncate(fd, 0)  # what a killed run left in it
            if not self._make_room(size):
                return False
            try:
                if size:
                    os.posix_fallocate(fd, 0, size)
            except OSError as error:
                os.ftruncate(fd, 0)
                self._warn(f"cannot keep {size / 1e6:,.0f} MB: {error.strerror}")
                return False
            return True

    def _make_room(self, size: int) -> bool:
        listing = sorted(self._listing())
        used = sum(bytes_ for _, bytes_, _ in listing)
        disk = shutil.disk_usage(self.root)
        room = min(self.size - used, disk.free - int(disk.total * SPARE_SHARE))
        if size > room:
            self._release_idle()
        for _, bytes_, path in listing:
            if size <= room:
                break
            if self._drop(path):
                room += bytes_
                used -= bytes_
        if size > room:
            self._warn(
                f"{used / 1e6:,.1f} MB are in use and {size / 1e6:,.1f} MB more are wanted: the "
                f"rest is read by range, slower; give it {(used + size) / 1e6:,.1f} MB or more"
            )
        return size <= room

    def _drop(self, path: Path) -> bool:
        """Remove a copy, unless it is in use."""
        fd = lock_file(path, create=False, wait=False)
        if fd is None:
            return False
        try:
            path.unlink()
        finally:
            os.close(fd)
        return True

    def _release_idle(self) -> None:
        with self._lock:
            pins = list(self._pins)
        for pin in pins:
            if time.monotonic() - pin.used_at > IDLE_S:
                pin.close()

    def _listing(self) -> list[tuple[float, int, Path]]:
        """Return time of last use, size and path of every copy, whole or in the making."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self._copies) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    found.append((status.st_mtime, status.st_size, Path(entry.path)))
        return found

    def _sweep(self) -> None:
        """Remove the parts and turnstiles that killed processes left."""
        for path in self._copies.iterdir():
            if path.suffix in (PART, TURNSTILE):
                with suppress(OSError):
                    self._drop(path)

    def _warn(self, problem: str) -> None:
        if not self._told:
            self._told = True
            logger.warning("data.cache.size at %s: %s", self.root, problem)


def open_cache(config: CacheConfig) -> NodeCache:
    """Return this process's cache in a folder; one object, so that it knows all of its readers."""
    key = (os.getpid(), config.root.absolute(), int(config.size))
    with _lock:
        if key not in _caches:
            _caches[key] = NodeCache(key[1], key[2])
        return _caches[key]


_caches: dict[tuple[int, Path, int], NodeCache] = {}
_lock = threading.Lock()
