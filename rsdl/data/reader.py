"""Planned samples -> bytes: one ``pread`` each, at the place that the index says."""

import os
from collections import OrderedDict
from contextlib import suppress

from rsdl.core.errors import CorruptSampleError, StorageError
from rsdl.storage.local import translate
from rsdl.storage.store import Store

MAX_OPEN = 32


class ShardReader:
    """Reads parts of shards. Not for several threads: each has its own.

    ``pread`` rather than a memory map, since a shard that turns out truncated is then an error with
    a name and not a killed process.

    Args:
        store: Where the shards lie.
        shard_names: Names of the shards, in the order of the index.
    """

    def __init__(self, store: Store, shard_names: tuple[str, ...]) -> None:
        self._store = store
        self._names = shard_names
        self._files: OrderedDict[int, int] = OrderedDict()

    def read(self, shard: int, offset: int, length: int) -> bytes:
        """Return ``length`` bytes of a shard.

        Args:
            shard: Number of the shard in the index.
            offset: First byte.
            length: Bytes wanted.

        Raises:
            CorruptSampleError: If the shard ends before.
            StorageError: If the shard cannot be opened or read.
        """
        try:
            data = os.pread(self._open(shard), length, offset)
        except OSError as error:
            raise translate(error, self._store.local(self._names[shard])) from error
        except OverflowError:
            data = b""  # no file is that long: the index is damaged
        if len(data) < length:
            raise CorruptSampleError(
                self._names[shard],
                f"is truncated: {length} bytes expected at offset {offset}, {len(data)} found",
                f'copy the shard again; "rsdl data verify {self._store.url}" finds all of them',
            )
        return data

    def close(self) -> None:
        """Close every file."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _open(self, shard: int) -> int:
        if (fd := self._files.get(shard)) is not None:
            self._files.move_to_end(shard)
            return fd
        if len(self._files) >= MAX_OPEN:
            os.close(self._files.popitem(last=False)[1])
        try:
            fd = os.open(self._store.local(self._names[shard]), os.O_RDONLY)
        except StorageError as error:
            error.remedy = f'run "rsdl data verify {self._store.url}"'
            raise
        with suppress(OSError, AttributeError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        self._files[shard] = fd
        return fd
