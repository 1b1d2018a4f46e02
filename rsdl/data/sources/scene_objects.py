"""The objects in scenes: polygons of a vector file, each the outline of one, cut by tiles.

An outline of four corners keeps them; any other becomes the smallest rectangle around it, in the
scene's pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.data.sources.object_tiles import VisibleRules, WholeImage, cut_objects, prepare_cuts
from rsdl.data.targets.corners import areas, ends, rectangle_corners, smallest_rectangles
from rsdl.data.targets.objects import IGNORED, Objects, make_objects
from rsdl.raster.cover import boxes_meet
from rsdl.raster.densify import move_outlines
from rsdl.raster.georef import Floats, apply
from rsdl.raster.rasterize import LabelRules, choose_classes
from rsdl.raster.scenes import Scene
from rsdl.raster.tiles import Tile
from rsdl.raster.vectors import Polygons, files_of, read_polygons

MIN_AREA_PX = 1e-2  # of what has no area to speak of, and float32 may lose
QUAD = 5  # points of a closed ring with four corners
Outlines = NDArray[np.object_]


class SceneObjects:
    """Objects of a vector file in several scenes.

    Args:
        path: The file.
        rules: Field with the class name, layer, classes to use, and classes to ignore.
        scenes: The scenes that they are in.
        tile: Side of a tile in pixels.
        visible: What becomes of objects that a tile cuts.

    Attributes:
        classes: Class names.
        files: The label files.
        left_out: Reason -> number of features that are no objects.
        whole: All tiles are labelled: where there is no object, there is background.

    Raises:
        DataError: If it cannot be read, or a feature has no class or is not one polygon.
        ConfigError: If a class to use or to ignore does not occur.
    """

    whole = True

    def __init__(
        self,
        path: Path,
        rules: LabelRules,
        scenes: Sequence[Scene],
        tile: int,
        visible: VisibleRules,
    ) -> None:
        self.files = files_of(path)
        found = read_polygons(path, rules.field, rules.layer)
        self.left_out, self._tile, self._visible = found.left_out, tile, visible
        self.classes = choose_classes(sorted(set(found.names)), rules, path)
        outlines, names = _outlines(found, path)
        code = {name: number for number, name in enumerate(self.classes)}
        labels = np.array([code.get(name, -1) for name in names], np.int64)
        outlines, labels = outlines[labels >= 0], labels[labels >= 0]
        self._extent, self._crs = np.asarray(shapely.total_bounds(outlines)), found.crs
        counts = np.bincount(labels, minlength=len(self.classes))
        self._commonness = np.argsort(np.argsort(counts, kind="stable"))
        tree = shapely.STRtree(outlines)
        self._scenes: list[WholeImage] = []
        for scene in scenes:
            near, numbers = move_outlines(outlines, tree, found.crs, scene)
            corners = _corners_of(near, scene)
            boxes = _boxes(corners)
            real = areas(corners) > MIN_AREA_PX
            here = real & boxes_meet(boxes, 0, 0, scene.height, scene.width)
            size = scene.height, scene.width
            objects = make_objects(corners[here], labels[numbers][here], size)
            self._scenes.append(prepare_cuts(objects))

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """Bounding box of all objects, in the file's CRS."""
        return self._extent, self._crs

    def boxes(self, scene: int) -> Floats:
        """Return (top, left, bottom, right) of the objects of a scene in pixels, ``[N, 4]``."""
        return _boxes(self._scenes[scene].objects.corners.astype(np.float64))

    def strata(self, scene: int, corners: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return the rarest class in each tile + 1, 0 without an object, ``[N]``."""
        strata = np.zeros(len(corners), np.int32)
        for number, corner in enumerate(corners.tolist()):
            if len(labels := self.find(Tile(scene, *corner)).labels):
                strata[number] = 1 + labels[self._commonness[labels].argmin()]
        return strata

    def find(self, item: Tile) -> Objects:
        """Return the objects of a tile, in its pixels."""
        size = self._tile, self._tile
        return cut_objects(self._scenes[item.scene], (item.row, item.col), size, self._visible)[0]

    def target(self, found: Objects, valid: NDArray[np.bool_] | None) -> Objects:
        """Return the objects of a tile as its pixels with data show them.

        Args:
            found: From :meth:`find`.
            valid: Where the tile has data, ``[H, W]``; ``None`` means everywhere.
        """
        if valid is None or not len(found.labels):
            return found
        with_data = np.array([_mean_inside(valid, corners) for corners in found.corners])
        shares = (found.shares * with_data).astype(np.float32)
        flags = found.flags | np.where(shares < self._visible.keep, IGNORED, 0).astype(np.uint8)
        seen = found._replace(shares=shares, flags=flags)
        return seen.take((shares > 0) & (shares >= self._visible.drop))


def _outlines(found: Polygons, path: Path) -> tuple[Outlines, list[str]]:
    """Return a ring, or all points of its parts, for each feature, and the name of its class.

    Raises:
        DataError: If parts of a feature lie apart; those of an outline that crosses itself touch.
    """
    features, first, owners = np.unique(found.features, return_index=True, return_inverse=True)
    rings = shapely.remove_repeated_points(shapely.get_exterior_ring(found.shapes))
    outlines = rings[first]
    for number in np.flatnonzero(np.bincount(owners, minlength=len(features)) > 1):
        parts = found.shapes[owners == number]
        others = [shapely.union_all(np.delete(parts, one)) for one in range(len(parts))]
        if (shapely.distance(parts, others) > 0).any():
            where, problem = f"{path}: feature {features[number]}", "has parts that lie apart"
            raise DataError(where, problem, "make a feature of each object")
        points = shapely.get_coordinates(rings[owners == number])
        outlines[number] = shapely.MultiPoint(points)
    return outlines, [found.names[number] for number in first.tolist()]


def _corners_of(outlines: Outlines, scene: Scene) -> NDArray[np.float32]:
    """Return four corners for each outline in a scene's CRS, in its pixels, ``[N, 4, 2]``."""
    points, owners = shapely.get_coordinates(outlines, return_index=True)
    pixels = apply(~scene.transform, points)
    counts = np.bincount(owners, minlength=len(outlines))
    starts = np.cumsum(counts) - counts
    corners = np.empty((len(outlines), 4, 2), np.float32)
    quads = shapely.is_ring(outlines) & (counts == QUAD)
    corners[quads] = pixels[starts[quads, None] + np.arange(4)]
    for number in np.flatnonzero(~quads).tolist():
        own = pixels[starts[number] : starts[number] + counts[number]]
        # Near the origin: float32 has no decimals for metres from a far corner of a large scene.
        rectangle = smallest_rectangles((own - own[0])[None].astype(np.float32))
        corners[number] = rectangle_corners(rectangle)[0] + own[0]
    return corners


def _boxes(corners: NDArray[np.floating]) -> Floats:
    low, high = ends(corners)
    return np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1).astype(np.float64)


def _mean_inside(valid: NDArray[np.bool_], corners: NDArray[np.float32]) -> float:
    """Return the share of the pixels under an object that have data; 1 where it covers none."""
    points = np.round(corners - 0.5).astype(np.int32)
    start = points.min(axis=0).clip(0)
    (left, top), (right, bottom) = start, points.max(axis=0) + 1
    part = valid[top : max(bottom, 0), left : max(right, 0)]
    if not part.size:
        return 1.0
    mask = np.zeros(part.shape, np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(points - start), 1)
    return float(part[mask > 0].mean()) if mask.any() else 1.0
