"""A store's copies in the node's cache, to whoever knows what will be read and fetches it ahead."""

from collections.abc import Callable
from typing import NamedTuple

from rsdl.storage.cache.node_cache import NodeCache
from rsdl.storage.locks import SharedLock
from rsdl.storage.store import FetchStatus


class Wanted(NamedTuple):
    """What the cache must be told of a copy.

    Attributes:
        name: What it is a copy of.
        size: Its bytes.
        fill: Writes them to an open file.
        suffix: The file's extension.
    """

    name: str
    size: int
    fill: Callable[[int], None]
    suffix: str


class NodeShardCache:
    """Copies by the names of one store.

    Args:
        cache: Where they lie.
        describe: What a name and its SHA-256 mean to the cache; may ask the service.
        recall: The same of a name, without asking; ``None`` where it is not known.
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
        """Hold a copy of ``name``, fetching it unless another does."""
        return self._cache.fetch(*self._describe(name, sha256), urgent=urgent)

    def release(self, name: str) -> None:
        """Let go of the copy of ``name`` for every reader of this process."""
        wanted = self._recall(name)
        if wanted is not None:
            self._cache.release(wanted.name, wanted.suffix)

    def is_pressed(self) -> bool:
        """Return whether any process was lately refused room for what is urgent."""
        return self._cache.is_pressed()

    def expect(self, size: int, *, loud: bool) -> None:
        """Say how many bytes are read side by side."""
        self._cache.expect(size, loud=loud)
