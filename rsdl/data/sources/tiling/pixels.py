"""The pixels of one tile: read, freed of what holds no data, encoded.

What holds no data is filled with the mean of the tile's own data, band by band. That is near the
neutral zero after normalisation, makes no outlier as -9999 would and no dark edge as 0 would; the
price is that a network sees a flat patch and cannot know that it is a hole. A tile keeps at most
``max_nodata`` of it, and the statistics leave it out by ``Sample.valid``.
"""

import io
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from rsdl.core.errors import CorruptSampleError
from rsdl.data.sources.tiling.handles import Handles
from rsdl.data.sources.tiling.scenes import Scene, open_raster

OPENCV_BANDS = 512  # in one of its images


def read_tile(
    scene: Scene, row: int, col: int, tile: int, handles: Handles
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read one tile of a scene, with what holds no data filled.

    Args:
        scene: The scene.
        row: Top of the tile in pixels.
        col: Left of the tile in pixels.
        tile: Side of the tile in pixels.
        handles: Open files of this thread.

    Returns:
        Pixels ``[H, W, C]`` without NaN, and where there is data ``[H, W]``, ``None`` for
        everywhere.

    Raises:
        CorruptSampleError: If the file cannot be read there.
    """
    window = Window(col, row, tile, tile)
    present = None
    try:
        source = handles.get(scene.path, lambda stack: open_raster(scene.path, stack))
        pixels = source.read(scene.indexes, window=window)
        if scene.masked:
            present = source.read_masks(scene.indexes, window=window) > 0
        if scene.alpha is not None:
            opaque = np.broadcast_to(source.read(scene.alpha, window=window) > 0, pixels.shape)
            present = opaque if present is None else present & opaque
    except rasterio.errors.RasterioError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise CorruptSampleError(
            str(scene.path),
            f"cannot be read at row {row}, column {col}: {reason}",
            "replace it, or leave it out",
        ) from error
    valid = fill_missing(pixels, present, dark_zero=scene.dark_zero)
    return interleave(pixels), valid


def interleave(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return ``[C, H, W]`` as C-contiguous ``[H, W, C]``; OpenCV copies far faster than NumPy."""
    bands, height, width = pixels.shape
    if bands > OPENCV_BANDS:
        return np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
    merged: NDArray[Any] = cv2.merge(list(pixels))
    return merged.reshape(height, width, bands)  # of one band OpenCV drops the last axis


def fill_missing(
    pixels: NDArray[Any], present: NDArray[np.bool_] | None, *, dark_zero: bool
) -> NDArray[np.bool_] | None:
    """Fill in place what holds no data, and return where there is data.

    A pixel has data where all of its bands do. Only where nodata is 0 in integers one band is
    enough, because 0 is also what near infrared reads over water: there a lone 0 is kept as it is.

    Args:
        pixels: Pixels, ``[C, H, W]``; NaN and infinities are no data.
        present: Where each band has data, ``[C, H, W]``; ``None`` has it wherever it is finite.
        dark_zero: Whether nodata is 0 in integers.

    Returns:
        Where there is data, ``[H, W]``; ``None`` if everywhere.
    """
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        present = finite if present is None else present & finite
    if present is None or present.all():
        return None
    valid = np.asarray(present.any(axis=0) if dark_zero else present.all(axis=0))
    for band, here in zip(pixels, present, strict=True):
        missing = ~valid if dark_zero else ~here
        mean = band[~missing].mean(dtype=np.float64) if not missing.all() else 0.0
        band[missing] = mean if pixels.dtype.kind == "f" else np.rint(mean)
    return None if valid.all() else valid


def encode_npy(pixels: NDArray[Any]) -> bytes:
    """Return C-contiguous pixels as a ``.npy`` file."""
    return b"".join([_npy_header(pixels.shape, pixels.dtype), pixels.data])


@lru_cache(maxsize=16)
def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def encode_tif(pixels: NDArray[Any], scene: Scene, place: rasterio.Affine) -> bytes:
    """Return pixels ``[H, W, C]`` of a scene at ``place`` as a deflated GeoTIFF."""
    height, width, bands = pixels.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=bands,
            dtype=pixels.dtype,
            crs=scene.crs,
            transform=place,
            compress="deflate",
            predictor=3 if pixels.dtype.kind == "f" else 2,
            interleave="pixel",
            # Said outright, or GDAL takes the fourth of four 8-bit bands for alpha.
            photometric="RGB" if bands == 3 and pixels.dtype == np.uint8 else "MINISBLACK",
        ) as target:
            # [H, W, C] -> [C, H, W]
            target.write(np.moveaxis(pixels, 2, 0))
            target.descriptions = scene.bands
        return bytes(memory.read())
