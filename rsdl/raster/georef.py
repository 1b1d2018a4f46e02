"""Positions of scenes and tiles on the ground, in one coordinate reference system for all.

Scenes that share a CRS are compared in it; others in EPSG:6933 (cylindrical equal area, metres, the
whole world but the poles). A box in another CRS is the bounding box of its projected corners: it is
larger than the true area, but never by more than the gap between splits.
"""

from collections.abc import Sequence

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.warp import transform

from rsdl.core.errors import DataError
from rsdl.raster.scenes import Scene

Floats = NDArray[np.float64]
WORLD = "EPSG:6933"
HALF_WORLD_M = 17_000_000.0
LONLAT = rasterio.CRS.from_epsg(4326)
EQUATOR_M, E2 = 6_378_137.0, 0.00669437999014  # of WGS 84: equatorial radius, squared eccentricity


def common_crs(scenes: Sequence[Scene]) -> rasterio.CRS:
    """Return the CRS of all scenes, or ``WORLD`` if they differ."""
    first = scenes[0].crs
    return first if all(s.crs == first for s in scenes) else rasterio.CRS.from_string(WORLD)


def project(points: Floats, source: rasterio.CRS, target: rasterio.CRS) -> Floats | None:
    """Return points (x, y) ``[N, 2]`` in another CRS, or ``None`` if one cannot be projected."""
    if source == target or not len(points):
        return points
    try:
        moved = np.array(transform(source, target, points[:, 0].tolist(), points[:, 1].tolist()))
    except CPLE_BaseError:  # rasterio passes on PROJ's error; it converts all points or none
        return None
    return moved.T if np.isfinite(moved).all() else None


def centre(scene: Scene) -> tuple[float, float] | None:
    """Return longitude and latitude of a scene's centre, ``None`` if it is nowhere on Earth."""
    middle = apply(scene.transform, np.array([[scene.width / 2, scene.height / 2]]))
    place = project(middle, scene.crs, LONLAT)
    return None if place is None else (float(place[0, 0]), float(place[0, 1]))


def holds_pole(scene: Scene) -> bool:
    """Return whether a pole lies in a scene of a projected CRS; in degrees it is an edge."""
    if scene.crs.is_geographic:
        return False
    poles = (project(np.array([[0.0, lat]]), LONLAT, scene.crs) for lat in (90.0, -90.0))
    places = [apply(~scene.transform, pole)[0] for pole in poles if pole is not None]
    return any(0 <= x <= scene.width and 0 <= y <= scene.height for x, y in places)


def apply(affine: rasterio.Affine, points: Floats) -> Floats:
    """Return points ``[..., 2]`` transformed by an affine transform."""
    x, y = points[..., 0], points[..., 1]
    return np.stack(
        [affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f], axis=-1
    )


def scale(place: rasterio.Affine, x: float, y: float) -> rasterio.Affine:
    """Return the transform of pixels that are so many times as wide and as high."""
    return rasterio.Affine(place.a * x, place.b * y, place.c, place.d * x, place.e * y, place.f)


def shift(affine: rasterio.Affine, row: int, col: int) -> rasterio.Affine:
    """Return the transform of a window whose top-left pixel is (row, column)."""
    left = affine.a * col + affine.b * row + affine.c
    top = affine.d * col + affine.e * row + affine.f
    return rasterio.Affine(affine.a, affine.b, left, affine.d, affine.e, top)


def bounding_box(points: Floats) -> Floats:
    """Return the box (x0, y0, x1, y1) ``[..., 4]`` around points ``[..., K, 2]``."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def outline(height: int, width: int, steps: int = 16) -> Floats:
    """Return points along the edge of a raster as (column, row), ``[4 * steps, 2]``."""
    along = np.arange(steps) / steps
    edge = np.concatenate(
        [
            np.stack([along, 0 * along], axis=1),
            np.stack([1 + 0 * along, along], axis=1),
            np.stack([1 - along, 1 + 0 * along], axis=1),
            np.stack([0 * along, 1 - along], axis=1),
        ]
    )
    return np.asarray(edge * [width, height])


def bounds_of(place: rasterio.Affine, height: int, width: int) -> tuple[float, ...]:
    """Return the box (x0, y0, x1, y1) around a window with transform ``place``."""
    # Python floats: for one tile NumPy takes ten times as long.
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    x = [place.a * col + place.b * row + place.c for col, row in corners]
    y = [place.d * col + place.e * row + place.f for col, row in corners]
    return min(x), min(y), max(x), max(y)


def pixel_sizes(transforms: Floats, crs: rasterio.CRS) -> Floats | None:
    """Return how long the side of a pixel is on the ground, whatever the unit of its CRS.

    The root of its area on the WGS 84 ellipsoid: Web Mercator's metres are none, and the degrees of
    a geographic CRS depend on the latitude.

    Args:
        transforms: The six numbers of an affine transform, a row each; their first pixel is
            measured, ``[N, 6]``.
        crs: Their CRS.

    Returns:
        In metres, ``[N]``; ``None`` if a pixel cannot be placed on Earth.
    """
    a, b, c, d, e, f = transforms.T
    points = np.stack([[c, f], [c + a, f + d], [c + b, f + e]])  # [3, 2, N]
    moved = ground_vectors(points.transpose(0, 2, 1), crs)
    if moved is None:
        return None
    east, north = moved.transpose(2, 0, 1)  # [2, N] each
    return np.asarray(np.sqrt(np.abs(east[0] * north[1] - east[1] * north[0])))


def ground_vectors(points: Floats, crs: rasterio.CRS) -> Floats | None:
    """Return how far east and north of its first point each further one lies on the ground.

    On the WGS 84 ellipsoid, from the first point's radii of curvature: right for what is small
    against the Earth.

    Args:
        points: x and y of K points for each of N, ``[K, N, 2]``.
        crs: Their CRS.

    Returns:
        In metres, ``[K - 1, N, 2]``; ``None`` if a point cannot be placed on Earth.
    """
    moved = project(points.reshape(-1, 2), crs, LONLAT)
    if moved is None:
        return None
    lon, lat = np.radians(moved.reshape(points.shape)).transpose(2, 0, 1)  # [K, N] each
    # Radii of curvature along and across the meridian, e.g. Snyder (1987), equations 4-18 and 4-20.
    bend = 1 - E2 * np.sin(lat[0]) ** 2
    north = (lat[1:] - lat[0]) * EQUATOR_M * (1 - E2) / bend**1.5
    turned = (lon[1:] - lon[0] + np.pi) % (2 * np.pi) - np.pi
    east = turned * EQUATOR_M / np.sqrt(bend) * np.cos(lat[0])
    return np.stack([east, north], axis=-1)


def footprint(scene: Scene, crs: rasterio.CRS) -> Floats:
    """Return the box of a scene in ``crs``, one pixel wider so that adjoining scenes touch.

    Raises:
        DataError: If the scene cannot be projected to ``crs``.
    """
    pixels = outline(scene.height, scene.width)
    grown = pixels + np.sign(pixels - [scene.width / 2, scene.height / 2])
    points = project(apply(scene.transform, grown), scene.crs, crs)
    box = _check(bounding_box(points)[None] if points is not None else None, scene, crs)[0]
    return np.asarray(box)


def tile_boxes(
    scene: Scene, corners: NDArray[np.integer], tile: int, crs: rasterio.CRS
) -> NDArray[np.float64]:
    """Return the boxes of tiles on the ground.

    Args:
        scene: The scene that contains the tiles.
        corners: (row, column) of each tile, ``[N, 2]``.
        tile: Side of a tile in pixels.
        crs: CRS of the returned boxes.

    Returns:
        (x0, y0, x1, y1), ``[N, 4]``.

    Raises:
        DataError: If the scene cannot be projected to ``crs``.
    """
    square = np.array([[0, 0], [tile, 0], [tile, tile], [0, tile]], float)
    pixels = corners[:, None, ::-1].astype(float) + square  # [N, 4, 2] as (column, row)
    points = project(apply(scene.transform, pixels).reshape(-1, 2), scene.crs, crs)
    boxes = bounding_box(points.reshape(-1, 4, 2)) if points is not None else None
    return _check(boxes, scene, crs)


def _check(boxes: Floats | None, scene: Scene, crs: rasterio.CRS) -> Floats:
    if boxes is None or (
        scene.crs != crs and len(boxes) and (boxes[:, 2] - boxes[:, 0]).max() > HALF_WORLD_M
    ):
        raise DataError(
            str(scene.path),
            f"cannot be placed beside the other scenes in {crs.to_string()} (a pole or the 180th "
            "meridian)",
            "reproject all scenes to one CRS",
        )
    return boxes
