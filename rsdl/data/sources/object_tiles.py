"""Which tiles an image is cut into, and which objects each shows, as pure functions."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.rng import key_of
from rsdl.data.targets.corners import ends, visible_shares
from rsdl.data.targets.objects import IGNORED, Objects
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


class WholeImage(NamedTuple):
    """The objects of an image that is cut into tiles.

    An image may hold 100,000 objects, a tile a few of them: these are found by their ends.

    Attributes:
        objects: The objects.
        low: Their least x and y, ``[2, N]``.
        high: Their greatest x and y, ``[2, N]``.
    """

    objects: Objects
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def prepare_cuts(objects: Objects) -> WholeImage:
    """Return the objects of an image, to be cut into any number of tiles."""
    low, high = ends(objects.corners)
    return WholeImage(objects, np.ascontiguousarray(low.T), np.ascontiguousarray(high.T))


def cut_objects(
    whole: WholeImage, corner: tuple[int, int], size: tuple[int, int], rules: VisibleRules
) -> tuple[Objects, NDArray[np.int64]]:
    """Return the objects of a tile, whole even where they leave it, and their numbers.

    Args:
        whole: Those of the whole image, whose size they state.
        corner: Row and column of the tile.
        size: Height and width of the tile in pixels; it may exceed the image, whose pixels alone
            show an object.
        rules: What becomes of objects that are cut.
    """
    (row, col), objects = corner, whole.objects
    height, width = (
        min(side, full - start)
        for side, full, start in zip(size, objects.size, corner, strict=True)
    )
    (left, top), (right, bottom) = whole.low, whole.high
    near = (right > col) & (bottom > row) & (left < col + width) & (top < row + height)
    numbers = np.flatnonzero(near)
    corners = objects.corners[numbers] - np.array((col, row), np.float32)
    shares = visible_shares(corners, height, width)
    here = (shares > 0) & (shares >= rules.drop)
    corners, shares, numbers = corners[here], shares[here], numbers[here]
    flags = objects.flags[numbers] | np.where(shares < rules.keep, IGNORED, 0).astype(np.uint8)
    return Objects(corners, objects.labels[numbers], flags, shares, size), numbers


def has_object(objects: Objects) -> bool:
    """Return whether one of the objects counts; a piece that is marked as ignored does not."""
    return bool(((objects.flags & IGNORED) == 0).any())


def keeps_empty(share: float, seed: int, key: str) -> bool:
    """Return whether a sample without objects is kept, as a function of seed and key."""
    return key_of("empty", seed, key) < share * 2**128
