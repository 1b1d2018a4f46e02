"""Small pictures of a scene and of its map on one grid, from overviews where there are some."""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.dtypes import in_dtype_range
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from rsdl.core.errors import CorruptSampleError
from rsdl.data.preview import rgb_bands
from rsdl.data.targets.mask import IGNORE, class_colours
from rsdl.raster.dataset_pool import WARNINGS
from rsdl.raster.georef import apply, bounding_box, centre, outline, project, scale
from rsdl.raster.remote import cause_of, explain
from rsdl.raster.scenes import Scene, open_raster

Picture = NDArray[np.uint8]
EARTH_RADIUS_M = 6_378_137.0  # of Web Mercator's sphere
MERCATOR_END_M = math.pi * EARTH_RADIUS_M  # where the map of the world ends, at 85.05 degrees
# Of the values of a picture that is not of 8 bits, what is black and what is white.
STRETCH_PERCENT = (2, 98)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a picture are.

    Attributes:
        crs: Coordinate reference system; ``None`` is that of the scene.
        transform: From (column, row) to the CRS.
        height: In pixels.
        width: In pixels.
    """

    crs: rasterio.CRS | None
    transform: rasterio.Affine
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class WebGrid:
    """A grid in Web Mercator around a meridian.

    Attributes:
        grid: The grid.
        bounds: South, west, north and east in degrees; the east may exceed 180.
    """

    grid: Grid
    bounds: tuple[float, float, float, float]


def scene_grid(scene: Scene, side: int) -> Grid:
    """Return the scene's grid with so large pixels that no side has more than ``side``."""
    factor = max(1.0, max(scene.height, scene.width) / side)
    height, width = (max(1, round(n / factor)) for n in (scene.height, scene.width))
    transform = scale(scene.transform, scene.width / width, scene.height / height)
    return Grid(scene.crs, transform, height, width)


def web_grid(scene: Scene, side: int) -> WebGrid | None:
    """Return a grid of Web Mercator that holds a scene, or ``None`` if it cannot lie there.

    The central meridian is the scene's, so that none is cut at the 180th.

    Args:
        scene: The scene.
        side: Most pixels of a side.
    """
    place = centre(scene) if scene.crs else None
    if place is None:
        return None
    lon = round(place[0], 6)
    crs = rasterio.CRS.from_string(f"+proj=webmerc +datum=WGS84 +lon_0={lon}")
    edge = project(apply(scene.transform, outline(scene.height, scene.width, 64)), scene.crs, crs)
    if edge is None or np.abs(edge).max() > MERCATOR_END_M:
        return None
    left, bottom, right, top = bounding_box(edge).tolist()
    x, y = edge.T
    ground = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    pixel = math.sqrt(ground / (scene.height * scene.width))
    pixel = max(pixel, (right - left) / side, (top - bottom) / side)
    height, width = (max(1, round(n / pixel)) for n in (top - bottom, right - left))
    transform = rasterio.Affine(
        (right - left) / width, 0, left, 0, (bottom - top) / height, top
    )  # the box to the last pixel
    south, north = (
        math.degrees(2 * math.atan(math.exp(n / EARTH_RADIUS_M)) - math.pi / 2)
        for n in (bottom, top)
    )
    west, east = (lon + math.degrees(n / EARTH_RADIUS_M) for n in (left, right))
    return WebGrid(Grid(crs, transform, height, width), (south, west, north, east))


def read_classes(path: Path, scene: Scene, grid: Grid) -> Picture:
    """Return the classes of a map on a grid, ``[H, W]``; 255 outside of it."""
    shrunk = max(scene.height / grid.height, scene.width / grid.width)
    found = np.full((grid.height, grid.width), IGNORE, np.uint8)
    with ExitStack() as stack:
        raster = open_raster(path, stack)
        levels = [n for n, factor in enumerate(raster.overviews(1)) if factor <= shrunk]
        if levels:
            with WARNINGS:
                raster = stack.enter_context(rasterio.open(path, overview_level=levels[-1]))
        _warp(
            rasterio.band(raster, 1),
            found,
            raster.transform,
            scene.crs,
            grid,
            Resampling.nearest,
            IGNORE,
        )
    return found


def show_seen(seen: NDArray[np.bool_], step: int, scene: Scene, grid: Grid) -> NDArray[np.bool_]:
    """Return where a scene has data on a grid, ``[H, W]``, from every ``step``-th pixel of it."""
    found = np.zeros((grid.height, grid.width), np.uint8)
    transform = scale(scene.transform, step, step)
    _warp(seen.astype(np.uint8), found, transform, scene.crs, grid, Resampling.nearest, None)
    return found > 0


def draw_boxes(
    canvas: Picture, corners: NDArray[np.float64], labels: NDArray[np.int64], num_classes: int
) -> None:
    """Draw the outline of boxes ``[N, 4, 2]`` on a picture ``[H, W, 3 or 4]``, the best on top."""
    colours, thick = class_colours(num_classes).tolist(), max(1, round(max(canvas.shape[:2]) / 700))
    for points, label in zip(corners[::-1], labels[::-1].tolist(), strict=True):
        colour = (*colours[label], 255)[: canvas.shape[2]]
        places = np.round(points * 16).astype(np.int32)  # sixteenths of a pixel
        cv2.polylines(canvas, [places - 8], True, colour, thick, cv2.LINE_AA, shift=4)


def to_grid(points: NDArray[np.float64], scene: Scene, grid: Grid) -> NDArray[np.float64]:
    """Return points of a scene (column, row) as those of a grid, ``[..., 2]``."""
    placed = apply(scene.transform, points)
    if scene.crs is not None and grid.crs is not None:
        moved = project(placed.reshape(-1, 2), scene.crs, grid.crs)
        assert moved is not None, "the scene lies on the grid"
        placed = moved.reshape(placed.shape)
    return apply(~grid.transform, placed)


def read_picture(scene: Scene, grid: Grid, known: NDArray[np.bool_]) -> Picture:
    """Return a scene in colours on a grid, ``[H, W, 3]``.

    8-bit colours are unchanged; other types are stretched over most of the values that are seen.

    Args:
        scene: The scene.
        grid: The grid.
        known: Where the scene has data, ``[H, W]``, as its map says.

    Raises:
        CorruptSampleError: If the file cannot be read.
    """
    bands = [scene.indexes[place] for place in rgb_bands(scene.bands)]
    try:
        with ExitStack() as stack:
            source = open_raster(scene.path, stack)
            window = scene.in_file(Window(0, 0, scene.width, scene.height))
            factor = max(1.0, window.height / grid.height, window.width / grid.width)
            size = [max(1, round(n / factor)) for n in (window.height, window.width)]
            pixels = source.read(
                bands, window=window, out_shape=(3, *size), resampling=Resampling.average
            )
            nodata = source.nodata if scene.nodata is None else scene.nodata
    except rasterio.errors.RasterioError as error:
        problem = f"cannot be read: {explain(error, scene.path)}"
        remedy, cause = "replace it, or leave it out", cause_of(error, scene.path)
        raise CorruptSampleError(str(scene.path), problem, remedy) from cause
    transform = scale(scene.transform, scene.width / size[1], scene.height / size[0])
    if nodata is not None and not in_dtype_range(nodata, pixels.dtype):
        nodata = None  # no pixel has it
    found = np.zeros((3, grid.height, grid.width), pixels.dtype)
    _warp(pixels, found, transform, scene.crs, grid, Resampling.bilinear, nodata)
    shown = found if found.dtype == np.uint8 else _stretch(found, known)
    return np.ascontiguousarray(np.moveaxis(shown, 0, 2))


def paint(classes: Picture, num_classes: int) -> Picture:
    """Return the classes of a map in their colours, ``[H, W] -> [H, W, 3]``; without data black."""
    colours = np.zeros((IGNORE + 1, 3), np.uint8)
    colours[:num_classes] = class_colours(num_classes)
    return np.asarray(colours[classes])


def _stretch(pixels: NDArray[Any], known: NDArray[np.bool_]) -> Picture:
    """Return bands ``[3, H, W]`` as bytes: black and white are ``STRETCH_PERCENT`` of the known."""
    stretched = np.zeros(pixels.shape, np.uint8)
    for band, values in zip(stretched, pixels.astype(np.float64), strict=True):
        seen = known & np.isfinite(values)
        if seen.any():
            low, high = np.percentile(values[seen], STRETCH_PERCENT).tolist()
            shares = (np.where(seen, values, low) - low) / ((high - low) or 1)
            band[:] = (shares * 255).clip(0, 255)
    return stretched


def _warp(
    source: Any,  # noqa: ANN401 - a band or an array
    found: NDArray[Any],
    transform: rasterio.Affine,
    crs: rasterio.CRS | None,
    grid: Grid,
    resampling: Resampling,
    nodata: float | None,
) -> None:
    # Without a CRS any does: both are in the same.
    here = crs or rasterio.CRS.from_epsg(3857)
    with WARNINGS:
        reproject(
            source, found, src_transform=transform, src_crs=here, dst_transform=grid.transform,
            dst_crs=(grid.crs if crs else None) or here, resampling=resampling,
            src_nodata=nodata,
            init_dest_nodata=False,
        )  # fmt: skip
