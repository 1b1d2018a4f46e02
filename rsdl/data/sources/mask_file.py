"""Read the numbers or colours of a mask file, and check where it lies."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from rsdl.core.errors import CorruptSampleError
from rsdl.data.decode import decode_image
from rsdl.data.sources.mask_palettes import PALETTES
from rsdl.raster.class_raster import MAX_VALUE
from rsdl.raster.georef import apply
from rsdl.raster.headers import png_header

Values = NDArray[np.integer[Any]]  # [H, W]
UNKNOWN = -(2**62)  # no value of a file
BIT_DEPTH, GREY = 24, 0  # of a PNG: where its bits a sample stand, and its colour type
HALF_PIXEL = 0.5


class MaskFile(NamedTuple):
    """The content of a mask file.

    Attributes:
        values: A number for each pixel, ``[H, W]``; a colour becomes r << 16 | g << 8 | b.
        crs: Where it lies; ``None`` if it is not georeferenced.
        transform: From (column, row) to the CRS.
    """

    values: Values
    crs: rasterio.CRS | None
    transform: rasterio.Affine


def read_mask(path: Path, *, is_colour: bool) -> MaskFile:
    """Return the content of a mask file.

    A PNG with a palette holds the numbers of its colours. Pixels of the file's nodata, and NaN,
    become ``UNKNOWN``.

    Raises:
        CorruptSampleError: If it cannot be read, or has no whole numbers, or has other bands.
    """
    if not is_colour and (numbers := _read_grey_png(path)) is not None:
        return MaskFile(numbers, None, rasterio.Affine.identity())
    try:
        with rasterio.open(path) as source:
            if source.driver == "JPEG":
                problem = "is a JPEG, which changes the values of a mask"
                raise CorruptSampleError(str(path), problem, "use its PNG or TIFF")
            has_palette = source.colorinterp == (ColorInterp.palette,)
            palette = source.colormap(1) if is_colour and has_palette else None
            nothing, place = source.nodata, (source.crs, source.transform)
            bands = source.read()
    except (rasterio.errors.RasterioError, ValueError) as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
        raise CorruptSampleError(str(path), problem, "replace it, or leave it out") from error
    if bands.dtype.kind == "c":
        raise CorruptSampleError(str(path), "holds complex numbers", "give a mask of whole numbers")
    if palette is not None:
        bands = _paint(bands[0], palette, path)
    elif not is_colour:
        bands = _mark_unknown(bands, nothing, path)
    if is_colour:
        if len(bands) < 3 or bands.dtype != np.uint8:
            problem = f"has {len(bands)} bands of {bands.dtype}, not the colours of --colors"
            raise CorruptSampleError(str(path), problem, "leave --colors out, or convert the mask")
        red, green, blue = (band.astype(np.int32) for band in bands[:3])
        return MaskFile(red << 16 | green << 8 | blue, *place)
    if any((band != bands[0]).any() for band in bands[1:3]):
        problem = "is a colour image: its bands differ"
        remedy = f"pass --colors FILE, or one of {', '.join(PALETTES)}"
        raise CorruptSampleError(str(path), problem, remedy)
    return MaskFile(bands[0] if bands.dtype == np.uint8 else bands[0].astype(np.int64), *place)


def _read_grey_png(path: Path) -> NDArray[np.uint8] | None:
    """Return the numbers of a plain PNG of 8-bit grey, which takes GDAL twice as long.

    ``None`` if it is another file, or says more than its pixels: a transparent value, or a sidecar.
    """
    if path.suffix.lower() != ".png" or os.path.exists(f"{path}.aux.xml"):
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None  # GDAL says why
    is_byte = data[BIT_DEPTH : BIT_DEPTH + 1] == b"\x08"
    if not is_byte or (header := png_header(data)).colour != GREY or header.transparent:
        return None
    pixels: NDArray[np.uint8] = decode_image(data, "png", str(path))
    return pixels[:, :, 0]


def _paint(
    numbers: NDArray[Any], palette: Mapping[int, Sequence[int]], path: Path
) -> NDArray[np.uint8]:
    """Return the colours of a palette's numbers, ``[3, H, W]``."""
    table = np.zeros((max(palette) + 1, 3), np.uint8)
    table[list(palette)] = [colour[:3] for colour in palette.values()]
    if numbers.max() >= len(table):
        problem = f"holds {numbers.max()}, for which its palette has no colour"
        raise CorruptSampleError(str(path), problem, "save it as a colour image")
    return np.moveaxis(table[numbers], 2, 0)


def _mark_unknown(bands: NDArray[Any], nothing: float | None, path: Path) -> NDArray[Any]:
    """Return whole numbers, with ``UNKNOWN`` for nodata and NaN."""
    is_float = bands.dtype.kind == "f"
    if not is_float and nothing is None:
        return bands
    unknown = np.isnan(bands) if is_float else np.zeros(bands.shape, bool)
    if nothing is not None:
        unknown |= bands == nothing
    known = bands[~unknown]
    if is_float and not ((known == np.rint(known)) & (np.abs(known) < MAX_VALUE)).all():
        problem = "holds fractions or infinity"
        raise CorruptSampleError(str(path), problem, "give a mask of whole numbers")
    return np.where(unknown, UNKNOWN, np.where(unknown, 0, bands).astype(np.int64))


def check_place(mask: MaskFile, where: str, profile: Mapping[str, Any]) -> None:
    """Check that a mask with georeferencing lies where its image does, to half a pixel.

    Args:
        mask: The mask, of its image's size.
        where: Its file, for errors.
        profile: ``crs`` and ``transform`` of the image.

    Raises:
        CorruptSampleError: If it lies elsewhere.
    """
    if mask.crs is None:
        return
    height, width = mask.values.shape
    corners = np.array([(0, 0), (width, 0), (0, height)], float)
    moved = apply(~profile["transform"], apply(mask.transform, corners))
    if mask.crs != profile["crs"] or np.abs(moved - corners).max() > HALF_PIXEL:
        remedy = "warp it to the image's grid, or remove its georeferencing"
        raise CorruptSampleError(where, "lies elsewhere than its image", remedy)
