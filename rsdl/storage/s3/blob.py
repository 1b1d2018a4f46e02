"""An object that is open for reading parts of it."""

import time
from typing import Protocol

from rsdl.storage.locks import SharedLock
from rsdl.storage.s3.client import Remote

# There was no room for a copy: whether another has made one by now is asked so often.
ASK_AGAIN_S = 1.0


class Ranges(Protocol):
    """What reads an object: a copy on this node, or ranges of it."""

    def hold(self, remote: Remote, sha256: str | None) -> SharedLock | None:
        """Return a copy, made if there is room for it."""
        ...

    def take(self, remote: Remote) -> SharedLock | None:
        """Return a copy that another has made."""
        ...

    def stream(self, remote: Remote, offset: int, length: int) -> bytes:
        """Return a range of the object."""
        ...


class S3Blob:
    """An object that is open: a copy in the cache, or ranges of it where there is no room.

    Args:
        store: The store that it lies in.
        remote: Which version.
        sha256: What a copy must hash to.
    """

    def __init__(self, store: Ranges, remote: Remote, sha256: str | None) -> None:
        self._store = store
        self._remote = remote
        self._sha256 = sha256
        self._pin = store.hold(remote, sha256)
        self._ask_at = 0.0

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer where the object ends before."""
        if self._pin is not None:
            data = self._pin.read(offset, length)
            if data is not None:
                return data
            # The cache has taken it back from a reader that was idle.
            self._pin = self._store.hold(self._remote, self._sha256)
            return self.read(offset, length)
        if time.monotonic() > self._ask_at:
            self._ask_at = time.monotonic() + ASK_AGAIN_S
            self._pin = self._store.take(self._remote)
            if self._pin is not None:
                return self.read(offset, length)
        return self._store.stream(self._remote, offset, length)

    def close(self) -> None:
        """Let the copy go."""
        if self._pin is not None:
            self._pin.close()
