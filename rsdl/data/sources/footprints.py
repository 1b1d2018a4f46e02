"""Masks from the footprints of buildings that a GeoJSON file has for each image, as SpaceNet's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.raster.dataset_pool import WARNINGS
from rsdl.raster.georef import Floats, apply, project
from rsdl.raster.vectors import read_polygons

SUFFIX = ".geojson"


def burn_footprints(
    path: Path, profile: Mapping[str, Any] | None, size: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return 1 for each pixel whose centre a polygon covers, and 0 elsewhere, ``[H, W]``.

    A file of no bytes or without features has no building. Features without an area, which clipping
    to the image leaves, cover nothing.

    Args:
        path: The GeoJSON file.
        profile: ``crs`` and ``transform`` of the image; ``None`` if it has none.
        size: Height and width of the image in pixels.

    Raises:
        CorruptSampleError: If the file cannot be read, or lies elsewhere than its image, or the
            image is not georeferenced.
    """
    if not profile:
        problem = "has polygons, and its image no georeferencing to lay them on"
        raise CorruptSampleError(str(path), problem, "give the image as published")
    try:
        if not path.read_bytes().strip():
            return np.zeros(size, np.uint8)
        found = read_polygons(path, None)
    except (DataError, OSError) as error:
        problem = error.problem if isinstance(error, DataError) else f"cannot be read: {error}"
        raise CorruptSampleError(str(path), problem, "replace it") from error
    shapes = found.shapes
    if not len(shapes):
        return np.zeros(size, np.uint8)
    points = project(shapely.get_coordinates(shapes), found.crs, profile["crs"])
    if points is None or not _meets(points, profile["transform"], size):
        problem = "has polygons that lie elsewhere than its image"
        raise CorruptSampleError(str(path), problem, "pair the files that belong together")
    with WARNINGS:
        burnt: NDArray[np.uint8] = rasterize(
            shapely.set_coordinates(shapes, points),
            out_shape=size,
            transform=profile["transform"],
            dtype=np.uint8,
        )
    return burnt


def _meets(points: Floats, transform: rasterio.Affine, size: tuple[int, ...]) -> bool:
    """Return whether the box around points in the CRS meets the image, to a pixel."""
    found = apply(~transform, points)  # column, row
    return bool(
        (found.max(axis=0) > -1).all() and (found.min(axis=0) < np.array(size)[::-1] + 1).all()
    )
