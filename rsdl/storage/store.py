"""The ``Store`` protocol: what rsdl asks of any place that keeps files.

A store is a flat mapping from names (``/``-separated, relative) to bytes under one root URL.
Writing is all or nothing: a name either holds the complete new bytes or what it held before. That
is the least that both a file system and an object store can promise, and all that packing,
checkpoints and run records need.
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
    """The bytes of one name, opened for reading; not for several threads."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer where the bytes end before."""
        ...

    def close(self) -> None:
        """Let go of it; it is no error to do so twice."""
        ...


class FetchStatus(Enum):
    """Why a copy cannot be had now."""

    BUSY = "another fetches it"
    FULL = "there is no room"


class Held(Protocol):
    """A copy on this node that stays until it is let go."""

    def close(self) -> None:
        """Let it go; it is no error to do so twice."""
        ...


class ShardCache(Protocol):
    """The copies that a store keeps of what is opened, to whoever fetches ahead."""

    def fetch(self, name: str, sha256: str | None, *, urgent: bool) -> Held | FetchStatus:
        """Hold a copy of ``name``, fetching it unless another does; never waits for others.

        What is not urgent takes no room that anybody asks for, and none from what is held.
        """
        ...

    def release(self, name: str) -> None:
        """Let go of the copy of ``name`` for every reader of this process."""
        ...

    def is_pressed(self) -> bool:
        """Return whether any process of the node was lately refused room for what is urgent."""
        ...

    def expect(self, size: int, *, loud: bool) -> None:
        """Say how many bytes are read side by side; warns, if loud, where that does not fit."""
        ...


class Store(Protocol):
    """A place that keeps named bytes; methods raise ``StorageError`` when it refuses."""

    @property
    def url(self) -> str:
        """Root of the store, as the user would type it."""
        ...

    def read(self, name: str) -> bytes:
        """Return all bytes of ``name``."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put ``data`` under ``name``, all or nothing."""
        ...

    def write_once(self, name: str, data: bytes) -> bool:
        """Put ``data`` under ``name`` unless something is there; return whether it is there now.

        Of several who write at once one succeeds, and whoever writes the same.
        """
        ...

    def create(self, name: str) -> AbstractContextManager[Path]:
        """Give a local path to write to; it becomes ``name`` when the block ends well."""
        ...

    def local(self, name: str) -> Path:
        """Return a local, readable path that holds the bytes of ``name``."""
        ...

    def open(self, name: str, sha256: str | None = None) -> Blob:
        """Open ``name`` for reading parts of it, for as long as the caller likes.

        A store that copies what it opens checks the copy against ``sha256``.
        """
        ...

    def shard_cache(self) -> ShardCache | None:
        """Return the copies that opening makes on this node; ``None`` where it makes none."""
        ...

    def size(self, name: str) -> int | None:
        """Return the size of ``name`` in bytes, or ``None`` where it does not exist."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every complete object whose name starts with ``prefix``, sorted by name."""
        ...

    def delete(self, name: str) -> None:
        """Remove ``name``; it is no error if it does not exist."""
        ...
