"""Project polygons to the CRS of a scene, with edges densified so that they stay exact.

An edge that is straight in one CRS is curved in another: projecting only its two corners would
misplace a long edge by many pixels. So edges are divided before they are projected, and only near
the scene: points far away may not be representable in its CRS.
"""

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from rsdl.raster.georef import Floats, apply, project
from rsdl.raster.scenes import Scene

Objects = NDArray[np.object_]
GRID = 16
# Largest error of an edge's midpoint, in pixels.
MAX_BEND = 0.25
HALVINGS = 30
DIRECTIONS = np.array([[1, 0], [0, 1], [1, 1], [1, -1]])


def move_polygons(
    shapes: Objects,
    tree: shapely.STRtree,
    source: rasterio.CRS,
    scene: Scene,
) -> tuple[Objects, NDArray[np.int64]]:
    """Return the polygons near a scene in its CRS, and their indices in ``shapes``.

    Args:
        shapes: Valid polygons, ``[N]``.
        tree: Spatial index of the polygons.
        source: CRS of the polygons.
        scene: The scene whose CRS they are projected to.
    """
    grid = _grid(scene, source)
    area, numbers = _find_near(grid, tree)
    if not len(numbers):
        return shapes[numbers], numbers
    near = shapes[numbers]
    beyond = ~shapely.covered_by(near, area)
    near[beyond] = shapely.intersection(near[beyond], area)
    near, index = shapely.get_parts(near, return_index=True)
    kept = (shapely.get_type_id(near) == 3) & (shapely.area(near) > 0)
    near, numbers = near[kept], numbers[index][kept]
    near = shapely.segmentize(near, _longest_edge(grid, source, scene))
    return _project(near, numbers, source, scene)


def move_outlines(
    shapes: Objects, tree: shapely.STRtree, source: rasterio.CRS, scene: Scene
) -> tuple[Objects, NDArray[np.int64]]:
    """Return the outlines near a scene in its CRS, point by point, and their indices in ``shapes``.

    For things that are small beside the scene, whose corners count and whose edges do not bend.

    Args:
        shapes: Geometries, ``[N]``.
        tree: Spatial index of them.
        source: CRS of the geometries.
        scene: The scene whose CRS they are projected to.
    """
    _, numbers = _find_near(_grid(scene, source), tree)
    return _project(shapes[numbers], numbers, source, scene)


def _find_near(grid: Floats, tree: shapely.STRtree) -> tuple[shapely.Polygon, NDArray[np.int64]]:
    """Return an area around a grid of points, and the indices of what it meets."""
    low, high = grid.min(axis=0), grid.max(axis=0)
    margin = (high - low) / 4  # far more than an edge curves between two points of the grid
    area = shapely.box(*(low - margin), *(high + margin))
    return area, np.sort(tree.query(area, predicate="intersects"))


def _project(
    near: Objects, numbers: NDArray[np.int64], source: rasterio.CRS, scene: Scene
) -> tuple[Objects, NDArray[np.int64]]:
    """Return shapes in a scene's CRS, with their numbers; without those that it cannot hold."""
    points = project(shapely.get_coordinates(near), source, scene.crs)
    if points is not None:
        return shapely.set_coordinates(near.copy(), points), numbers
    # Some point cannot be projected to the scene's CRS: its polygon is far away, so drop it.
    moved = [project(shapely.get_coordinates(shape), source, scene.crs) for shape in near]
    there = np.array([points is not None for points in moved])
    placed = [
        shapely.set_coordinates(shape, points)
        for shape, points in zip(near, moved, strict=True)
        if points is not None
    ]
    return np.array(placed, object), numbers[there]


def _grid(scene: Scene, target: rasterio.CRS) -> Floats:
    """Return a grid of points over a scene in another CRS, without those that do not project."""
    rows, cols = np.meshgrid(
        np.linspace(-1, scene.height + 1, GRID), np.linspace(-1, scene.width + 1, GRID)
    )
    pixels = np.stack([cols.ravel(), rows.ravel()], axis=1)
    points = apply(scene.transform, pixels)
    moved = project(points, scene.crs, target)
    if moved is not None:
        return moved
    alone = (project(point[None], scene.crs, target) for point in points)
    found = [point for point in alone if point is not None]
    return np.concatenate(found) if found else np.zeros((1, 2))


def _longest_edge(grid: Floats, source: rasterio.CRS, scene: Scene) -> float:
    """Return the longest edge in ``source`` whose midpoint error in the scene is small enough."""
    length = float(np.ptp(grid, axis=0).max()) or 1.0
    for _ in range(HALVINGS):
        starts = np.repeat(grid, len(DIRECTIONS), axis=0)
        ends = starts + length * np.tile(DIRECTIONS, (len(grid), 1))
        points = project(np.concatenate([starts, ends, (starts + ends) / 2]), source, scene.crs)
        if points is not None:
            first, last, middle = np.split(apply(~scene.transform, points), 3)
            if np.abs(middle - (first + last) / 2).max() <= MAX_BEND:
                break
        length /= 2
    return length
