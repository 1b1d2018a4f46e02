"""Polygons of a map of classes, in pixels of the map, with bounded memory.

The map is traced by strips of rows that hold a bounded number of edges, so that a strip of a smooth
map is high and one of noise is low. What touches the border of two strips waits until it goes on no
further, and is then merged. If all that waits exceeds ``MAX_WAITING`` corners, the largest is cut
at the border: this bounds the memory of one class that covers everything.

Polygons are simplified as a coverage (Visvalingam and Whyatt 1993, by GEOS): neighbours keep their
common edge. A corner that lies on the border of two strips stays.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes

from rsdl.data.targets.mask import IGNORE
from rsdl.raster.dataset_pool import WARNINGS

CHUNK_ROWS = 16
MAX_EDGES = 300_000  # of a strip; GEOS takes about 1 kB for each
MAX_PIXELS = 32 << 20  # of a strip
MAX_WAITING = 1_000_000
AT_ONCE = 10_000  # polygons that GDAL's results are converted in

Classes = NDArray[np.uint8]
Shapes = NDArray[np.object_]
Numbers = NDArray[np.int64]
# First row and number of rows -> classes of these rows, [R, W].
ReadRows = Callable[[int, int], Classes]


class Traced(NamedTuple):
    """Polygons with their classes.

    Attributes:
        shapes: Valid polygons, corners as (column, row), ``[N]``.
        classes: Class of each, ``[N]``.
    """

    shapes: Shapes
    classes: Numbers


def trace_polygons(
    read: ReadRows, height: int, width: int, *, simplify_px: float
) -> Iterator[Traced]:
    """Yield the polygons of a map; those without data are left out.

    Args:
        read: Reads rows of the map, 255 without data.
        height: Of the map in pixels.
        width: Of the map in pixels.
        simplify_px: Tolerance; a corner goes if it spans with its neighbours a triangle of less
            than the square of it. 0 keeps the outline of the pixels.
    """
    merger = Merger(width)
    for top, rows in cut_strips(read, height, width):
        yield merger.add(trace_strip(rows, top, simplify_px), top, top + len(rows))
    yield merger.close()


def cut_strips(read: ReadRows, height: int, width: int) -> Iterator[tuple[int, Classes]]:
    """Yield the first row and the classes of strips of a map, ``[R, W]``."""
    bottom = 0
    while bottom < height:
        top, edges, parts = bottom, 0, list[Classes]()
        while bottom < height and edges < MAX_EDGES and (bottom - top) * width < MAX_PIXELS:
            rows = read(bottom, min(CHUNK_ROWS, height - bottom))
            edges += int(np.count_nonzero(rows[1:] != rows[:-1]))
            edges += int(np.count_nonzero(rows[:, 1:] != rows[:, :-1]))
            parts.append(rows)
            bottom += len(rows)
        yield top, np.concatenate(parts)


def trace_strip(rows: Classes, top: int, simplify_px: float) -> Traced:
    """Return the polygons of a strip; those without data are there, too.

    Args:
        rows: Classes ``[R, W]``.
        top: First row of the strip in the map.
        simplify_px: As of :func:`trace_polygons`; the outline of the strip stays as it is.
    """
    outlines, classes = [], []
    with WARNINGS:
        found = shapes(rows, connectivity=4)
        while some := list(islice(found, AT_ONCE)):
            outlines.append(_to_polygons(shape["coordinates"] for shape, _ in some))
            classes += [int(value) for _, value in some]
    # GDAL leaves out corners where three polygons meet at the straight edge of one of them, and a
    # coverage needs them in all three.
    dense = shapely.segmentize(np.concatenate(outlines), 1.0)
    simple = shapely.coverage_simplify(dense, simplify_px, simplify_boundary=False)
    # The corners that segmentize has put along the strip's outline.
    simple = shapely.coverage_simplify(simple, 0.0, simplify_boundary=True)
    moved = shapely.transform(simple, lambda points: points + np.array([0, top]))
    return Traced(np.asarray(moved, object), np.array(classes, np.int64))


class Merger:
    """Merges polygons of one class that touch at the border of two strips.

    Args:
        width: Of the map in pixels.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._waiting: dict[int, list[shapely.Polygon]] = {}
        self._classes: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        # Number of the polygon above each column of the border; -1: none that goes on.
        self._above = np.full(width, -1, np.int64)
        self._next = 0

    def add(self, strip: Traced, top: int, bottom: int) -> Traced:
        """Add a strip, and return what goes on no further."""
        numbers = self._next + np.arange(len(strip.shapes))
        self._next += len(numbers)
        highest = self._owners(strip.shapes, numbers, top)
        lowest = self._owners(strip.shapes, numbers, bottom)
        touching = np.isin(numbers, highest) | np.isin(numbers, lowest)
        for place in np.flatnonzero(touching).tolist():
            number, shape = int(numbers[place]), strip.shapes[place]
            self._waiting[number] = [shape]
            self._classes[number] = int(strip.classes[place])
            self._sizes[number] = int(shapely.get_num_coordinates(shape))
        roots = self._join(highest)
        self._above = np.array([roots.get(n, n) for n in lowest.tolist()], np.int64)
        inner = ~touching & (strip.classes != IGNORE)
        ended = self._close(set(self._waiting) - set(self._above.tolist()))
        cut = self._cut()
        return Traced(
            np.concatenate([strip.shapes[inner], ended.shapes, cut.shapes]),
            np.concatenate([strip.classes[inner], ended.classes, cut.classes]),
        )

    def close(self) -> Traced:
        """Return all that is left."""
        return self._close(set(self._waiting))

    def _owners(self, polygons: Shapes, numbers: Numbers, row: int) -> Numbers:
        """Return the number of the polygon at each column of a border, ``[W]``."""
        rings, polygon_of = shapely.get_rings(polygons, return_index=True)
        points, ring_of = shapely.get_coordinates(rings, return_index=True)
        on = points[:, 1] == row
        segment = np.flatnonzero(on[:-1] & on[1:] & (ring_of[:-1] == ring_of[1:]))
        ends = np.sort(np.stack([points[segment, 0], points[segment + 1, 0]]), axis=0)
        order = np.argsort(ends[0])
        lengths = (ends[1] - ends[0])[order].astype(np.int64)
        owners = np.repeat(numbers[polygon_of[ring_of[segment[order]]]], lengths)
        assert len(owners) == self._width, "polygons do not cover the border"
        return owners

    def _join(self, below: Numbers) -> dict[int, int]:
        """Join what touches across the border, and return the new number of each that has one."""
        parents: dict[int, int] = {}

        def root(number: int) -> int:
            while number in parents:
                number = parents[number]
            return number

        for above, under in np.unique(np.stack([self._above, below], axis=1), axis=0).tolist():
            if above < 0 or self._classes[above] != self._classes[under]:
                continue
            first, second = root(above), root(under)
            if first == second:
                continue
            # The longer list stays, so that a corner is not copied for each strip.
            if len(self._waiting[first]) < len(self._waiting[second]):
                first, second = second, first
            self._waiting[first] += self._waiting.pop(second)
            self._sizes[first] += self._sizes.pop(second)
            parents[second] = first
        for number in parents:
            del self._classes[number]
        return {number: root(number) for number in parents}

    def _cut(self) -> Traced:
        """Close the largest polygons until what waits is in bounds."""
        chosen, total = set[int](), sum(self._sizes.values())
        for number in sorted(self._sizes, key=lambda each: -self._sizes[each]):
            if total <= MAX_WAITING:
                break
            chosen.add(number)
            total -= self._sizes[number]
        self._above[np.isin(self._above, list(chosen))] = -1
        return self._close(chosen)

    def _close(self, numbers: Iterable[int]) -> Traced:
        merged, classes = [], []
        for number in sorted(numbers):
            parts, label = self._waiting.pop(number), self._classes.pop(number)
            del self._sizes[number]
            if label != IGNORE:
                merged.append(shapely.union_all(parts) if len(parts) > 1 else parts[0])
                classes.append(label)
        polygons, owners = shapely.get_parts(np.array(merged, object), return_index=True)
        return Traced(np.asarray(polygons, object), np.array(classes, np.int64)[owners])


def _to_polygons(outlines: Iterable[list[list[tuple[float, float]]]]) -> Shapes:
    """Return polygons of lists of rings; one by one takes three times as long."""
    polygons = list(outlines)
    rings = [ring for polygon in polygons for ring in polygon]
    points = np.array([point for ring in rings for point in ring])
    lengths = [len(ring) for ring in rings]
    linear = shapely.linearrings(points, indices=np.repeat(np.arange(len(rings)), lengths))
    holders = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    return np.asarray(shapely.polygons(linear, indices=holders), object)
