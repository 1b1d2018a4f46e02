"""A store's view of the node's cache, for prefetching."""

from collections.abc import Callable
from typing import NamedTuple

from rsdl.storage.cache.node_cache import NodeCache
from rsdl.storage.locks import SharedLock
from rsdl.storage.store import FetchStatus


class Wanted(NamedTuple):
    """A cache request.

    Attributes:
        name: Identifies the source.
        size: Its size in bytes.
        fill: Writes the bytes to an open file.
        suffix: The file's extension.
    """

    name: str
    size: int
    fill: Callable[[int], None]
    suffix: str


class NodeShardCache:
    """Cached copies by the names of one store.

    Args:
        cache: The node's cache.
        describe: Maps a name and its SHA-256 to a cache request; may ask the service.
        recall: Maps a name to a cache request without asking; ``None`` where it is not known.
    """

    def __init__(
        self,
        cache: NodeCache,
        describe: Callable[[str, str | None], Wanted],
        recall: Callable[[str], Wanted | None],
    ) -> None:
        self._cache = cache
        self._describe = describe
        self._recall = recall

    def fetch(self, name: str, sha256: str | None, *, urgent: bool) -> SharedLock | FetchStatus:
        """Lock a cached copy of ``name``, fetching it unless another process does."""
        return self._cache.fetch(*self._describe(name, sha256), urgent=urgent)

    def release(self, name: str) -> None:
        """Release the copy of ``name`` for every reader of this process."""
        wanted = self._recall(name)
        if wanted is not None:
            self._cache.release(wanted.name, wanted.suffix)

    def is_pressed(self) -> bool:
        """Return whether an urgent request of any process found no room lately."""
        return self._cache.is_pressed()

    def expect(self, size: int, *, loud: bool) -> None:
        """Declare how many bytes are read concurrently."""
        self._cache.expect(size, loud=loud)
