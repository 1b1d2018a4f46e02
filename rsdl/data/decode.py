"""Decode images to pixels.

Every decoder used here releases the GIL while it works, so threads decode in parallel. TurboJPEG
decodes JPEG, OpenCV PNG, rasterio TIFF, NumPy ``npy``.
"""

import warnings
from dataclasses import dataclass

import cv2
import numpy as np
import rasterio
import simplejpeg

from rsdl.core.errors import CorruptSampleError
from rsdl.core.pixels import Pixels, check_size
from rsdl.data.kinds import NAMES, check_kind, sniff
from rsdl.data.npy import read_npy
from rsdl.data.resize import resize_into

# A tile needs no georeference to be decoded. Set once: warning filters are not thread-safe.
warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)

SPACES = {"GRAY": 1, "YCBCR": 3, "RGB": 3}  # supported colour spaces of JPEGs, and their bands


@dataclass(frozen=True, slots=True)
class DecodeRule:
    """How images of one dataset are decoded.

    Attributes:
        bands: Bands that each must have.
        dtype: Type that each must have.
        shorter: Pixels to shrink the shorter side to; ``None`` keeps the size.
    """

    bands: int
    dtype: str
    shorter: int | None = None


def decode_sample(
    data: bytes, extension: str, rule: DecodeRule, buffer: Pixels | None = None
) -> Pixels:
    """Decode one image by the rule of a dataset.

    Args:
        data: The encoded image.
        extension: Format: ``jpg``, ``png``, ``tif`` or ``npy``.
        rule: The dataset's rule.
        buffer: Memory that may be used for the pixels, ``[N]`` uint8; it may be too small.

    Returns:
        Pixels, ``[H, W, C]``, C-contiguous, RGB order.

    Raises:
        CorruptSampleError: If it cannot be decoded or is of another format; names no sample.
    """
    pixels = decode_image(data, extension, "", rule.bands, buffer)
    if pixels.dtype != rule.dtype:
        raise CorruptSampleError("", f"has {pixels.dtype} pixels, the data set {rule.dtype}")
    height, width = shrunk_size(pixels.shape[0], pixels.shape[1], rule.shorter)
    if (height, width) == pixels.shape[:2]:
        return pixels
    shrunk = np.empty((height, width, rule.bands), pixels.dtype)
    resize_into(pixels, shrunk)
    return shrunk


def image_size(data: bytes, extension: str, rule: DecodeRule) -> tuple[int, int]:
    """Return height and width of :func:`decode_sample`'s result, from the header if possible.

    Raises:
        CorruptSampleError: If the size cannot be determined.
    """
    if extension == "jpg":
        height, width = jpeg_size(data)
    else:
        height, width = decode_image(data, extension, "", rule.bands).shape[:2]
    return shrunk_size(height, width, rule.shorter)


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return height and width of a JPEG from its header.

    Raises:
        CorruptSampleError: If it has no valid header.
    """
    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError as error:
        check_kind(data, "jpg", "")
        raise CorruptSampleError("", f"cannot be decoded as JPEG: {error}") from error
    return height, width


def jpeg_bands(data: bytes) -> int:
    """Return the bands of a JPEG from its header: 1, 3, or 0 if unsupported or no JPEG."""
    try:
        return SPACES.get(jpeg_space(data, ""), 0)
    except CorruptSampleError:
        return 0


def jpeg_space(data: bytes, where: str) -> str:
    """Return the colour space in a JPEG's header: a key of ``SPACES``, ``CMYK``, ...

    Raises:
        CorruptSampleError: If it has no header.
    """
    try:
        space: str = simplejpeg.decode_jpeg_header(data)[2].upper()
    except ValueError as error:
        raise unreadable(error, data, "jpg", where) from error
    return space


def shrunk_size(height: int, width: int, shorter: int | None) -> tuple[int, int]:
    """Return the size of an image whose shorter side is at most ``shorter`` pixels."""
    side = min(height, width)
    if shorter is None or side <= shorter:
        return height, width
    return round(height * shorter / side), round(width * shorter / side)


def decode_image(
    data: bytes,
    extension: str,
    where: str,
    bands: int | None = None,
    buffer: Pixels | None = None,
) -> Pixels:
    """Decode one image.

    Args:
        data: The encoded image.
        extension: Format: ``jpg``, ``png``, ``tif`` or ``npy``.
        where: Name of the sample or file for errors.
        bands: Bands required; a grey JPEG or PNG is repeated to make three. ``None`` takes those of
            the file.
        buffer: Memory that may be used for the pixels, ``[N]`` uint8; it may be too small.

    Returns:
        Pixels, ``[H, W, C]``, C-contiguous, RGB order.

    Raises:
        CorruptSampleError: If it cannot be decoded or has another number of bands.
    """
    try:
        if extension == "jpg":
            pixels = _decode_jpeg(data, bands, buffer)
        else:
            pixels = _DECODERS[extension](data, bands)
    except CorruptSampleError:
        raise
    except Exception as error:
        raise unreadable(error, data, extension, where) from error
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise CorruptSampleError(where, f"has shape {pixels.shape}, expected [H, W, C]")
    if bands is not None and pixels.shape[2] != bands:
        raise CorruptSampleError(where, f"has {pixels.shape[2]} bands, the data set has {bands}")
    return pixels


def decode_padded(data: bytes, where: str, buffer: Pixels) -> Pixels:
    """Decode a colour or grey JPEG to four bands: red, green, blue and an unused one.

    Decoding four bands takes as long as three, and OpenCV sums four in a sixth of the time.

    Args:
        data: The encoded image.
        where: Name of the sample or file for errors.
        buffer: Memory that may be used for the pixels, ``[N]`` uint8; it may be too small.

    Returns:
        Pixels, ``[H, W, 4]`` uint8, C-contiguous.

    Raises:
        CorruptSampleError: If it cannot be decoded.
    """
    try:
        return _decode_into(data, buffer, "RGBX")
    except Exception as error:
        raise unreadable(error, data, "jpg", where) from error


def unreadable(error: Exception, data: bytes, extension: str, where: str) -> CorruptSampleError:
    """Return the error for an image that a decoder rejects.

    This is not a context manager around the decoder: that would cost every image a microsecond
    under the GIL.

    Raises:
        CorruptSampleError: If the content does not match ``extension``.
    """
    check_kind(data, extension, where)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CorruptSampleError(
        where, f"cannot be decoded as {NAMES[extension]}: {reason}", "remove or replace it"
    )


def _decode_jpeg(data: bytes, bands: int | None, buffer: Pixels | None) -> Pixels:
    # simplejpeg is strict by default: a truncated stream is an error, not a half-grey picture.
    # TurboJPEG converts grey to RGB, which is wanted, but also colour to grey, which is not.
    is_grey = bands != 3 and simplejpeg.decode_jpeg_header(data)[2].upper() == "GRAY"
    return _decode_into(data, buffer, "GRAY" if is_grey else "RGB")


def _decode_into(data: bytes, buffer: Pixels | None, space: str) -> Pixels:
    if buffer is not None:
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace=space, buffer=buffer)
            return pixels
        except ValueError as error:
            if "buffer is too small" not in str(error):
                raise
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    check_size(height, width, 3)
    pixels = simplejpeg.decode_jpeg(data, colorspace=space)
    return pixels


def _decode_png(data: bytes, bands: int | None) -> Pixels:
    if sniff(data) != "png":  # OpenCV would decode any format
        raise ValueError("not a PNG")
    if b"IEND" not in data[-64:]:  # OpenCV would also write to stderr
        raise ValueError("truncated")
    # Check the claimed size: OpenCV allocates it before it reads pixels.
    check_size(int.from_bytes(data[20:24]), int.from_bytes(data[16:20]), 4)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("damaged")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    elif pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    if bands == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels)


def _decode_tiff(data: bytes, bands: int | None) -> Pixels:
    with rasterio.MemoryFile(data) as memory, memory.open(driver="GTiff") as scene:
        check_size(scene.height, scene.width, scene.count * np.dtype(scene.dtypes[0]).itemsize)
        pixels = scene.read()
    # [C, H, W] -> [H, W, C]
    return np.ascontiguousarray(np.moveaxis(pixels, 0, 2))


def _decode_npy(data: bytes, bands: int | None) -> Pixels:
    pixels = read_npy(data)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


_DECODERS = {"png": _decode_png, "tif": _decode_tiff, "npy": _decode_npy}
