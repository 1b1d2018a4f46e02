"""An object opened for ranged reads."""

import time
from typing import Protocol

from rsdl.storage.locks import SharedLock
from rsdl.storage.s3.client import Remote

# Without room for a copy, check this often whether another process has cached one.
ASK_AGAIN_S = 1.0


class Ranges(Protocol):
    """Reads an object from a cached copy or by range requests."""

    def hold(self, remote: Remote, sha256: str | None) -> SharedLock | None:
        """Return a lock on a cached copy, fetching it if there is room."""
        ...

    def take(self, remote: Remote) -> SharedLock | None:
        """Return a lock on a copy that is cached already."""
        ...

    def stream(self, remote: Remote, offset: int, length: int) -> bytes:
        """Return a byte range of the object."""
        ...


class S3Blob:
    """An open object: a cached copy, or range requests where there is no room for one.

    Args:
        store: The store that holds it.
        remote: The version to read.
        sha256: Expected hash of a cached copy.
    """

    def __init__(self, store: Ranges, remote: Remote, sha256: str | None) -> None:
        self._store = store
        self._remote = remote
        self._sha256 = sha256
        self._pin = store.hold(remote, sha256)
        self._ask_at = 0.0

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer at the end of the object."""
        if self._pin is not None:
            data = self._pin.read(offset, length)
            if data is not None:
                return data
            # The cache closed the lock of an idle reader.
            self._pin = self._store.hold(self._remote, self._sha256)
            return self.read(offset, length)
        if time.monotonic() > self._ask_at:
            self._ask_at = time.monotonic() + ASK_AGAIN_S
            self._pin = self._store.take(self._remote)
            if self._pin is not None:
                return self.read(offset, length)
        return self._store.stream(self._remote, offset, length)

    def close(self) -> None:
        """Release the cached copy."""
        if self._pin is not None:
            self._pin.close()
