"""Rasterize labels onto the pixels of a tile; the class that covers most of the tile wins.

Counting pixels instead of intersecting polygons treats polygons and class rasters alike; it is
exact to a pixel. Only pixels with data are counted, so a class under the nodata border of a scene
labels nothing. A tile with no polygon edge nearby is not rasterized: one number stands for all of
its pixels.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster.dataset_pool import WARNINGS
from rsdl.raster.densify import Objects, move_polygons
from rsdl.raster.georef import (
    Floats,
    apply,
    bounding_box,
    bounds_of,
    outline,
    shift,
)
from rsdl.raster.scenes import Scene
from rsdl.raster.vectors import files_of, read_polygons

LabelMap = NDArray[np.int32]


class Labels(Protocol):
    """Label source: polygons or class rasters.

    Attributes:
        classes: Class names.
        files: The label files.
        extent: Bounding box of the labels and its CRS, for errors.
        left_out: Reason -> number of features that label nothing.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    left_out: dict[str, int]

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """Bounding box (x0, y0, x1, y1) of the labels, and its CRS."""
        ...

    def boxes(self, scene: int) -> Floats:
        """Return the boxes (top, left, bottom, right) in pixels that hold all labels of a scene."""
        ...

    def paint(self, scene: int, row: int, col: int, tile: int) -> LabelMap | int:
        """Return class index + 1 for each pixel of a tile ``[tile, tile]``; 0 has no label.

        Returns a single number if all pixels are known to have the same.
        """
        ...

    def sample(self, scene: int, pixels: NDArray[np.integer]) -> LabelMap:
        """Return class index + 1 of pixels (row, column) ``[N, 2]``, 0 where it is unknown.

        Splits are drawn from it before tiles are read; a read error is left to the reading of the
        tile.
        """
        ...


def majority(
    painted: LabelMap | int, valid: NDArray[np.bool_] | None, num_classes: int, min_cover: float
) -> int | None:
    """Return the class that covers most of a tile; ties go to the lowest index.

    Args:
        painted: Class index + 1, 0 where there is no label, ``[H, W]``, or one for all pixels.
        valid: Where the tile has data, ``[H, W]``; ``None`` means everywhere.
        num_classes: Number of classes.
        min_cover: Least share of the pixels with data that the class must cover.

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


@dataclass(frozen=True, slots=True)
class LabelRules:
    """The user's options for labels; same fields as in ``GeotiffOptions``."""

    field: str = "class"
    layer: str | None = None
    classes: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    all_touched: bool = False
    background: str | None = None


@dataclass(frozen=True, slots=True)
class _Cover:
    """The polygons that overlap a scene, in its CRS, from bottom to top.

    Attributes:
        shapes: Prepared polygons, ``[N]``.
        codes: Value of each polygon: class index + 1, 0 for no label.
        boxes: Boxes of the polygons in pixels, ``[N, 4]``.
        tree: Spatial index of the polygons.
    """

    shapes: Objects
    codes: NDArray[np.int32]
    boxes: Floats
    tree: shapely.STRtree


class PolygonLabels:
    """Polygons of a vector file; where they overlap, the later one in the file wins.

    Args:
        path: The file.
        rules: Field with the class name, layer, classes to use, and classes to ignore.
        scenes: The scenes to label.

    Raises:
        DataError: If it cannot be read, or a feature has no class or is not a polygon.
        ConfigError: If a class to use or to ignore does not occur.
    """

    def __init__(self, path: Path, rules: LabelRules, scenes: Sequence[Scene]) -> None:
        self.files = files_of(path)
        self._scenes = scenes
        self._all_touched = rules.all_touched
        # GEOS builds prepared geometries lazily at the first query, which is not thread-safe.
        self._lock = threading.Lock()
        found = read_polygons(path, rules.field, rules.layer)
        self._crs, self.left_out = found.crs, found.left_out
        self.classes = _choose(sorted(set(found.names)), rules, path)
        code = {name: number for number, name in enumerate(self.classes, start=1)}
        code |= dict.fromkeys(rules.ignore, 0)
        codes = np.array([code.get(name, -1) for name in found.names], np.int32)
        shapes, codes = found.shapes[codes >= 0], codes[codes >= 0]
        self._extent = np.asarray(shapely.total_bounds(shapes))
        tree = shapely.STRtree(shapes)
        self._covers = [_cover(shapes, codes, tree, self._crs, scene) for scene in scenes]

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """Bounding box of all polygons, in the file's CRS."""
        return self._extent, self._crs

    def boxes(self, scene: int) -> Floats:
        """Return the boxes of the polygons that label a scene, in pixels, ``[N, 4]``."""
        cover = self._covers[scene]
        return cover.boxes[cover.codes > 0]

    def paint(self, scene: int, row: int, col: int, tile: int) -> LabelMap | int:
        """Return class index + 1 for each pixel whose centre a polygon covers, 0 elsewhere.

        With ``all_touched``, for each pixel that a polygon touches. Returns a single number if no
        polygon edge is near the tile.
        """
        place = shift(self._scenes[scene].transform, row, col)
        ground, edges = self._uncover(self._covers[scene], place, tile)
        if not edges:
            return ground
        with WARNINGS:
            painted: LabelMap = rasterize(
                edges,
                out_shape=(tile, tile),
                fill=ground,
                transform=place,
                dtype=np.int32,
                all_touched=self._all_touched,
            )
        return painted

    def sample(self, scene: int, pixels: NDArray[np.integer]) -> LabelMap:
        """Return class index + 1 of pixels (row, column) ``[N, 2]``; 0 has no label."""
        cover = self._covers[scene]
        centres = apply(self._scenes[scene].transform, pixels[:, ::-1].astype(np.float64) + 0.5)
        points, shapes = cover.tree.query(shapely.points(centres), predicate="intersects")
        topmost = np.full(len(pixels), -1)
        np.maximum.at(topmost, points, shapes)
        return np.where(topmost < 0, 0, np.append(cover.codes, 0)[topmost]).astype(np.int32)

    def _uncover(
        self, cover: _Cover, place: rasterio.Affine, tile: int
    ) -> tuple[int, list[tuple[dict[str, Any], int]]]:
        """Return the code under all edges in a tile, and the polygons to paint above it, in order.

        Args:
            cover: The polygons.
            place: Transform of the tile.
            tile: Side of the tile in pixels.

        Returns:
            The code of the topmost polygon that covers the whole tile, 0 if there is none, and the
            polygons above it with edges near the tile, with their codes.
        """
        # One pixel more on each side, so that GDAL's rounding cannot reach an edge missed here.
        box = shapely.box(*bounds_of(shift(place, -1, -1), tile + 2))
        near = np.sort(cover.tree.query(box))
        if not len(near):
            return 0, []
        with self._lock:
            whole = shapely.contains_properly(cover.shapes[near], box)
            seen = whole | shapely.intersects(cover.shapes[near], box)
        last = np.flatnonzero(whole)[-1:]
        ground = int(cover.codes[near[last[0]]]) if len(last) else 0
        above = near[last[0] + 1 :][seen[last[0] + 1 :]] if len(last) else near[seen]
        return ground, list(_outlines(cover.shapes[above], cover.codes[above]))


def _outlines(shapes: Objects, codes: NDArray[np.int32]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield polygons as GeoJSON with their codes; faster than ``shapely.geometry.mapping``."""
    for shape, code in zip(shapes, codes.tolist(), strict=True):
        rings = shapely.get_rings(shape)
        positions = [shapely.get_coordinates(ring).tolist() for ring in rings]
        yield {"type": "Polygon", "coordinates": positions}, code


def _cover(
    shapes: Objects,
    codes: NDArray[np.int32],
    tree: shapely.STRtree,
    source: rasterio.CRS,
    scene: Scene,
) -> _Cover:
    if source == scene.crs:
        ground = bounding_box(apply(scene.transform, outline(scene.height, scene.width, 1)))
        numbers = np.sort(tree.query(shapely.box(*ground)))
        near = shapes[numbers]
    else:
        near, numbers = move_polygons(shapes, tree, source, scene)
    boxes = pixel_boxes(shapely.bounds(near).reshape(-1, 4), scene)
    hit = boxes_meet(boxes, 0, 0, scene.height, scene.width)
    near = near[hit]
    shapely.prepare(near)
    return _Cover(near, codes[numbers][hit], boxes[hit], shapely.STRtree(near))


def _choose(found: list[str], rules: LabelRules, path: Path) -> tuple[str, ...]:
    if not found:
        raise DataError(str(path), "has no polygons", "give a layer of polygons")
    for field, names in (("classes", rules.classes or ()), ("ignore", rules.ignore)):
        for name in names:
            if name not in found:
                problem = f'no polygon of {path} is of class "{name}"'
                raise ConfigError(field, problem, f"use {', '.join(found)}")
    if both := set(rules.ignore) & set(rules.classes or ()):
        raise ConfigError("ignore", f'"{min(both)}" is among the classes, too', "name it once")
    kept = tuple(rules.classes or (name for name in found if name not in rules.ignore))
    if not kept:
        raise ConfigError("ignore", "leaves no class", f"leave out one of {', '.join(found)}")
    return kept
