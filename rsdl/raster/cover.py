"""Polygons over a scene, burnt onto the pixels of its windows.

A window with no polygon edge nearby is not rasterized: one number stands for all of its pixels.
"""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsdl.raster.dataset_pool import WARNINGS
from rsdl.raster.densify import Objects, move_polygons
from rsdl.raster.georef import Floats, apply, bounding_box, bounds_of, outline, shift
from rsdl.raster.scenes import Scene

LabelMap = NDArray[np.int32]


def pixel_boxes(boxes: Floats, scene: Scene) -> Floats:
    """Return (top, left, bottom, right) in pixels of a scene for boxes ``[N, 4]`` in its CRS."""
    x0, y0, x1, y1 = boxes.T
    corners = np.stack([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]).transpose(2, 0, 1)  # [N, 4, 2]
    left, top, right, bottom = bounding_box(apply(~scene.transform, corners)).T
    return np.stack([top, left, bottom, right], axis=1)


def boxes_meet(boxes: Floats, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    """Return which pixel boxes ``[N, 4]`` overlap a window."""
    return (
        (boxes[:, 0] < bottom)
        & (boxes[:, 2] > top)
        & (boxes[:, 1] < right)
        & (boxes[:, 3] > left)
    )  # fmt: skip


class PolygonCover:
    """The polygons that overlap a scene; where they overlap each other, the later one wins.

    Args:
        shapes: Valid polygons, ``[N]``.
        codes: Value of each, 0 or more, ``[N]``.
        tree: Spatial index of the polygons.
        crs: Their coordinate reference system.
        scene: The scene.
        all_touched: Whether a pixel is covered that is touched, not only one whose centre is.

    Attributes:
        shapes: The polygons that overlap the scene, in its CRS, ``[M]``.
        codes: Value of each, ``[M]``.
        boxes: (top, left, bottom, right) of each in pixels, ``[M, 4]``.
    """

    def __init__(
        self,
        shapes: Objects,
        codes: NDArray[np.int32],
        tree: shapely.STRtree,
        crs: rasterio.CRS,
        scene: Scene,
        *,
        all_touched: bool = False,
    ) -> None:
        if crs == scene.crs:
            ground = bounding_box(apply(scene.transform, outline(scene.height, scene.width, 1)))
            numbers = np.sort(tree.query(shapely.box(*ground)))
            near = shapes[numbers]
        else:
            near, numbers = move_polygons(shapes, tree, crs, scene)
        boxes = pixel_boxes(shapely.bounds(near).reshape(-1, 4), scene)
        hit = boxes_meet(boxes, 0, 0, scene.height, scene.width)
        self.shapes, self.codes = near[hit], codes[numbers][hit]
        self.boxes: Floats = boxes[hit]
        self._transform, self._all_touched = scene.transform, all_touched
        self._tree = shapely.STRtree(self.shapes)
        shapely.prepare(self.shapes)
        # GEOS builds prepared geometries lazily at the first query, which is not thread-safe.
        self._lock = threading.Lock()

    def paint(self, row: int, col: int, height: int, width: int) -> LabelMap | int:
        """Return the value of each pixel of a window, ``[height, width]``, 0 where there is none.

        Returns a single number if no polygon edge is near the window.
        """
        place = shift(self._transform, row, col)
        ground, edges = self._uncover(place, height, width)
        if not edges:
            return ground
        with WARNINGS:
            painted: LabelMap = rasterize(
                edges,
                out_shape=(height, width),
                fill=ground,
                transform=place,
                dtype=np.int32,
                all_touched=self._all_touched,
            )
        return painted

    def sample(self, pixels: NDArray[np.integer]) -> LabelMap:
        """Return the value of pixels (row, column) ``[N, 2]``, 0 where there is none."""
        centres = apply(self._transform, pixels[:, ::-1].astype(np.float64) + 0.5)
        points, shapes = self._tree.query(shapely.points(centres), predicate="intersects")
        topmost = np.full(len(pixels), -1)
        np.maximum.at(topmost, points, shapes)
        return np.where(topmost < 0, 0, np.append(self.codes, 0)[topmost]).astype(np.int32)

    def _uncover(
        self, place: rasterio.Affine, height: int, width: int
    ) -> tuple[int, list[tuple[dict[str, Any], int]]]:
        """Return the code under all edges in a window, and the polygons to paint above, in order.

        Args:
            place: Transform of the window.
            height: Of the window in pixels.
            width: Of the window in pixels.

        Returns:
            The code of the topmost polygon that covers the whole window, 0 if there is none, and
            the polygons above it with edges near the window, with their codes.
        """
        # One pixel more on each side, so that GDAL's rounding cannot reach an edge missed here.
        box = shapely.box(*bounds_of(shift(place, -1, -1), height + 2, width + 2))
        near = np.sort(self._tree.query(box))
        if not len(near):
            return 0, []
        with self._lock:
            whole = shapely.contains_properly(self.shapes[near], box)
            seen = whole | shapely.intersects(self.shapes[near], box)
        last = np.flatnonzero(whole)[-1:]
        ground = int(self.codes[near[last[0]]]) if len(last) else 0
        above = near[last[0] + 1 :][seen[last[0] + 1 :]] if len(last) else near[seen]
        return ground, list(_outlines(self.shapes[above], self.codes[above]))


def _outlines(shapes: Objects, codes: NDArray[np.int32]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield polygons as GeoJSON with their codes; faster than ``shapely.geometry.mapping``."""
    for shape, code in zip(shapes, codes.tolist(), strict=True):
        rings = shapely.get_rings(shape)
        positions = [shapely.get_coordinates(ring).tolist() for ring in rings]
        yield {"type": "Polygon", "coordinates": positions}, code
