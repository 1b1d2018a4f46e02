"""What an image's header says that decoders pass over: how it is turned, pages, transparency.

Decoders take the first page of a TIFF, leave a photograph as the camera held it, and make four
bands of a grey picture with transparency, all without a word. Only the first bytes are looked at,
so that an ordinary image costs microseconds.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Bytes = bytes | mmap.mmap
ORIENTATION = 274
UPRIGHT = 1
REDUCED, MASK = 1, 4  # bits of a TIFF's NewSubfileType
MAX_PAGES = 10_000
SIZES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # bytes of the TIFF types that count something
WIDTH, HEIGHT, SUBFILE = 256, 257, 254
# Frames of a JPEG, which say its size and the bits of a sample.
FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
SEGMENTS = frozenset([*range(0xE0, 0xF0), 0xFE])  # of a JPEG: APP0 to APP15, and comments


class Page(NamedTuple):
    """One directory of a TIFF: its size in pixels, what it is, and how the picture is turned."""

    height: int
    width: int
    subfile: int
    orientation: int

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture at full size: no overview, no mask."""
        return not self.subfile & (REDUCED | MASK)


@dataclass(frozen=True, slots=True)
class PngHeader:
    """What a PNG says before its pixels.

    Attributes:
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        palette: Colours of the palette, ``None`` where there is none.
        transparent: Whether single colours are marked as transparent (``tRNS``).
        orientation: How the picture is turned, as in Exif; 1 is upright.
    """

    colour: int
    palette: tuple[bytes, ...] | None
    transparent: bool
    orientation: int


def jpeg_orientation(data: bytes) -> int:
    """Return how a JPEG is turned (Exif: 1 is upright, 2 to 8 are not)."""
    at = 2
    # Exif lies in one of the first segments: those of applications (APPn) and comments.
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] in SEGMENTS:
        length = (data[at + 2] << 8) | data[at + 3]
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    return UPRIGHT


def jpeg_precision(data: bytes) -> int:
    """Return the bits of a JPEG's samples; 8 where its header does not come to that."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in FRAMES:
            return data[at + 4]
        at += 2 + ((data[at + 2] << 8) | data[at + 3])
    return 8


def coded_size(data: bytes, kind: str) -> tuple[int, int]:
    """Return height and width that a BMP says; a WebP is never larger than 16,383 pixels."""
    if kind != "bmp":
        return 0, 0
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), abs(width)


def webp_orientation(data: bytes) -> int:
    """Return how a WebP is turned, as :func:`jpeg_orientation`."""
    at = 12
    while at + 8 <= len(data):
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        if kind == b"EXIF":
            return exif_orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return UPRIGHT


def png_header(data: bytes) -> PngHeader:
    """Return what a PNG says before its pixels; damaged parts say nothing."""
    colour, palette, transparent, orientation = 2, None, False, UPRIGHT
    for kind, content in _png_chunks(data):
        if kind == b"IHDR" and len(content) >= 13:
            colour = content[9]
        elif kind == b"PLTE":
            palette = tuple(content[i : i + 3] for i in range(0, len(content) - 2, 3))
        elif kind == b"tRNS":
            transparent = True
        elif kind == b"eXIf":
            orientation = exif_orientation(content)
    return PngHeader(colour, palette, transparent, orientation)


def tiff_pages(data: Bytes) -> list[Page]:
    """Return the directories of a TIFF in their order, as far as they can be read.

    Args:
        data: The file, or a map of it.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 3 and 43 in (data[2], data[3])
    pages: list[Page] = []
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen: set[int] = set()
        while at and at not in seen and len(pages) < MAX_PAGES:
            seen.add(at)
            page, at = _read_page(data, order, at, big=big)
            pages.append(page)
    except (struct.error, IndexError, OverflowError):
        pass  # the decoder finds what is damaged
    return pages


def _read_page(data: Bytes, order: str, at: int, *, big: bool) -> tuple[Page, int]:
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    found = {WIDTH: 0, HEIGHT: 0, SUBFILE: 0, ORIENTATION: UPRIGHT}
    size = 20 if big else 12
    if count > (len(data) - at) // size:
        raise struct.error
    for entry in range(at, at + count * size, size):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in found and kind in SIZES:
            letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[SIZES[kind]]
            (found[tag],) = struct.unpack_from(order + letter, data, entry + (12 if big else 8))
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + count * size)
    return Page(found[HEIGHT], found[WIDTH], found[SUBFILE], found[ORIENTATION]), following


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that a block of Exif says; 1 where it says none."""
    pages = tiff_pages(exif)
    return pages[0].orientation if pages and 1 <= pages[0].orientation <= 8 else UPRIGHT


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk; that of pixels is left out."""
    at = 8
    while at + 8 <= len(data):
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        yield kind, b"" if kind == b"IDAT" else data[at + 8 : at + 8 + length]
        at += 12 + length
