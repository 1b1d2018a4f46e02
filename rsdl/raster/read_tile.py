"""Read the pixels of one tile or window, with nodata filled.

Nodata is filled by ``rsdl/raster/gate.py``. At most ``max_nodata`` of a tile may be nodata, and
the statistics exclude it by ``Sample.valid``.
"""

from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.gate import fill_missing, is_mask, mark_value, unscale
from rsdl.raster.remote import cause_of, explain
from rsdl.raster.scenes import Scene, open_raster

OPENCV_BANDS = 512  # OpenCV's limit for one image


def read_tile(
    scene: Scene, row: int, col: int, tile: int, pool: DatasetPool, *, judged: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read one tile of a scene, with nodata filled.

    Args:
        scene: The scene.
        row: Top of the tile in pixels.
        col: Left of the tile in pixels.
        tile: Side of the tile in pixels.
        pool: Pool of open files for each thread.
        judged: As in :func:`read_window`.

    Returns:
        As :func:`read_window`; errors are the same, too.
    """
    return read_window(scene, Window(col, row, tile, tile), pool, judged=judged)


def read_window(
    scene: Scene, window: Window, pool: DatasetPool, *, judged: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Read a window of a scene, with nodata filled.

    Args:
        scene: The scene.
        window: The window, inside of the scene.
        pool: Pool of open files for each thread.
        judged: Whether alpha was classified as a mask by its values, so this window is checked too.

    Returns:
        Pixels ``[H, W, C]`` without NaN, and where there is data ``[H, W]``, ``None`` for
        everywhere.

    Raises:
        CorruptSampleError: If the file cannot be read there.
        StorageError: If its server is away or refuses.
        DataError: If the alpha band is imagery in this window.
    """
    row, col, bands = window.row_off, window.col_off, len(scene.indexes)
    present = None
    place, size = scene.in_file(window), (int(window.height), int(window.width))
    how = resampling_of(scene)
    try:
        source = pool.get(scene.path, lambda stack: open_raster(scene.path, stack))
        pixels = source.read(scene.indexes, window=place, out_shape=(bands, *size), resampling=how)
        if scene.masked:
            present = source.read_masks(scene.indexes, window=place, out_shape=(bands, *size)) > 0
        if scene.alpha is not None:
            alpha = source.read(scene.alpha, window=place, out_shape=size)
            if judged and not is_mask(alpha):
                raise DataError(
                    str(scene.path),
                    f"band {scene.alpha} is tagged as alpha, but at row {row}, column {col} it "
                    "holds more than 0 and the highest value",
                    "pass --alpha band if it is imagery, or --alpha mask if it is not",
                )
            opaque = np.broadcast_to(alpha > 0, pixels.shape)
            present = opaque if present is None else present & opaque
    except rasterio.errors.RasterioError as error:
        raise CorruptSampleError(
            str(scene.path),
            f"cannot be read at row {row}, column {col}: {explain(error, scene.path)}",
            "replace it, or leave it out",
        ) from cause_of(error, scene.path)
    if scene.nodata is not None:
        marked = np.moveaxis(mark_value(np.moveaxis(pixels, 0, 2), scene.nodata), 2, 0)
        present = marked if present is None else present & marked
    if scene.unscale:
        pixels = np.moveaxis(unscale(np.moveaxis(pixels, 0, 2), scene.table), 2, 0)
    if pixels.dtype == np.float64:  # as the scene's rules allow
        pixels = pixels.astype(np.float32)
    valid = fill_missing(pixels, present, dark_zero=scene.dark_zero)
    return interleave(pixels), valid


def resampling_of(scene: Scene) -> Resampling:
    """Return how a scene is resampled: the mean over coarser pixels, linear between finer ones.

    GDAL leaves out nodata of the file, but mixes a value that the user alone calls nodata.
    """
    if scene.nodata is not None:
        return Resampling.nearest
    return Resampling.average if max(scene.scale) > 1 else Resampling.bilinear


def interleave(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return ``[C, H, W]`` as C-contiguous ``[H, W, C]``; OpenCV copies far faster than NumPy."""
    bands, height, width = pixels.shape
    if bands > OPENCV_BANDS:
        return np.ascontiguousarray(np.moveaxis(pixels, 0, 2))
    merged: NDArray[Any] = cv2.merge(list(pixels))
    return merged.reshape(height, width, bands)  # OpenCV drops the last axis of a single band
