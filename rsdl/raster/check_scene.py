"""Check that a raster can be used as a scene."""

from typing import Any, get_args

import numpy as np

from rsdl.core.errors import DataError
from rsdl.core.pixels import Dtype
from rsdl.raster.read_raster import check_pages
from rsdl.raster.remote import RasterFile, open_bytes

# A file stored as one huge block must be read whole for a single tile.
MAX_BLOCK_BYTES = 256 << 20
REMEDIES = {
    "int16": '"gdal_translate -ot Float32" (or -ot UInt16 where nothing is negative)',
    "float64": '"gdal_translate -ot Float32"',
}


def check_scene(
    path: RasterFile,
    source: Any,  # noqa: ANN401 - rasterio has no types
    *,
    narrow: bool = False,
    georeferenced: bool = True,
) -> Dtype:
    """Return the type of an open scene's pixels.

    Args:
        path: The file.
        source: The file, opened by rasterio.
        narrow: Whether float64 is read as float32.
        georeferenced: Whether it must have a coordinate reference system.

    Raises:
        CorruptSampleError: If it is not one upright picture.
        DataError: If it is not georeferenced, or its pixels cannot be read window by window.
    """
    with open_bytes(path) as data:
        check_pages(data, str(path))
    unplaced = source.transform.is_identity or source.transform.is_degenerate
    if unplaced and (marks := _unwarped(source)) is not None:
        raise DataError(
            str(path),
            f"is placed by {marks[0]} and has no transform",
            f'warp it with "gdalwarp -r near {marks[1]} {path} OUT.tif"',
        )
    if source.crs is None and georeferenced:
        raise DataError(
            str(path),
            "has no coordinate reference system",
            'set it with "gdal_edit.py -a_srs EPSG:CODE FILE", or pack its tiles as a folder',
        )
    if unplaced and source.crs is not None:
        raise DataError(
            str(path),
            "has a CRS but no transform",
            'set it with "gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM FILE"',
        )
    dtypes = ["float32" if narrow and each == "float64" else each for each in source.dtypes]
    for dtype in dtypes:
        if dtype not in get_args(Dtype):
            how = REMEDIES.get(dtype, '"gdal_translate -ot UInt16" or "-ot Float32"')
            raise DataError(
                str(path),
                f"has pixels of {dtype}, rsdl packs {', '.join(get_args(Dtype))}",
                f"convert it with {how}",
            )
    height, width = source.block_shapes[0]
    size = height * width * source.count * np.dtype(source.dtypes[0]).itemsize
    if size > MAX_BLOCK_BYTES:
        raise DataError(
            str(path),
            f"is stored in blocks of {height} x {width} pixels, {size >> 20} MiB each",
            'rewrite it with "gdal_translate -co TILED=YES"',
        )
    known: Dtype = dtypes[0]  # type: ignore[assignment]
    return known


def _unwarped(source: Any) -> tuple[str, str] | None:  # noqa: ANN401 - rasterio has no types
    """Return how a raster without a transform is georeferenced, and gdalwarp's options for it."""
    points, crs = source.gcps
    # Pixels outside the scene after warping must be nodata.
    collar = "" if source.nodata is not None else " -dstnodata 0"
    if collar and source.dtypes[0].startswith("float"):
        collar = " -dstnodata nan"
    if points:
        srs = f"-t_srs {crs.to_string()}" if crs else "-s_srs EPSG:CODE -t_srs EPSG:CODE"
        return f"{len(points)} ground control points", srs + collar
    if source.rpcs is not None:
        return "rational polynomial coefficients (RPCs)", f"-rpc -t_srs EPSG:CODE{collar}"
    return None
