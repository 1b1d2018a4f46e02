"""The tiles of a map where a window has one class: a rectangle each, with class and probability."""

from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsdl.predict.windows import Axis, Floats

Shapes = NDArray[np.object_]


class TileTable(NamedTuple):
    """Tiles that have data, row by row.

    Attributes:
        shapes: Rectangles, corners as (column, row), ``[N]``.
        classes: Most probable class of each, ``[N]``.
        probabilities: Its probability, ``[N]``.
    """

    shapes: Shapes
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]


class TileCollector:
    """Collects the tiles of a map from its rows.

    A pixel belongs to one window, the nearest; so tiles do not overlap, and the last one of a row
    is cut off where windows are pulled back to the edge of the scene.

    Args:
        rows: The windows along the map's height.
        cols: The windows along its width.
        size: Height and width of the map in pixels.
        corner: Where the map begins, in the pixels that the windows count.
    """

    def __init__(
        self, rows: Axis, cols: Axis, size: tuple[int, int], corner: tuple[int, int] = (0, 0)
    ) -> None:
        self._rows = (rows.owned - corner[0]).clip(0, size[0])
        self._cols = (cols.owned - corner[1]).clip(0, size[1])
        shape = len(self._rows), len(self._cols)
        self._classes = np.zeros(shape, np.int64)
        self._probabilities = np.zeros(shape)
        self._valid = np.zeros(shape, bool)

    def add(self, top: int, shares: Floats, valid: NDArray[np.bool_]) -> None:
        """Add rows of the map.

        Args:
            top: First of the rows.
            shares: Probabilities, ``[K, R, W]``.
            valid: Where there is data, ``[R, W]``.
        """
        count = len(valid)
        first, lefts = self._rows[:, 0], self._cols[:, 0]
        begun = np.flatnonzero((first >= top) & (first < top + count))
        found = shares[:, first[begun] - top][:, :, lefts]  # [K, T, N]
        self._classes[begun] = found.argmax(axis=0)
        self._probabilities[begun] = found.max(axis=0, initial=0)
        owners = np.searchsorted(first, top + np.arange(count), side="right") - 1
        np.logical_or.at(self._valid, owners, np.logical_or.reduceat(valid, lefts, axis=1))

    def table(self) -> TileTable:
        """Return the tiles that have data."""
        row, col = np.nonzero(self._valid)
        (top, bottom), (left, right) = self._rows[row].T, self._cols[col].T
        found = self._probabilities[row, col].round(6)  # as float32 says
        shapes = np.asarray(shapely.box(left, top, right, bottom), object)
        return TileTable(shapes, self._classes[row, col], found)
