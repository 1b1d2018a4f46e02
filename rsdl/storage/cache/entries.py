"""The files of a cache: listing, locking and removal.

An entry is one file, named by a hash of its source. The file of a running download ends with
``.part``; ``.turn`` beside it is the download lock. Files in use are flock-ed, so eviction just
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
    """A cached file, complete or partial.

    Attributes:
        used_at: Time of last use, in seconds since 1970.
        size: Bytes.
        path: The file.
    """

    used_at: float
    size: int
    path: Path

    @property
    def is_whole(self) -> bool:
        """Whether it is complete; a partial one is being fetched, or a killed process left it."""
        return self.path.suffix != PART

    def is_in_use(self) -> bool:
        """Return whether any process has it locked."""
        fd = lock_file(self.path, create=False, wait=False)
        if fd is None:
            return self.path.exists()
        os.close(fd)
        return False


def entry_name(name: str, suffix: str) -> str:
    """Return the file name for a cached copy of ``name``; an unusual extension is left out."""
    ending = suffix if SUFFIX.fullmatch(suffix) else ""
    return hashlib.sha256(name.encode()).hexdigest() + ending


def list_entries(root: Path) -> list[CacheEntry]:
    """Return the files of a cache, least recently used first."""
    found = []
    for path in _paths(root):
        if path.suffix != DOWNLOAD_LOCK:
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append(CacheEntry(status.st_mtime, status.st_size, path))
    return sorted(found)


def drop(path: Path) -> bool:
    """Remove a file of a cache unless it is in use; return whether this call removed it."""
    fd = lock_file(path, create=False, wait=False)
    if fd is None:
        return False
    try:
        path.unlink()
    finally:
        os.close(fd)
    return True


def sweep(root: Path) -> None:
    """Remove the partial files and download locks that killed processes left."""
    for path in _paths(root):
        if path.suffix in (PART, DOWNLOAD_LOCK):
            with suppress(OSError):
                drop(path)


def _paths(root: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError), os.scandir(root / FOLDER) as entries:
        for entry in entries:
            yield Path(entry.path)
