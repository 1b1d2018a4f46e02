"""Which tiles an image is cut into, and which objects each shows, as pure functions."""

from typing import NamedTuple

import numpy as np

from rsdl.core.rng import key_of
from rsdl.data.targets.objects import IGNORED, Objects, visible_shares
from rsdl.raster.tiles import tile_starts


class VisibleRules(NamedTuple):
    """What becomes of an object that a tile's edge cuts, by the part of its area that it shows.

    Attributes:
        keep: From this share on it is an object of the tile.
        drop: Below this share it is left out; between the two it is marked as ignored.
    """

    keep: float = 0.7
    drop: float = 0.3


def object_tiles(height: int, width: int, *, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Return row and column of every tile of an image; along a side shorter than a tile, only 0.

    See :func:`rsdl.raster.tiles.tile_corners`.
    """
    rows, cols = (
        tile_starts(max(length, tile), tile=tile, overlap=overlap).tolist()
        for length in (height, width)
    )
    return [(row, col) for row in rows for col in cols]


def cut_objects(
    objects: Objects, corner: tuple[int, int], size: tuple[int, int], rules: VisibleRules
) -> tuple[Objects, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """Return the objects of a tile, whole even where they leave it, and their numbers.

    Args:
        objects: Those of the whole image, whose size they state.
        corner: Row and column of the tile.
        size: Height and width of the tile in pixels; it may exceed the image, whose pixels alone
            show an object.
        rules: What becomes of objects that are cut.
    """
    row, col = corner
    height, width = (
        min(side, whole - start)
        for side, whole, start in zip(size, objects.size, corner, strict=True)
    )
    # An image may hold 100,000 objects, a tile a few of them: these are found by their ends.
    low, high = objects.corners.min(axis=1), objects.corners.max(axis=1)
    near = ((high > (col, row)) & (low < (col + width, row + height))).all(axis=1)
    numbers = np.flatnonzero(near)
    corners = objects.corners[numbers] - np.array((col, row), np.float32)
    shares = visible_shares(corners, height, width)
    here = (shares > 0) & (shares >= rules.drop)
    corners, shares, numbers = corners[here], shares[here], numbers[here]
    flags = objects.flags[numbers] | np.where(shares < rules.keep, IGNORED, 0).astype(np.uint8)
    return Objects(corners, objects.labels[numbers], flags, shares, size), numbers


def keeps_empty(share: float, seed: int, key: str) -> bool:
    """Return whether a sample without objects is kept, as a function of seed and key."""
    return key_of("empty", seed, key) < share * 2**128
