"""The files of a cache: which there are, who uses them, and how they go.

An entry is one file, named by what it is a copy of. While it is being fetched it ends with
``.part``, and ``.turn`` beside it is the download lock. Files in use are flock-ed, so eviction just
tries the lock.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rsdl.storage.locks import lock_file

FOLDER = "copies"
PART = ".part"
DOWNLOAD_LOCK = ".turn"
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}")


@dataclass(frozen=True, slots=True, order=True)
class CacheEntry:
    """A copy, whole or in the making.

    Attributes:
        used_at: When it was used last, in seconds since 1970.
        size: Bytes.
        path: The file.
    """

    used_at: float
    size: int
    path: Path

    @property
    def is_whole(self) -> bool:
        """Whether it is complete, rather than fetched now or left half-way by a killed process."""
        return self.path.suffix != PART

    def is_in_use(self) -> bool:
        """Return whether any process holds it."""
        fd = lock_file(self.path, create=False, wait=False)
        if fd is None:
            return self.path.exists()
        os.close(fd)
        return False


def entry_name(name: str, suffix: str) -> str:
    """Return the file's name for a copy of ``name``; an odd extension is left out."""
    ending = suffix if SUFFIX.fullmatch(suffix) else ""
    return hashlib.sha256(name.encode()).hexdigest() + ending


def list_entries(root: Path) -> list[CacheEntry]:
    """Return the copies of a cache, the one used longest ago first."""
    found = []
    for path in _paths(root):
        if path.suffix != DOWNLOAD_LOCK:
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append(CacheEntry(status.st_mtime, status.st_size, path))
    return sorted(found)


def drop(path: Path) -> bool:
    """Remove a file of a cache, unless it is in use; return whether it is gone by our hand."""
    fd = lock_file(path, create=False, wait=False)
    if fd is None:
        return False
    try:
        path.unlink()
    finally:
        os.close(fd)
    return True


def sweep(root: Path) -> None:
    """Remove the parts and download locks that killed processes left."""
    for path in _paths(root):
        if path.suffix in (PART, DOWNLOAD_LOCK):
            with suppress(OSError):
                drop(path)


def _paths(root: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(root / FOLDER) as entries:
        for entry in entries:
            yield Path(entry.path)
