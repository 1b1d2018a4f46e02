"""Layout of a file of decoded pixels: a header, a table with one line per sample, the pixels.

The constant fields of the header come first and have a checksum. The others need none: ``sealed``
only allows a file of an earlier boot to be read, whose pixels are checked anyway. ``used`` is
stored twice, and the larger value never leads to occupied space, neither after a kill between the
two writes nor after damage to one of them.
"""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT = 3
MAGIC = b"rsdl-px\n"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("format", "<u8"),
        ("boot", "S40"),
        ("samples", "<i8"),
        ("slot", "<i8"),
        ("size", "<i8"),
        ("checksum", "<u8"),
        ("sealed", "<i8"),
        ("used", "<i8", 2),
    ]
)
# Bytes of the constant header fields: magic to size.
FIXED = 8 + 8 + 40 + 3 * 8
PAGE = 4096
# Bytes of a table line: offset, height, width, checksum, flag.
LINE = 8 + 4 + 4 + 4 + 1


class StaleError(Exception):
    """A file is not valid; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of the parts of a file.

    Attributes:
        samples: Number of samples of the split.
        slot: Bytes of each sample's fixed slot; ``None`` reserves space image by image.
        pixel_bytes: Bytes for all pixels.
    """

    samples: int
    slot: int | None
    pixel_bytes: int

    @property
    def start(self) -> int:
        """First byte of the pixels, after the header and the table."""
        return PAGE + -(-LINE * self.samples // PAGE) * PAGE

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.start + self.pixel_bytes


def write_header(fd: int, layout: Layout) -> None:
    """Write header and table of an empty file that has its full size."""
    header = np.zeros((), HEADER)
    header["magic"], header["format"], header["boot"] = MAGIC, FORMAT, boot_id()
    header["samples"], header["slot"] = layout.samples, layout.slot or 0
    header["size"], header["used"] = layout.size, layout.start
    header["checksum"] = _checksum(header.tobytes())
    os.pwrite(fd, header.tobytes().ljust(PAGE, b"\0"), 0)
    # Write every page of the table, so that its map cannot hit an unallocated block.
    for first in range(PAGE, layout.start, 1 << 20):
        os.pwrite(fd, bytes(min(1 << 20, layout.start - first)), first)


def boot_id() -> bytes:
    """Return the kernel's boot id; empty if there is none."""
    try:
        return BOOT_ID.read_bytes().strip()
    except OSError:
        return b""


def check_header(fd: int, samples: int) -> tuple[int, int, int]:
    """Return bytes of a slot (0: none), first byte of the pixels and bytes of the file.

    Args:
        fd: The file.
        samples: Number of samples of the split.

    Raises:
        StaleError: If the file is not valid.
    """
    raw = os.pread(fd, HEADER.itemsize, 0)
    if len(raw) < HEADER.itemsize:
        raise StaleError("is cut off")
    header = np.frombuffer(raw, HEADER)[0]
    if header["magic"] != MAGIC or header["format"] != FORMAT:
        raise StaleError("is not a file of pixels")
    if header["checksum"] != _checksum(raw):
        raise StaleError("has a damaged header")
    start, size = Layout(samples, None, 0).start, int(header["size"])
    if header["samples"] != samples or os.fstat(fd).st_size != size or size < start:
        raise StaleError("has another size")
    if header["sealed"] != 1 and header["boot"] != boot_id():
        raise StaleError("was being filled when the machine stopped")
    return int(header["slot"]), start, size


def _checksum(header: bytes) -> int:
    return zlib.crc32(header[:FIXED])
