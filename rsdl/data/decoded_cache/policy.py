"""The decoded cache: choose the file of decoded pixels of a split on this node, if it may have one.

All processes of a node use the same file, since its name is a digest of everything that its pixels
depend on. The node's cache ensures that one process creates it and that it fits, and evicts it when
it is the least recently used. Without a file, samples are decoded as usual: the cache is optional,
so its errors never stop a run.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version

import cv2
import numpy as np
import rasterio
from pydantic import ByteSize

from rsdl.core.errors import RsdlError
from rsdl.core.resources import usable_memory
from rsdl.data.decode import DecodeRule
from rsdl.data.decoded_cache.file import DecodedFile
from rsdl.data.decoded_cache.layout import FORMAT, Layout, StaleError, write_header
from rsdl.data.index import Index
from rsdl.data.reader import ShardReader
from rsdl.data.sample_reader import SampleReader, probe_sizes
from rsdl.storage.cache.config import CacheConfig
from rsdl.storage.cache.node_cache import SPARE_SHARE, NodeCache, open_cache
from rsdl.storage.locks import SharedLock, lock_file
from rsdl.storage.store import Store

logger = logging.getLogger(__name__)

FIELD = "data.decoded_cache"

# Pixels evicted from the page cache are read from disk, which can be slower than decoding.
MEMORY_SHARE = 0.5

PROBED_IMAGES = 8  # of each probed shard, for the size of a split's images

# Images get slots of the largest's size if that is at most this factor above the mean.
SLOT_WASTE = 1.1

ALIGN = 64

# Another version of these libraries may decode the same bytes to different pixels.
LIBRARIES = (version("simplejpeg"), cv2.__version__, rasterio.__version__)

# Seconds to try to remove a stale file that other processes may be removing too.
STALE_S = 2.0


@dataclass(frozen=True, slots=True)
class DecodedCacheRule:
    """Whether and where a split's pixels are cached.

    Attributes:
        cache: The node's cache.
        budget: Bytes for pixels in addition to the cache; ``None`` uses the cache's free space.
        shard_bytes: Bytes of the cache that the split's own shards take, if they are remote.
        makes: Whether to create the file if it is missing.
    """

    cache: CacheConfig
    budget: int | None = None
    shard_bytes: int = 0
    makes: bool = True

    @property
    def place(self) -> CacheConfig:
        """Folder and size limit for the file."""
        if self.budget is None:
            return self.cache
        return CacheConfig(folder=str(self.cache.root / "decoded"), size=ByteSize(self.budget))


class DecodedCache:
    """The file of one split, opened at first use; thread-safe.

    Args:
        rule: Whether and where pixels are cached.
        decode: Rule by which images are decoded.
        index: The samples.
        identity: Identifies the split: manifest digest, split.
        store: Store to probe image sizes from; it reads by range, since probing does not justify
            copying a shard.
    """

    def __init__(
        self,
        rule: DecodedCacheRule,
        decode: DecodeRule,
        index: Index,
        identity: tuple[str, ...],
        store: Store,
    ) -> None:
        self._rule, self._decode = rule, decode
        self._index, self._store = index, store
        self._name = cache_name(decode, identity)
        self._lock = threading.Lock()
        self._opened = self._sealed = False
        self._file: DecodedFile | None = None

    def file(self) -> DecodedFile | None:
        """Return the file, or ``None`` if there is none; the reason is logged once."""
        with self._lock:
            if not self._opened:
                self._opened = True
                self._file = self._open()
            return self._file

    @property
    def is_complete(self) -> bool:
        """Whether every sample's pixels are cached, or known not to fit."""
        file = self.file()
        return file is not None and file.is_complete

    def settle(self) -> None:
        """Seal the file in a background thread if it is complete."""
        with self._lock:
            file = self._file
            if file is None or self._sealed or not file.wants_seal:
                return
            self._sealed = True
        threading.Thread(target=file.seal, name="seal", daemon=True).start()

    def tell_damage(self) -> None:
        """Log a warning with the number of samples found damaged since the last call, if any."""
        file = self._file
        if file is not None and (count := file.take_num_damaged()):
            logger.warning(
                "%s: %s: damaged pixels of %d of %d samples were decoded again: check the disk, "
                "or move data.cache.folder to another",
                FIELD, file.path, count, len(self._index),
            )  # fmt: skip

    def _open(self) -> DecodedFile | None:
        try:
            cache = open_cache(self._rule.place)
            end = time.monotonic() + STALE_S
            while (pin := self._hold(cache)) is not None:
                try:
                    bands, dtype = self._decode.bands, np.dtype(self._decode.dtype)
                    return DecodedFile(pin, len(self._index), bands, dtype)
                except StaleError as error:
                    if time.monotonic() > end:
                        logger.warning(
                            "%s: %s %s and is in use elsewhere: samples are decoded every time",
                            FIELD, pin.path, error,
                        )  # fmt: skip
                        return None
                    _remove(pin)
        except (RsdlError, OSError) as error:
            logger.warning("%s: %s: samples are decoded every time", FIELD, error)
        return None

    def _hold(self, cache: NodeCache) -> SharedLock | None:
        """Return a shared lock on the file; create the file if it is missing and fits."""
        try:
            return cache.hold(self._name, 0, _refuse)
        except _MissingError:
            if not self._rule.makes:
                return None
            sizes = self._probe_sizes()
            pixel_bytes = self._decode.bands * np.dtype(self._decode.dtype).itemsize
            layout = lay_out(sizes, len(self._index), pixel_bytes)
            if layout is None or not self._fits(cache, layout):
                return None
            return cache.hold(self._name, layout.size, lambda fd: write_header(fd, layout))

    def _probe_sizes(self) -> list[tuple[int, int]]:
        shards = ShardReader(self._store, self._index.shard_names)
        with closing(SampleReader(shards, self._index, self._decode)) as reader:
            return probe_sizes(reader, PROBED_IMAGES)

    def _fits(self, cache: NodeCache, layout: Layout) -> bool:
        """Return whether there is space for the file, and log a message if there is not."""
        disk = shutil.disk_usage(cache.root)
        free = disk.free - int(disk.total * SPARE_SHARE) + cache.usage()[1]
        limits = [(free, f"free on the disk of {cache.root}")]
        if self._rule.budget is None:
            left = cache.size - self._rule.shard_bytes
            limits += [
                (left, "left of data.cache.size"),
                (int(usable_memory() * MEMORY_SHARE), f"{MEMORY_SHARE:.0%} of the memory"),
            ]
        else:
            limits += [(cache.size, "allowed")]
        limit, what = min(limits)
        if layout.size > limit:
            level = logging.INFO if self._rule.budget is None else logging.WARNING
            logger.log(
                level,
                "%s: %s of pixels, and %s is %s: samples are decoded every time",
                FIELD,
                _megabytes(layout.size),
                _megabytes(max(limit, 0)),
                what,
            )
        return layout.size <= limit


def cache_name(decode: DecodeRule, identity: tuple[str, ...]) -> str:
    """Return a name that differs whenever pixels could differ."""
    parts = [FORMAT, sys.byteorder, identity, asdict(decode), LIBRARIES]
    return "decoded:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lay_out(sizes: list[tuple[int, int]], samples: int, pixel_bytes: int) -> Layout | None:
    """Return the layout of a file for images of these sizes; ``None`` if no size is known.

    Args:
        sizes: Heights and widths of some images of the split, in pixels.
        samples: Number of images of the split.
        pixel_bytes: Bytes of one pixel.
    """
    if not sizes:
        return None
    areas = np.prod(np.array(sizes, dtype=np.float64), axis=1) * pixel_bytes
    slot = -(-int(areas.max()) // ALIGN) * ALIGN
    if slot <= areas.mean() * SLOT_WASTE:
        return Layout(samples, slot, slot * samples)
    # Three standard errors above the mean; images that still do not fit are decoded as usual.
    mean = areas.mean() + 3 * areas.std() / math.sqrt(len(areas)) + ALIGN
    return Layout(samples, None, int(mean * samples))


def _remove(pin: SharedLock) -> None:
    """Remove a stale file unless other processes hold it; they remove it too, or finish."""
    pin.close()
    fd = lock_file(pin.path, create=False, wait=False)
    if fd is None:
        time.sleep(0.01)
        return
    try:
        pin.path.unlink()
    finally:
        os.close(fd)


def _refuse(fd: int) -> None:
    raise _MissingError


class _MissingError(Exception):
    """The file does not exist yet."""


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
