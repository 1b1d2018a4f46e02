"""Decoded pixels of one split in one memory-mapped file, shared by all processes of a node.

Decoding costs more than any other step of loading a small image, and gives the same pixels in every
epoch. The first process to decode a sample writes its pixels here; all others, also of later runs,
read them from the map. The file is preallocated: on a full disk a sparse map raises SIGBUS. Pixels
are written with ``pwrite``, whose errors can be caught, and read through a read-only map, whose
pages all processes share.

A sample's flag is set after its pixels. If a process is killed, the kernel keeps the data written,
so each sample is either complete or missing. A crash of the machine can lose any of it, so a file
is valid only during the boot in which it was filled, until it is complete, synced and sealed.

Each sample has a CRC-32 of its number, size and pixels. A process checks it when it first reads the
sample, and remembers the result. A check at each read would cost nearly as much as all other work
on a cached image, so later damage is only detected by the next process. A sample that does not
match is marked unknown: it is decoded and written again.

Images of similar size have fixed slots, located by multiplication. Otherwise space is reserved
image by image under a record lock that the kernel releases when its holder dies.
"""

import fcntl
import logging
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.core.pixels import Pixels
from rsdl.data.decoded_cache.layout import HEADER, PAGE, check_header
from rsdl.storage.locks import SharedLock

logger = logging.getLogger(__name__)

Int64s = NDArray[np.int64]

# State of a sample in the table: not tried yet; pixels stored; pixels will never be stored.
UNKNOWN, HERE, ABSENT = 0, 1, 2

# Bytes checked at a time; most images are smaller.
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class KeptSamples:
    """Positions of samples in the file.

    Attributes:
        here: Which samples have undamaged pixels in the file, ``[N]``.
        offsets: First byte of each, ``[N]``.
        heights: Height of each in pixels, ``[N]``.
        widths: Width of each in pixels, ``[N]``.
    """

    here: NDArray[np.bool_]
    offsets: Int64s
    heights: Int64s
    widths: Int64s


class DecodedFile:
    """An open file of pixels; safe for any number of threads and processes.

    Args:
        pin: Shared lock that prevents eviction of the file; closed with this object.
        samples: Number of samples of the split.
        bands: Bands of each image.
        dtype: Type of each value.

    Raises:
        StaleError: If the file is not valid.
        OSError: If it cannot be opened for writing or mapped.
    """

    def __init__(self, pin: SharedLock, samples: int, bands: int, dtype: np.dtype[Any]) -> None:
        self._pin = pin
        self._bands, self._dtype = bands, dtype
        self._lock = threading.Lock()
        self._num_damaged = 0
        self._fd: int | None = None
        try:
            self._fd = os.open(pin.path, os.O_RDWR | os.O_CLOEXEC)
            self._slot, self._start, self._size = check_header(self._fd, samples)
            self._table = mmap.mmap(self._fd, self._start)
            self._map = mmap.mmap(self._fd, self._size, prot=mmap.PROT_READ)
        except BaseException:
            self.close()
            raise
        self._header = np.frombuffer(self._table, HEADER, 1)
        self._offsets = np.frombuffer(self._table, "<i8", samples, PAGE)
        self._heights = np.frombuffer(self._table, "<u4", samples, PAGE + 8 * samples)
        self._widths = np.frombuffer(self._table, "<u4", samples, PAGE + 12 * samples)
        self._checksums = np.frombuffer(self._table, "<u4", samples, PAGE + 16 * samples)
        self._flags = np.frombuffer(self._table, "u1", samples, PAGE + 20 * samples)
        # Samples that this process has checked; zero pages are allocated when first written.
        numbers = (np.zeros(samples, np.int64) for _ in range(3))
        self._checked = KeptSamples(np.zeros(samples, np.bool_), *numbers)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self._pin.path

    @property
    def is_complete(self) -> bool:
        """Whether every sample has been tried, so no process will write any more."""
        return bool(self._header["sealed"][0] == 1 or self._flags.all())

    @property
    def wants_seal(self) -> bool:
        """Whether the file is complete but not sealed, so not valid after a machine crash."""
        return self._header["sealed"][0] != 1 and self.is_complete

    @property
    def num_here(self) -> int:
        """Number of samples whose pixels are in the file."""
        return int(np.count_nonzero(self._flags == HERE))

    def find(self, samples: Int64s) -> KeptSamples:
        """Return the positions of samples; damaged ones count as missing."""
        checked = self._checked
        here = self._flags[samples] == HERE  # read the flag first: it was written last
        # A sample that was rewritten at another offset must be checked again.
        known = checked.here[samples] & (checked.offsets[samples] == self._offsets[samples])
        for place in np.flatnonzero(here & ~known).tolist():
            here[place] = self._check(int(samples[place]))
        return KeptSamples(
            here, checked.offsets[samples], checked.heights[samples], checked.widths[samples]
        )

    def take_num_damaged(self) -> int:
        """Return the number of samples found damaged since the last call."""
        with self._lock:
            count, self._num_damaged = self._num_damaged, 0
        return count

    def view(self, offset: int, width: int, box: tuple[int, int, int, int]) -> Pixels:
        """Return a box of an image without copying it.

        Args:
            offset: First byte of the image.
            width: Width of the image in pixels.
            box: Top, left, height and width in pixels.
        """
        top, left, high, wide = box
        pixel = self._bands * self._dtype.itemsize
        return np.ndarray(
            (high, wide, self._bands),
            self._dtype,
            self._map,
            offset + (top * width + left) * pixel,
            (width * pixel, pixel, self._dtype.itemsize),
        )

    def put(self, sample: int, pixels: Pixels) -> bool:
        """Write the pixels of a sample, which are not visible before :meth:`publish`.

        Returns:
            Whether there was space.

        Raises:
            OSError: If they cannot be written.
        """
        assert self._fd is not None, "put after close"
        if (offset := self._reserve(sample, pixels.nbytes)) is None:
            return False
        if os.pwrite(self._fd, pixels.data, offset) < pixels.nbytes:
            return False
        self._offsets[sample] = offset
        self._heights[sample], self._widths[sample] = pixels.shape[:2]
        self._checksums[sample] = self._checksum(sample, pixels)
        return True

    def publish(self, here: list[int], absent: list[int]) -> None:
        """Set the flags of samples: those that were put, and those that never will be."""
        self._flags[here] = HERE
        self._flags[absent] = ABSENT

    def seal(self) -> None:
        """Sync a complete file and mark it as sealed, so that it stays valid after a crash.

        Blocks on the disk; if the disk fails, the file is left unsealed.
        """
        with self._lock:
            if self._fd is None or not self.wants_seal:
                return
            fd = os.dup(self._fd)  # another thread may close the file meanwhile
        try:
            self._table.flush()
            os.fdatasync(fd)
            self._header["sealed"] = 1
            self._table.flush()
            os.fdatasync(fd)
        except OSError as error:
            self._header["sealed"] = 0
            logger.warning("data.decoded_cache: %s: %s", self._pin.path, error)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file; the map is freed with its last view."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._pin.close()

    def __del__(self) -> None:
        self.close()

    def _checksum(self, sample: int, pixels: Pixels) -> int:
        return zlib.crc32(pixels.data, _seed(sample, *pixels.shape[:2]))

    def _check(self, sample: int) -> bool:
        """Check a sample, and return whether it may be read."""
        offset, height, width = (
            int(column[sample]) for column in (self._offsets, self._heights, self._widths)
        )
        if not self._matches(sample, offset, height, width):
            # Reset it before it is rewritten: if this process is killed, the sample stays unknown.
            self._flags[sample] = UNKNOWN
            with self._lock:
                self._num_damaged += 1
            return False
        known = self._checked
        known.offsets[sample], known.heights[sample], known.widths[sample] = offset, height, width
        known.here[sample] = True  # set last, for other threads
        return True

    def _matches(self, sample: int, offset: int, height: int, width: int) -> bool:
        """Return whether a sample's size and pixels match its checksum."""
        assert self._fd is not None, "find after close"
        end = offset + height * width * self._bands * self._dtype.itemsize
        if offset < self._start or end > self._size:
            return False
        checksum = _seed(sample, height, width)
        for first in range(offset, end, CHUNK):
            try:
                # On a bad block pread raises an error, where the map would kill the process. pread
                # is also faster. Neither call holds the GIL.
                part = os.pread(self._fd, min(CHUNK, end - first), first)
            except OSError:
                return False
            checksum = zlib.crc32(part, checksum)
        return checksum == int(self._checksums[sample])

    def _reserve(self, sample: int, num_bytes: int) -> int | None:
        if self._slot:
            return self._start + sample * self._slot if num_bytes <= self._slot else None
        assert self._fd is not None, "reserve after close"
        used = self._header["used"][0]
        with self._lock, _record_lock(self._fd):
            offset = -(-int(used.max()) // 64) * 64
            if offset + num_bytes > self._size:
                return None
            for copy in (0, 1):
                used[copy] = offset + num_bytes
        return offset


def _seed(sample: int, height: int, width: int) -> int:
    """Return the initial value of the checksum of a sample's pixels."""
    return zlib.crc32(struct.pack("<qII", sample, height, width))


@contextmanager
def _record_lock(fd: int) -> Iterator[None]:
    """Lock out other open files from reserving space; the kernel unlocks for a dead process."""
    # An open-file lock and not a process lock: a process may have the file open twice.
    where = (os.SEEK_SET, 0, HEADER.itemsize, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, *where))
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, *where))
