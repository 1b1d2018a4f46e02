"""The grid of tiles over a scene, as pure functions of sizes.

Tiles are always full-size: where the grid does not fit, the last row and column are pulled back and
overlap their neighbours more than requested, so that no pixel is lost or padded.
"""

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError


def tile_starts(length: int, *, tile: int, overlap: int) -> NDArray[np.int64]:
    """Return where tiles start along one side of a scene.

    Args:
        length: Length of the side in pixels, at least ``tile``.
        tile: Side of the square tile in pixels.
        overlap: Pixels two neighbours share, ``0 <= overlap < tile``.

    Returns:
        Starts in pixels, strictly increasing; the last tile ends at the end of the side.

    Raises:
        ConfigError: If a tile exceeds the side or never advances.
    """
    if tile < 1:
        raise ConfigError("tile", f"is {tile} pixels", "use 1 or more")
    if not 0 <= overlap < tile:
        raise ConfigError("overlap", f"is {overlap} pixels", f"use 0 to {tile - 1}, below the tile")
    if tile > length:
        raise ConfigError(
            "tile", f"is {tile} pixels, the scene only {length}", f"use {length} or less"
        )
    last = length - tile
    # Pull the last tile back instead of padding it: padding would feed the model pixels that no
    # sensor recorded.
    return np.append(np.arange(0, last, tile - overlap, dtype=np.int64), last)


def tile_corners(height: int, width: int, *, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Return the (row, column) corner of every tile, row by row.

    Every tile is full-size and every pixel is covered at least once.

    Args:
        height: Scene height in pixels, at least ``tile``.
        width: Scene width in pixels, at least ``tile``.
        tile: Side of the square tile in pixels.
        overlap: Pixels two neighbours share, ``0 <= overlap < tile``.

    Returns:
        Corners in pixels from the scene's top-left.

    Raises:
        ConfigError: If a tile exceeds the scene or never advances.
    """
    rows = tile_starts(height, tile=tile, overlap=overlap).tolist()
    cols = tile_starts(width, tile=tile, overlap=overlap).tolist()
    return [(row, col) for row in rows for col in cols]


def corners_hit(
    boxes: NDArray[np.float64], height: int, width: int, *, tile: int, overlap: int
) -> NDArray[np.int32]:
    """Return the corners of those tiles that at least one box overlaps, row by row.

    Args:
        boxes: Boxes in pixels as (top, left, bottom, right), ``[N, 4]``; may exceed the scene.
        height: Scene height in pixels, at least ``tile``.
        width: Scene width in pixels, at least ``tile``.
        tile: Side of the square tile in pixels.
        overlap: Pixels two neighbours share.

    Returns:
        (row, column) corners, ``[M, 2]``, a subset of :func:`tile_corners` in the same order.
    """
    rows = tile_starts(height, tile=tile, overlap=overlap)
    cols = tile_starts(width, tile=tile, overlap=overlap)
    hit = np.zeros((len(rows), len(cols)), bool)
    tops = np.searchsorted(rows + tile, boxes[:, 0], side="right")
    lefts = np.searchsorted(cols + tile, boxes[:, 1], side="right")
    bottoms = np.searchsorted(rows, boxes[:, 2], side="left")
    rights = np.searchsorted(cols, boxes[:, 3], side="left")
    for top, left, bottom, right in zip(tops, lefts, bottoms, rights, strict=True):
        hit[top:bottom, left:right] = True
    row, col = np.nonzero(hit)
    return np.stack([rows[row], cols[col]], axis=1).astype(np.int32)


class Tile(NamedTuple):
    """One tile to read: number of the scene, top row and left column in pixels."""

    scene: int
    row: int
    col: int


class Tiles(Sequence[Tile]):
    """Tiles as rows of an array: 12 bytes each instead of a Python object.

    Args:
        rows: (scene, row, column), ``[N, 3]`` int32.
    """

    def __init__(self, rows: NDArray[np.int32]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> "Tiles": ...
    def __getitem__(self, index: int | slice) -> "Tile | Tiles":
        """Return one tile, or several without copying."""
        if isinstance(index, slice):
            return Tiles(self._rows[index])
        return Tile(*self._rows[index].tolist())
