"""Read the bytes of planned samples from shards: one read each, at the offset in the index."""

from collections import OrderedDict

from rsdl.core.errors import ChangedError, CorruptSampleError, StorageError
from rsdl.data.shard_store import again
from rsdl.storage.store import Blob, Store

MAX_OPEN = 32


class ShardReader:
    """Reads byte ranges of shards. Not thread-safe: use one per thread.

    Args:
        store: The store of the shards.
        shard_names: Names of the shards, in the order of the index.
        sha256s: SHA-256 of each shard, checked by a store that copies it; ``None`` skips the check.
        dataset: URL of the dataset, if its shards are in another store.
    """

    def __init__(
        self,
        store: Store,
        shard_names: tuple[str, ...],
        sha256s: tuple[str, ...] | None = None,
        dataset: str | None = None,
    ) -> None:
        self._store = store
        self._names = shard_names
        self._sha256s = sha256s
        self._dataset = dataset
        self._blobs: OrderedDict[int, Blob] = OrderedDict()

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of a shard.

        Args:
            shard: Number of the shard in the index.
            offset: First byte.
            length: Number of bytes.

        Raises:
            CorruptSampleError: If the shard ends before.
            StorageError: If the shard cannot be opened or read.
        """
        try:
            data = self._open(shard).read(offset, length)
        except OverflowError:
            data = b""  # the offset is too large for any file: the index is damaged
        except StorageError as error:
            if self._dataset is not None and isinstance(error, ChangedError):
                error.problem += f" (a shard of {self._dataset})"
                error.remedy = again(self._store, self._dataset)
            # Keep the store's own remedy: for expired keys, "verify" would be useless.
            error.remedy = error.remedy or f'run "{self._verify}"'
            raise
        if len(data) < length:
            raise CorruptSampleError(
                self._names[shard],
                f"is truncated: {length} bytes expected at offset {offset}, {len(data)} found",
                f'copy the shard again; "{self._verify}" finds all of them',
            )
        return data

    def close(self) -> None:
        """Close every shard."""
        while self._blobs:
            self._blobs.popitem()[1].close()

    @property
    def _verify(self) -> str:
        return f"rsdl data verify {self._dataset or self._store.url}"

    def _open(self, shard: int) -> Blob:
        if (blob := self._blobs.get(shard)) is not None:
            self._blobs.move_to_end(shard)
            return blob
        if len(self._blobs) >= MAX_OPEN:
            self._blobs.popitem(last=False)[1].close()
        sha256 = self._sha256s[shard] if self._sha256s is not None else None
        blob = self._store.open(self._names[shard], sha256)
        self._blobs[shard] = blob
        return blob
