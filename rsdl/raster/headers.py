"""Read the header fields that decoders ignore: orientation, pages, transparency.

Decoders silently take only the first page of a TIFF, ignore a photograph's orientation, and return
four bands for a grey picture with transparency. Only the first bytes are read, so an ordinary image
costs microseconds.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, overload

ORIENTATION = 274
UPRIGHT = 1
REDUCED, MASK = 1, 4  # bits of a TIFF's NewSubfileType
MAX_PAGES = 10_000
SIZES = {1: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # bytes of the unsigned integer types of TIFF
WIDTH, HEIGHT, SUBFILE = 256, 257, 254
# Start-of-frame markers of JPEG; such a segment holds the size and the bits of a sample.
FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
SEGMENTS = frozenset([*range(0xE0, 0xF0), 0xFE])  # JPEG markers APP0 to APP15, and comments


class Bytes(Protocol):
    """The bytes of a file: ``bytes``, a memory map, or what reads by range."""

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, at: int, /) -> int: ...

    @overload
    def __getitem__(self, at: slice, /) -> bytes: ...


class Page(NamedTuple):
    """One directory of a TIFF: its size in pixels, subfile type and orientation."""

    height: int
    width: int
    subfile: int
    orientation: int

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture at full size and not an overview or a mask."""
        return not self.subfile & (REDUCED | MASK)


@dataclass(frozen=True, slots=True)
class PngHeader:
    """Header fields of a PNG.

    Attributes:
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha.
        palette: Colours of the palette, ``None`` where there is none.
        transparent: Whether single colours are marked as transparent (``tRNS``).
        orientation: Exif orientation; 1 is upright.
    """

    colour: int
    palette: tuple[bytes, ...] | None
    transparent: bool
    orientation: int


class JpegHeader(NamedTuple):
    """Header fields of a JPEG.

    Attributes:
        orientation: Exif orientation; 1 is upright.
        precision: Bits of a sample; 8 if no frame header is found.
        num_bands: Number of bands, 4 for CMYK; 0 if no frame header is found.
    """

    orientation: int
    precision: int
    num_bands: int


def jpeg_header(data: bytes) -> JpegHeader:
    """Return the header fields of a JPEG, in one pass over its first segments."""
    at, orientation = 2, UPRIGHT
    # Exif is stored in one of the first segments: those of applications (APPn) and comments.
    may_be_exif = True
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in FRAMES:
            return JpegHeader(orientation, data[at + 4], data[at + 9])
        length = (data[at + 2] << 8) | data[at + 3]
        if may_be_exif:
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                orientation = exif_orientation(data[at + 10 : at + 2 + length])
                may_be_exif = False
            else:
                may_be_exif = marker in SEGMENTS
        at += 2 + length
    return JpegHeader(orientation, 8, 0)


def coded_size(data: bytes, kind: str) -> tuple[int, int]:
    """Return height and width from a BMP header, else 0, 0: a WebP has at most 16,383 pixels."""
    if kind != "bmp":
        return 0, 0
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), abs(width)


def webp_orientation(data: bytes) -> int:
    """Return the Exif orientation of a WebP, like that of a JPEG."""
    at = 12
    while at + 8 <= len(data):
        kind, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        if kind == b"EXIF":
            return exif_orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
        at += 8 + length + length % 2
    return UPRIGHT


def png_header(data: bytes) -> PngHeader:
    """Return the header fields of a PNG; damaged chunks are ignored."""
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
    """Return the directories of a TIFF in file order, as far as they can be read.

    Args:
        data: The file's bytes; only its directories are read.
    """
    if data[:2] not in (b"II", b"MM"):
        return []
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 3 and 43 in (data[2], data[3])
    pages: list[Page] = []
    try:
        (at,) = _unpack(order + ("Q" if big else "I"), data, 8 if big else 4)
        seen: set[int] = set()
        while at and at not in seen and len(pages) < MAX_PAGES:
            seen.add(at)
            page, at = _read_page(data, order, at, big=big)
            pages.append(page)
    except (struct.error, IndexError, OverflowError):
        pass  # the decoder reports the damage
    return pages


def _read_page(data: Bytes, order: str, at: int, *, big: bool) -> tuple[Page, int]:
    (count,) = _unpack(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    found = {WIDTH: 0, HEIGHT: 0, SUBFILE: 0, ORIENTATION: UPRIGHT}
    size = 20 if big else 12
    if count > (len(data) - at) // size:
        raise struct.error
    for entry in range(at, at + count * size, size):
        tag, kind = _unpack(order + "HH", data, entry)
        if tag in found and kind in SIZES:
            letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[SIZES[kind]]
            (found[tag],) = _unpack(order + letter, data, entry + (12 if big else 8))
    (following,) = _unpack(order + ("Q" if big else "I"), data, at + count * size)
    return Page(found[HEIGHT], found[WIDTH], found[SUBFILE], found[ORIENTATION]), following


def _unpack(layout: str, data: Bytes, at: int) -> tuple[Any, ...]:
    return struct.unpack(layout, data[at : at + struct.calcsize(layout)])


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, from a block of Exif; 1 if it has none."""
    pages = tiff_pages(exif)
    return pages[0].orientation if pages and 1 <= pages[0].orientation <= 8 else UPRIGHT


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk; pixel data (``IDAT``) is left empty."""
    at = 8
    while at + 8 <= len(data):
        (length,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        yield kind, b"" if kind == b"IDAT" else data[at + 8 : at + 8 + length]
        at += 12 + length
