"""Rasterize labels onto the pixels of a tile; the class that covers most of the tile wins.

Counting pixels instead of intersecting polygons treats polygons and class rasters alike; it is
exact to a pixel. Only pixels with data are counted, so a class under the nodata border of a scene
labels nothing. A tile with no polygon edge nearby is not rasterized: one number stands for all of
its pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster.cover import LabelMap, PolygonCover
from rsdl.raster.georef import Floats
from rsdl.raster.scenes import Scene
from rsdl.raster.vectors import files_of, read_polygons


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


@dataclass(frozen=True, slots=True)
class LabelRules:
    """The user's options for labels; same fields as in ``GeotiffOptions``."""

    field: str = "class"
    layer: str | None = None
    classes: Sequence[str] | None = None
    ignore: Sequence[str] = ()
    all_touched: bool = False
    background: str | None = None


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
        found = read_polygons(path, rules.field, rules.layer)
        self._crs, self.left_out = found.crs, found.left_out
        self.classes = choose_classes(sorted(set(found.names)), rules, path)
        code = {name: number for number, name in enumerate(self.classes, start=1)}
        code |= dict.fromkeys(rules.ignore, 0)
        codes = np.array([code.get(name, -1) for name in found.names], np.int32)
        shapes, codes = found.shapes[codes >= 0], codes[codes >= 0]
        self._extent = np.asarray(shapely.total_bounds(shapes))
        tree = shapely.STRtree(shapes)
        self._covers = [
            PolygonCover(shapes, codes, tree, self._crs, scene, all_touched=rules.all_touched)
            for scene in scenes
        ]

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """Bounding box of all polygons, in the file's CRS."""
        return self._extent, self._crs

    def boxes(self, scene: int) -> Floats:
        """Return the boxes of the polygons that label a scene, in pixels, ``[N, 4]``."""
        cover = self._covers[scene]
        boxes: Floats = cover.boxes[cover.codes > 0]
        return boxes

    def paint(self, scene: int, row: int, col: int, tile: int) -> LabelMap | int:
        """Return class index + 1 for each pixel whose centre a polygon covers, 0 elsewhere.

        With ``all_touched``, for each pixel that a polygon touches. Returns a single number if no
        polygon edge is near the tile.
        """
        return self._covers[scene].paint(row, col, tile, tile)

    def sample(self, scene: int, pixels: NDArray[np.integer]) -> LabelMap:
        """Return class index + 1 of pixels (row, column) ``[N, 2]``; 0 has no label."""
        return self._covers[scene].sample(pixels)


def choose_classes(found: list[str], rules: LabelRules, path: Path) -> tuple[str, ...]:
    """Return the classes that the user wants of those found, in order.

    Raises:
        DataError: If there is none.
        ConfigError: If a class to use or to ignore does not occur.
    """
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
