"""Select the JPEGs that a device may decode, by their markers, in about 30 us per 100 kB.

Decoders on devices support plain JPEGs (8 bits, baseline, one scan), use a slow fallback for
others, and may silently return a half-grey picture for a truncated stream. So a JPEG that is not
plain, or does not end with its end marker, is left to the host's decoder, which is strict. Damage
within the compressed data that leaves the markers intact is not detected here, and the host's
decoder detects only a part of it: ``rsdl data verify`` decodes every sample on the host and
compares the SHA-256 of every shard.
"""

import re
import struct
from dataclasses import dataclass

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
SOF0, DHT, JPG, DAC, SOS, APP0, APP14 = 0xC0, 0xC4, 0xC8, 0xCC, 0xDA, 0xE0, 0xEE
OTHER_FRAMES = frozenset(range(0xC1, 0xD0)) - {DHT}  # also JPG and DAC: no frames, but unsupported
WITHOUT_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xDA), 0xFF})

# Luminance sampling of 1 or 2 along each axis: 4:4:4, 4:2:2, 4:4:0, 4:2:0.
SAMPLINGS = {0x11, 0x21, 0x12, 0x22}

# The end of compressed data: a marker that is neither a stuffed 0xff nor a restart.
END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A plain JPEG, not decoded yet.

    Attributes:
        data: The encoded image.
        height: In pixels.
        width: In pixels.
        bands: 1 for grey, 3 for YCbCr.
    """

    data: bytes
    height: int
    width: int
    bands: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the decoded pixels."""
        return self.height * self.width * self.bands


def read_jpeg(data: bytes) -> Jpeg | None:
    """Return a plain JPEG with its header fields, or ``None`` if the host must decode it.

    Args:
        data: The encoded image, of any format.
    """
    try:
        return _read(data)
    except (struct.error, IndexError):  # the data ends within the header
        return None


def _read(data: bytes) -> Jpeg | None:
    if not data.startswith(SOI):
        return None
    at, jpeg, is_jfif = len(SOI), None, False
    while True:
        mark, code, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or code in WITHOUT_LENGTH or code in OTHER_FRAMES or length < 2:
            return None
        body, at = at + 4, at + 2 + length
        if code == SOF0:
            if jpeg is not None:
                return None
            jpeg = _read_frame(data, body, is_jfif)
        elif code == APP0:
            is_jfif = is_jfif or data.startswith(b"JFIF\0", body)
        elif code == APP14 and not _says_ycbcr(data, body):
            return None
        elif code == SOS:
            break
    # Require one scan of all bands, and no data after it.
    if jpeg is None or data[body] != jpeg.bands:
        return None
    end = END.search(data, at)
    is_whole = end is not None and end.group() == EOI and end.end() == len(data)
    return jpeg if is_whole else None


def _read_frame(data: bytes, body: int, is_jfif: bool) -> Jpeg | None:
    bits, height, width, bands = struct.unpack_from(">BHHB", data, body)
    if bits != 8 or not height or not width or bands not in (1, 3):
        return None
    parts = [struct.unpack_from("BB", data, body + 6 + 3 * band) for band in range(bands)]
    names, samplings = zip(*parts, strict=True)
    if bands == 1:
        plain = samplings == (0x11,)
    else:
        plain = samplings[0] in SAMPLINGS and samplings[1:] == (0x11, 0x11)
        # Without JFIF and the usual component ids, the bands may be R, G, B.
        plain = plain and (is_jfif or names == (1, 2, 3))
    return Jpeg(data, height, width, bands) if plain else None


def _says_ycbcr(data: bytes, body: int) -> bool:
    """Return whether an Adobe segment, if it is one, declares YCbCr and not RGB or CMYK."""
    return not data.startswith(b"Adobe", body) or data[body + 11] == 1
