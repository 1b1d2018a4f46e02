"""Images composed of several, with their objects: mosaic and copy-paste.

Both put pixels of other images of the same size where they lie, so that a row needs its partners'
rows and nothing else; :mod:`rsdl.data.partners` says which these are.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.core.pixels import Pixels
from rsdl.data.targets.corners import ends, rectangle_corners, shares_within
from rsdl.data.targets.objects import FLAGS, HULL, IGNORED, MIN_VISIBLE, RECTANGLE

Rows = NDArray[np.float32]  # objects as in a batch's targets, [N, WIDTH]
Region = tuple[int, int, int, int]  # top, left, bottom and right in pixels

EDGE = 0.2  # of an image's side: how near to it the centre of a mosaic may lie (YOLOv4)
MAX_HIDDEN = 0.1  # of an object's area, by what is pasted


def quarters(height: int, width: int, centre: tuple[float, float]) -> list[Region]:
    """Return the parts of a mosaic around its centre; the first is that of the row's own image.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        centre: Random numbers for its y and x, in ``[0, 1)``.
    """
    y, x = (
        round((EDGE + number * (1 - 2 * EDGE)) * side)
        for number, side in zip(centre, (height, width), strict=True)
    )
    return [(0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width)]


def make_mosaic(
    pixels: Pixels, rows: Rows, others: Sequence[tuple[Pixels, Rows]], regions: Sequence[Region]
) -> Rows:
    """Put parts of three images into another's, each where it lies; return the objects.

    Source: Bochkovskiy et al. 2020 (YOLOv4), whose code crops each image to the size of the
    network's input at random and shows a part of it, as here.

    Args:
        pixels: The row's own image, ``[H, W, C]``, which is changed.
        rows: Its objects, ``[N, WIDTH]``.
        others: Pixels and objects of the others.
        regions: The parts, of its own image first.
    """
    kept = [cut_rows(rows, regions[0])]
    for (other, objects), region in zip(others, regions[1:], strict=True):
        top, left, bottom, right = region
        pixels[top:bottom, left:right] = other[top:bottom, left:right]
        kept.append(cut_rows(objects, region))
    return np.concatenate(kept)


def cut_rows(rows: Rows, region: Region) -> Rows:
    """Return the objects that a part of their image shows.

    As with a crop, those of which it shows less than ``MIN_VISIBLE`` are ignored.
    """
    low, high = np.array(region[1::-1], np.float32), np.array(region[:1:-1], np.float32)
    corners = rectangle_corners(rows[:, RECTANGLE]) - low
    width, height = (high - low).tolist()
    seen = shares_within(corners, *ends(corners), height, width)
    hulls = rows[:, HULL].reshape(-1, 2, 2).clip(low, high)
    here = (seen > 0) & (hulls[:, 1] > hulls[:, 0]).all(axis=1)
    cut = rows[here]
    cut[:, HULL] = hulls[here].reshape(-1, 4)
    return _ignore(cut, seen[here] < MIN_VISIBLE)


def paste(
    pixels: Pixels, rows: Rows, other: Pixels, objects: Rows, wanted: NDArray[np.bool_]
) -> Rows:
    """Paste objects of another image onto an image, where they lie; return all objects.

    What is pasted is the pixels in an object's smallest rectangle. It must hide no more than
    ``MAX_HIDDEN`` of any object. Objects of which a rectangle brings along a part are objects,
    ignored below ``MIN_VISIBLE`` and left out up to ``MAX_HIDDEN``.

    Source: Ghiasi et al. 2021 (simple copy-paste), with boxes instead of masks.

    Args:
        pixels: The image, ``[H, W, C]``, which is changed.
        rows: Its objects, ``[N, WIDTH]``.
        other: The other image, ``[H, W, C]``.
        objects: Objects of the other image, ``[M, WIDTH]``.
        wanted: Which of them are to be pasted if they hide nothing, ``[M]``.
    """
    ignored = (objects[:, FLAGS].astype(int) & IGNORED) != 0
    hides, brings = shares_covered(objects, rows), shares_covered(objects, objects)
    hidden = np.zeros(len(rows), np.float32)
    taken = []
    for number in np.flatnonzero(wanted & ~ignored).tolist():
        if (hidden + hides[number] <= MAX_HIDDEN).all():
            hidden += hides[number]
            taken.append(number)
    if not taken:
        return rows
    for row in objects[taken]:
        place, inside = pixels_within(row, pixels.shape[:2])
        np.copyto(pixels[place], other[place], where=inside[..., None])
    brought = brings[taken].max(axis=0)
    brought[taken] = 1
    here = brought > MAX_HIDDEN
    return np.concatenate([rows, _ignore(objects[here], brought[here] < MIN_VISIBLE)])


def shares_covered(covers: Rows, rows: Rows) -> NDArray[np.float32]:
    """Return the share of each object's rectangle that lies under others, ``[M, N]``.

    Args:
        covers: Objects that cover, ``[M, WIDTH]``.
        rows: Objects that are covered, ``[N, WIDTH]``.
    """
    over, under = (rectangle_corners(each[:, RECTANGLE]) for each in (covers, rows))
    (low, high), (least, most) = ends(over), ends(under)
    near = ((low[:, None] < most) & (high[:, None] > least)).all(axis=2)
    areas = rows[:, RECTANGLE][:, 2:4].prod(axis=1)
    shares = np.zeros(near.shape, np.float32)
    for cover, row in np.argwhere(near).tolist():
        common, _ = cv2.intersectConvexConvex(over[cover], under[row])
        shares[cover, row] = min(common / max(areas[row], 1e-6), 1)
    return shares


def pixels_within(
    row: Rows, size: tuple[int, ...]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Return the pixels whose centres lie in an object's rectangle.

    Args:
        row: The object, ``[WIDTH]``.
        size: Height and width of the image in pixels.

    Returns:
        Rows and columns around the object, and which pixels of these it covers, ``[h, w]``.
    """
    x, y, width, height, angle = row[RECTANGLE].astype(np.float64)
    cos, sin = abs(np.cos(angle)), abs(np.sin(angle))
    spans = (cos * width + sin * height) / 2, (sin * width + cos * height) / 2
    (left, right), (top, bottom) = (
        (max(math.floor(at - span), 0), min(math.ceil(at + span), side))
        for at, span, side in zip((x, y), spans, size[::-1], strict=True)
    )
    across, down = np.arange(left, right) + 0.5 - x, np.arange(top, bottom)[:, None] + 0.5 - y
    along = np.abs(across * np.cos(angle) + down * np.sin(angle)) < width / 2
    beside = np.abs(down * np.cos(angle) - across * np.sin(angle)) < height / 2
    inside: NDArray[np.bool_] = along & beside
    return (slice(top, bottom), slice(left, right)), inside


def _ignore(rows: Rows, chosen: NDArray[np.bool_]) -> Rows:
    rows[:, FLAGS] = rows[:, FLAGS].astype(int) | (IGNORED * chosen)
    return rows
