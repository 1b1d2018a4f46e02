"""Labels on the ground, painted onto a tile's own pixels; the class that covers most of it wins.

Counting pixels instead of intersecting polygons treats GeoJSON and class rasters alike and needs no
geometry library; it is exact to a pixel. Only pixels that hold data are counted, so a class that
lies under the nodata border of a scene labels nothing. A tile that no edge comes near is not
painted: one number stands for all of its pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.tiling.geojson import list_polygons, load_page, read_crs
from rsdl.data.sources.tiling.ground import (
    apply,
    bounding_box,
    bounds_of,
    project,
    shift,
)
from rsdl.data.sources.tiling.handles import WARNINGS
from rsdl.data.sources.tiling.polygon import Polygon
from rsdl.data.sources.tiling.scenes import Scene

Floats = NDArray[np.float64]
Painted = NDArray[np.int32]


class Labels(Protocol):
    """What is known about the ground.

    Attributes:
        classes: Class names.
        files: The files that the labels come from.
        extent: What they cover, for errors: a box and its CRS.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """What they cover: (x0, y0, x1, y1) and its CRS."""
        ...

    def boxes(self, scene: int) -> Floats:
        """Return the boxes (top, left, bottom, right) in pixels that hold all labels of a scene."""
        ...

    def paint(self, scene: int, row: int, col: int, tile: int) -> Painted | int:
        """Return class index + 1 for each pixel of a tile ``[tile, tile]``; 0 has no label.

        One number where all pixels are known to have the same.
        """
        ...


def majority(
    painted: Painted | int, valid: NDArray[np.bool_] | None, num_classes: int, min_cover: float
) -> int | None:
    """Return the class that covers most of a tile, the first of equals.

    Args:
        painted: Class index + 1, 0 where there is no label, ``[H, W]``, or one for all pixels.
        valid: Where the tile has data, ``[H, W]``; ``None`` has it everywhere.
        num_classes: Number of classes.
        min_cover: Share of the pixels with data that the class must cover at least.

    Returns:
        The class index, or ``None`` where no class covers enough.
    """
    if isinstance(painted, int):
        return painted - 1 if painted and (valid is None or valid.any()) else None
    counted = painted.ravel() if valid is None else painted[valid]
    counts = np.bincount(counted, minlength=num_classes + 1)
    best = int(counts[1:].argmax())
    covered = int(counts[best + 1])
    return best if covered and covered >= min_cover * counts.sum() else None


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


class PolygonLabels:
    """Polygons of a GeoJSON file; where they overlap, the later one in the file wins.

    Args:
        path: The file.
        field: Property that names the class.
        classes: Class names wanted, in order; ``None`` takes all that occur, sorted.
        scenes: The scenes to label.

    Raises:
        DataError: If it is not GeoJSON, or a feature has no class or is not a polygon.
        ConfigError: If a class that is wanted does not occur.
    """

    def __init__(
        self, path: Path, field: str, classes: Sequence[str] | None, scenes: Sequence[Scene]
    ) -> None:
        self.files: tuple[Path, ...] = (path,)
        self._scenes = scenes
        page = load_page(path)
        self._crs = read_crs(page, path)
        shapes = list(list_polygons(page, path, field))
        self.classes = _choose(sorted({name for name, _ in shapes}), classes, path)
        index = {name: number for number, name in enumerate(self.classes)}
        kept = [Polygon(index[name], rings) for name, rings in shapes if name in index]
        self._by_crs: dict[str, list[Polygon]] = {}
        self._hits: list[tuple[list[Polygon], Floats]] = []
        self._extent = _box_all(kept)
        for scene in scenes:
            polygons = self._project(kept, scene.crs)
            outlines = np.array([bounding_box(polygon.rings[0]) for polygon in polygons])
            boxes = pixel_boxes(outlines.reshape(-1, 4), scene)
            hit = boxes_meet(boxes, 0, 0, scene.height, scene.width)
            hit &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # has an area
            self._hits.append(([polygons[i] for i in np.flatnonzero(hit)], boxes[hit]))

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """What all polygons cover, in the file's CRS."""
        return self._extent, self._crs

    def boxes(self, scene: int) -> Floats:
        """Return the boxes of the polygons that meet a scene, in pixels, ``[N, 4]``."""
        return self._hits[scene][1]

    def paint(self, scene: int, row: int, col: int, tile: int) -> Painted | int:
        """Return class index + 1 for each pixel whose centre a polygon covers, 0 elsewhere.

        One number where no edge comes near the tile.
        """
        polygons, boxes = self._hits[scene]
        hit = np.flatnonzero(boxes_meet(boxes, row, col, row + tile, col + tile))
        place = shift(self._scenes[scene].transform, row, col)
        ground, seen = _uncover([polygons[number] for number in hit.tolist()], place, tile)
        if not seen:
            return ground
        shapes = (
            ({"type": "Polygon", "coordinates": [r.tolist() for r in shape.rings]}, shape.label + 1)
            for shape in seen
        )
        with WARNINGS:
            painted: Painted = rasterize(
                shapes, out_shape=(tile, tile), fill=ground, transform=place, dtype=np.int32
            )
        return painted

    def _project(self, polygons: list[Polygon], crs: rasterio.CRS) -> list[Polygon]:
        key = crs.to_wkt()
        if key not in self._by_crs:
            self._by_crs[key] = _project_all(polygons, self._crs, crs)
        return self._by_crs[key]


def _uncover(
    polygons: list[Polygon], place: rasterio.Affine, tile: int
) -> tuple[int, list[Polygon]]:
    """Return what lies under all edges in a tile, and the polygons whose edges come near, in order.

    Args:
        polygons: From the lowest to the topmost.
        place: Transform of the tile.
        tile: Side of the tile in pixels.

    Returns:
        Class index + 1 of the topmost polygon that covers the whole tile, 0 where there is none,
        and those above it that must be painted.
    """
    # A pixel more on each side: GDAL's rounding must not find an edge where none is seen here.
    box = bounds_of(shift(place, -1, -1), tile + 2)
    middle = shift(place, tile // 2, tile // 2)
    seen: list[Polygon] = []
    for polygon in reversed(polygons):
        if polygon.touches(box):
            seen.append(polygon)
        elif polygon.holds(middle.c, middle.f):
            return polygon.label + 1, seen[::-1]
    return 0, seen[::-1]


def _project_all(
    polygons: list[Polygon], source: rasterio.CRS, target: rasterio.CRS
) -> list[Polygon]:
    rings = [ring for polygon in polygons for ring in polygon.rings]
    if rings and (moved := project(np.concatenate(rings), source, target)) is not None:
        parts = iter(np.split(moved, np.cumsum([len(ring) for ring in rings])[:-1]))
        return [Polygon(p.label, tuple(next(parts) for _ in p.rings)) for p in polygons]
    # Some point has no place in the scene's CRS: it is far away, and so is its polygon.
    alone = (
        (polygon.label, [project(ring, source, target) for ring in polygon.rings])
        for polygon in polygons
    )
    return [
        Polygon(label, tuple(ring for ring in rings if ring is not None))
        for label, rings in alone
        if all(ring is not None for ring in rings)
    ]


def _box_all(polygons: list[Polygon]) -> Floats:
    boxes = np.array([bounding_box(polygon.rings[0]) for polygon in polygons]).reshape(-1, 4)
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _choose(found: list[str], wanted: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    if not found:
        raise DataError(str(path), "has no polygons", "give a FeatureCollection of polygons")
    if wanted is None:
        return tuple(found)
    for name in wanted:
        if name not in found:
            raise ConfigError(
                "classes", f'no polygon of {path} is of class "{name}"', f"use {', '.join(found)}"
            )
    return tuple(wanted)
