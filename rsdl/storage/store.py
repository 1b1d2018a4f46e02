"""The ``Store`` protocol: the file operations that rsdl needs.

A store is a flat mapping from names (``/``-separated, relative) to bytes under one root URL. Writes
are atomic: a name holds either the complete new bytes or its previous content. Both a file system
and an object store can promise that, and packing, checkpoints and run records need no more.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object.

    Attributes:
        name: Name relative to the store's root.
        size: Size in bytes.
    """

    name: str
    size: int


class Blob(Protocol):
    """The bytes of one name, opened for reading; not thread-safe."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer at the end."""
        ...

    def close(self) -> None:
        """Close it; safe to call twice."""
        ...


class FetchStatus(Enum):
    """Why a fetch returned no copy."""

    BUSY = "another fetches it"
    FULL = "there is no room"


class Held(Protocol):
    """A cached copy on this node that is not evicted until it is closed."""

    def close(self) -> None:
        """Close it; safe to call twice."""
        ...


class ShardCache(Protocol):
    """A store's cache of opened objects, as the prefetcher sees it."""

    def fetch(self, name: str, sha256: str | None, *, urgent: bool) -> Held | FetchStatus:
        """Lock a copy of ``name``, fetching it unless another process does; never wait for others.

        A request that is not urgent takes no room that an urgent one needs, and evicts nothing that
        is in use.
        """
        ...

    def release(self, name: str) -> None:
        """Release the copy of ``name`` for every reader of this process."""
        ...

    def is_pressed(self) -> bool:
        """Return whether an urgent request of any process on the node found no room lately."""
        ...

    def expect(self, size: int, *, loud: bool) -> None:
        """Declare how many bytes are read concurrently; if ``loud``, warn when they do not fit."""
        ...


class Store(Protocol):
    """A place that stores named bytes; methods raise ``StorageError`` on failure."""

    @property
    def url(self) -> str:
        """Root of the store, as the user would type it."""
        ...

    def read(self, name: str) -> bytes:
        """Return all bytes of ``name``."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` to ``name`` atomically."""
        ...

    def write_once(self, name: str, data: bytes) -> bool:
        """Write ``data`` unless ``name`` exists; return whether ``name`` now holds ``data``.

        Of several concurrent writers, one succeeds, as do those that write the same bytes.
        """
        ...

    def create(self, name: str) -> AbstractContextManager[Path]:
        """Yield a local path to write to; it becomes ``name`` if the block succeeds."""
        ...

    def local(self, name: str) -> Path:
        """Return a local, readable path that holds the bytes of ``name``."""
        ...

    def open(self, name: str, sha256: str | None = None) -> Blob:
        """Open ``name`` for reading parts of it, until the caller closes it.

        A store that caches what it opens verifies the copy against ``sha256``.
        """
        ...

    def shard_cache(self) -> ShardCache | None:
        """Return the cache of opened objects on this node; ``None`` where there is none."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size of ``name`` in bytes, or ``None`` where it does not exist."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every complete object whose name starts with ``prefix``, sorted by name."""
        ...

    def delete(self, name: str) -> None:
        """Remove ``name``; no error if it does not exist."""
        ...
