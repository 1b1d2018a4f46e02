"""Read an encoded image strictly for packing: pixels, nodata mask and band metadata.

``decode.py`` reads the samples of a packed dataset, unchanged and fast. Nothing is guessed here: an
ambiguous layout is an error that names the option to resolve it.
"""

import os
from collections.abc import Callable

import cv2
import numpy as np

from rsdl.core.errors import CorruptSampleError, RsdlError
from rsdl.core.pixels import Pixels, check_size
from rsdl.data.decode import SPACES, decode_image, jpeg_space, unreadable
from rsdl.raster.gate import is_mask, mark_value, unscale
from rsdl.raster.headers import (
    UPRIGHT,
    coded_size,
    jpeg_header,
    png_header,
    webp_orientation,
)
from rsdl.raster.picture import (
    MAX_CLASS_COLOURS,
    PLAIN,
    Picture,
    PictureRules,
    class_table_error,
    pick_bands,
)
from rsdl.raster.read_raster import read_beside, read_raster

FEW_BANDS = 16


def read_picture(
    data: bytes, kind: str, where: str, rules: PictureRules = PLAIN, path: str | None = None
) -> Picture:
    """Read one encoded image.

    Args:
        data: The encoded image.
        kind: Format: ``jpg``, ``png``, ``tif``, ``npy``, ``bmp``, ``webp`` or ``jp2``.
        where: Name of the file, for errors.
        rules: The user's options for images.
        path: Path of the file, to find its sidecar files (``.msk``, ``.aux.xml``).

    Raises:
        CorruptSampleError: If it cannot be read, or is ambiguous.
        ConfigError: If a requested band is missing.
    """
    try:
        if (
            kind == "tif"
            and path is not None
            and any(map(os.path.exists, (f"{path}.msk", f"{path}.aux.xml")))
        ):
            picture = read_beside(data, path, rules)
        else:
            picture = _READERS[kind](data, kind, where, rules)
    except RsdlError:
        raise
    except Exception as error:
        raise unreadable(error, data, kind, where) from error
    if rules.nodata is not None:
        marked = mark_value(picture.pixels, rules.nodata)
        if not marked.all():
            both = marked if picture.present is None else marked & picture.present
            picture = picture._replace(present=both)
    if rules.unscale and picture.table is not None:  # an unscaled image becomes float32 too
        pixels = unscale(picture.pixels, picture.table)
        picture = picture._replace(pixels=pixels, changed=True)
    if rules.narrow and picture.pixels.dtype == np.float64:
        picture = picture._replace(pixels=picture.pixels.astype(np.float32), changed=True)
    return picture


def check_jpeg(data: bytes, where: str, space: str) -> None:
    """Reject a JPEG that decoders return with wrong colours, or cannot decode.

    Args:
        data: The file's bytes.
        where: The file's name, for errors.
        space: Colour space in the file's header.
    """
    if space not in SPACES:
        problem = f"has {space} colours, made for print"
    elif (bits := jpeg_header(data).precision) != 8:
        problem = f"has {bits} bits a sample, rsdl reads 8"
    else:
        return
    remedy = 'convert it, as with "magick IN -colorspace sRGB -depth 8 OUT"'
    raise CorruptSampleError(where, problem, remedy)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return an image ``[H, W, C]`` turned upright by its Exif orientation (1 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _read_jpeg(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    check_jpeg(data, where, jpeg_space(data, where))
    pixels = decode_image(data, "jpg", where)
    turned = jpeg_header(data).orientation
    picture = Picture(
        pixels if turned == UPRIGHT else upright(pixels, turned), changed=turned != UPRIGHT
    )
    return pick_bands(picture, rules, where)


def _read_coded(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    """Read a PNG, BMP or WebP."""
    if kind == "png":
        pixels, header = decode_image(data, "png", where), png_header(data)
        if header.palette is not None and len(set(header.palette)) <= MAX_CLASS_COLOURS:
            raise class_table_error(where, len(set(header.palette)))
        turned, grey = header.orientation, header.colour in (0, 4)
        if header.colour == 0 and header.transparent:
            raise CorruptSampleError(
                where,
                "marks one grey value as transparent",
                "pass it as --nodata and save the file without it",
            )
    else:
        turned, grey = webp_orientation(data) if kind == "webp" else UPRIGHT, False
        check_size(*coded_size(data, kind), 4)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ValueError("damaged")
        pixels = decoded.reshape(*decoded.shape[:2], -1)
        if pixels.shape[2] >= 3:
            pixels = np.ascontiguousarray(pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]])
    changed = kind != "png"
    if turned != UPRIGHT:
        pixels, changed = upright(pixels, turned), True
    if pixels.shape[2] != 4:
        return pick_bands(Picture(pixels, changed=changed), rules, where)
    if grey:  # the decoder has repeated the grey band three times, and would in training too
        pixels, changed = np.ascontiguousarray(pixels[:, :, [0, 3]]), True
    # In these formats, the last of four bands is alpha.
    if rules.alpha == "band" or (
        rules.alpha == "auto" and not grey and not is_mask(pixels[:, :, -1])
    ):
        return pick_bands(Picture(pixels, changed=changed), rules, where)
    opaque = pixels[:, :, -1:] > 0
    pixels = np.ascontiguousarray(pixels[:, :, :-1])
    present = None if opaque.all() else np.broadcast_to(opaque, pixels.shape)
    return pick_bands(Picture(pixels, present, changed=True), rules, where)


def _read_npy(data: bytes, kind: str, where: str, rules: PictureRules) -> Picture:
    pixels = decode_image(data, "npy", where)
    if not pixels.flags.writeable:  # a view of the file, but nodata is filled in place
        pixels = pixels.copy()
    if rules.axes == "CHW":
        return pick_bands(
            Picture(np.ascontiguousarray(np.moveaxis(pixels, 0, 2)), changed=True), rules, where
        )
    first, _, last = pixels.shape
    # In a bands-last array, bands are few, and fewer than rows; any other shape is ambiguous.
    few = last <= FEW_BANDS and 4 * first > last
    if rules.axes is None and first < last and not few:
        raise CorruptSampleError(
            where,
            f"has shape {pixels.shape}, which looks like bands first",
            "pass --axes CHW, or --axes HWC where the last axis really is that of the bands",
        )
    return pick_bands(Picture(pixels), rules, where)


_READERS: dict[str, Callable[[bytes, str, str, PictureRules], Picture]] = {
    "jpg": _read_jpeg,
    "png": _read_coded,
    "bmp": _read_coded,
    "webp": _read_coded,
    "npy": _read_npy,
    "tif": read_raster,
    "jp2": read_raster,
}
