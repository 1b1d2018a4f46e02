"""Decoded pixels of one split in one memory-mapped file, for every process and run of a node.

Decoding is the dearest part of a small image's way into a batch, and its result is the same in
every epoch. So whoever decodes a sample first writes its pixels here, and everyone reads them from
the map afterwards. The file has its full size from the start: a hole that the disk cannot fill
would be a signal and not an error. Pixels are written with ``pwrite``, whose errors can be caught,
and read through a read-only map, whose pages all processes share.

A sample's flag is set after its pixels. A killed process therefore leaves samples that are whole or
not there at all, since the kernel keeps what was written. A machine that crashes may lose any of
it, so a file counts only under the boot that it was filled under, until nothing is left to be
written and it has been synced and sealed.

Images of about one size have slots, found by multiplication. Otherwise room is reserved image by
image under a record lock that ends with its holder.
"""

import fcntl
import logging
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.data.resize import Pixels
from rsdl.storage.locks import Pin

logger = logging.getLogger(__name__)

Int64s = NDArray[np.int64]

FORMAT = 2
MAGIC = b"rsdl-px\n"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format", "<u4"),
        ("sealed", "<u4"),
        ("boot", "S40"),
        ("samples", "<i8"),
        ("slot", "<i8"),
        ("size", "<i8"),
        ("used", "<i8"),
    ]
)
PAGE = 4096

# What the table knows of a sample: nothing yet; its pixels are here; they never will be.
UNKNOWN, HERE, ABSENT = 0, 1, 2


class StaleError(Exception):
    """A file that cannot be trusted, and why."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is divided.

    Attributes:
        samples: Samples of the split.
        slot: Bytes that every sample has to itself; ``None`` reserves room image by image.
        pixel_bytes: Bytes for all pixels.
    """

    samples: int
    slot: int | None
    pixel_bytes: int

    @property
    def start(self) -> int:
        """First byte of the pixels: behind the header and the table."""
        return PAGE + -(-17 * self.samples // PAGE) * PAGE

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.start + self.pixel_bytes


def write_header(fd: int, layout: Layout) -> None:
    """Begin an empty file that has its full size."""
    header = np.zeros((), HEADER)
    header["magic"], header["format"], header["boot"] = MAGIC, FORMAT, boot_id()
    header["samples"], header["slot"] = layout.samples, layout.slot or 0
    header["size"], header["used"] = layout.size, layout.start
    os.pwrite(fd, header.tobytes().ljust(PAGE, b"\0"), 0)
    # The table lies in pages that have been written: its map can then never miss a block.
    for first in range(PAGE, layout.start, 1 << 20):
        os.pwrite(fd, bytes(min(1 << 20, layout.start - first)), first)


def boot_id() -> bytes:
    """Return what names this run of the machine's kernel; empty where it has no name."""
    try:
        return BOOT_ID.read_bytes().strip()
    except OSError:
        return b""


@dataclass(frozen=True, slots=True)
class Found:
    """What the file knows of some samples.

    Attributes:
        here: Which have their pixels here, ``[N]``.
        offsets: First byte of each, ``[N]``.
        heights: Height of each in pixels, ``[N]``.
        widths: Width of each in pixels, ``[N]``.
    """

    here: NDArray[np.bool_]
    offsets: Int64s
    heights: Int64s
    widths: Int64s


class DecodedFile:
    """An open file of pixels. For any number of threads and processes.

    Args:
        pin: Holds the file against eviction; closed with this object.
        samples: Samples that the split has.
        bands: Bands of each image.
        dtype: Type of each value.

    Raises:
        StaleError: If the file is not one to be trusted.
        OSError: If it cannot be opened for writing or mapped.
    """

    def __init__(self, pin: Pin, samples: int, bands: int, dtype: np.dtype[Any]) -> None:
        self._pin = pin
        self._bands, self._dtype = bands, dtype
        self._lock = threading.Lock()
        self._fd: int | None = None
        try:
            self._fd = os.open(pin.path, os.O_RDWR | os.O_CLOEXEC)
            self._slot, self._start, self._size = _check(self._fd, samples)
            self._table = mmap.mmap(self._fd, self._start)
            self._map = mmap.mmap(self._fd, self._size, prot=mmap.PROT_READ)
        except BaseException:
            self.close()
            raise
        self._header = np.frombuffer(self._table, HEADER, 1)
        self._offsets = np.frombuffer(self._table, "<i8", samples, PAGE)
        self._heights = np.frombuffer(self._table, "<u4", samples, PAGE + 8 * samples)
        self._widths = np.frombuffer(self._table, "<u4", samples, PAGE + 12 * samples)
        self._flags = np.frombuffer(self._table, "u1", samples, PAGE + 16 * samples)

    @property
    def is_complete(self) -> bool:
        """Whether every sample has been tried: nobody will write any more."""
        return bool(self._header["sealed"][0] or self._flags.all())

    @property
    def wants_seal(self) -> bool:
        """Whether the file is complete and would still not outlive a crash of the machine."""
        return not self._header["sealed"][0] and self.is_complete

    @property
    def num_here(self) -> int:
        """Samples whose pixels are here."""
        return int(np.count_nonzero(self._flags == HERE))

    def find(self, samples: Int64s) -> Found:
        """Return what is known of samples."""
        here = self._flags[samples] == HERE  # before the rest, which was written before it
        return Found(
            here,
            self._offsets[samples],
            self._heights[samples].astype(np.int64),
            self._widths[samples].astype(np.int64),
        )

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
        """Write the pixels of a sample; nobody sees them before :meth:`publish`.

        Returns:
            Whether there was room.

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
        return True

    def publish(self, here: list[int], absent: list[int]) -> None:
        """Show samples to all: those that were put, and those that will never be."""
        self._flags[here] = HERE
        self._flags[absent] = ABSENT

    def seal(self) -> None:
        """Make the file outlive a crash of the machine, if nothing is left to be written.

        Waits for the disk; a disk that refuses leaves the file as it is.
        """
        with self._lock:
            if self._fd is None or not self.wants_seal:
                return
            fd = os.dup(self._fd)  # the file may be closed meanwhile
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
        """Let the file go; the map goes with the last view of it."""
        with self._lock:
            fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._pin.close()

    def __del__(self) -> None:
        self.close()

    def _reserve(self, sample: int, num_bytes: int) -> int | None:
        if self._slot:
            return self._start + sample * self._slot if num_bytes <= self._slot else None
        assert self._fd is not None, "reserve after close"
        used = self._header["used"]
        with self._lock, _record_lock(self._fd):
            offset = int(used[0])
            if offset + num_bytes > self._size:
                return None
            used[0] = offset + -(-num_bytes // 64) * 64
        return offset


def _check(fd: int, samples: int) -> tuple[int, int, int]:
    """Return bytes of a slot (0: none), first byte of the pixels and bytes of the file."""
    raw = os.pread(fd, HEADER.itemsize, 0)
    if len(raw) < HEADER.itemsize:
        raise StaleError("is cut off")
    header = np.frombuffer(raw, HEADER)[0]
    if header["magic"] != MAGIC or header["format"] != FORMAT:
        raise StaleError("is not a file of pixels")
    start, size = Layout(samples, None, 0).start, int(header["size"])
    if header["samples"] != samples or os.fstat(fd).st_size != size or size < start:
        raise StaleError("has another size")
    if not header["sealed"] and header["boot"] != boot_id():
        raise StaleError("was being filled when the machine stopped")
    return int(header["slot"]), start, size


@contextmanager
def _record_lock(fd: int) -> Iterator[None]:
    """Exclude every other open file from reserving room; the kernel lets go for the dead."""
    # The lock of an open file, not of a process: a process may have the file open twice.
    where = (os.SEEK_SET, 0, HEADER.itemsize, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, *where))
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, *where))
