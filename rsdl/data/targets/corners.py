"""Four corners around an object: areas, what an image shows of them, rectangles and boxes.

Corners are x and y in pixels, in their order around the object.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SQUARE_PX = 1e-3  # corners that are off by less are those of a rectangle


def areas(corners: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the area of each convex hull of four corners, ``[N, 4, 2] -> [N]``."""
    hulls = (cv2.convexHull(np.ascontiguousarray(each, np.float32)) for each in corners)
    return np.array([cv2.contourArea(hull) for hull in hulls], np.float64)


def ends(corners: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the greatest x and y of each object, ``[N, 4, 2] -> [N, 2]`` twice.

    By pairs: NumPy takes four times as long to reduce an axis of four.
    """
    one, two, three, four = (corners[:, number] for number in range(4))
    low = np.minimum(np.minimum(one, two), np.minimum(three, four))
    return low, np.maximum(np.maximum(one, two), np.maximum(three, four))


def visible_shares(
    corners: NDArray[np.float32], height: float, width: float
) -> NDArray[np.float32]:
    """Return the part of each object's hull that lies inside of an image, ``[N]``.

    Args:
        corners: In pixels of the image, ``[N, 4, 2]``.
        height: Of the image in pixels.
        width: Of the image in pixels.
    """
    return shares_within(corners, *ends(corners), height, width)


def shares_within(
    corners: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    height: float,
    width: float,
) -> NDArray[np.float32]:
    """Return what :func:`visible_shares` does, of corners whose ends ``[N, 2]`` are known."""
    edge = np.array((width, height), np.float32)
    shares = np.zeros(len(corners), np.float32)
    shares[((high > 0) & (low < edge)).all(axis=1)] = 1
    cut = np.flatnonzero(((low < 0) | (high > edge)).any(axis=1) & (shares > 0))
    if not len(cut):
        return shares
    low, high = low[cut], high[cut]
    shown = (high.clip(0, edge) - low.clip(0, edge)).prod(axis=1)
    shares[cut] = shown / np.maximum((high - low).prod(axis=1), 1e-6)
    turned = cut[~is_upright(corners[cut])]
    if len(turned):
        shares[turned] = _turned_shares(corners[turned], height, width)
    return shares


def _turned_shares(
    corners: NDArray[np.float32], height: float, width: float
) -> NDArray[np.float64]:
    """Return the part of each hull inside of an image, by integrals along the outlines.

    By Green's theorem the area inside is the integral of ``clip(x, 0, width) dy`` over what of the
    outline lies within the rows of the image: all objects at once, in a few operations.
    """
    x, y = corners[..., 0].astype(np.float64), corners[..., 1].astype(np.float64)
    onward = [1, 2, 3, 0]
    across, down = x[:, onward] - x, y[:, onward] - y
    turns = across * down[:, onward] - across[:, onward] * down
    for number in np.flatnonzero((turns < 0).any(1) & (turns > 0).any(1)).tolist():
        hull = cv2.convexHull(corners[number])[:, 0]  # a dented outline
        hull = np.concatenate([hull, hull[-1:].repeat(4 - len(hull), 0)])
        x[number], y[number] = hull.T
        across[number], down[number] = x[number, onward] - x[number], y[number, onward] - y[number]
    inside = y.clip(0, height)
    rise = inside[:, onward] - inside
    slope = across / np.where(down == 0, 1, down)
    start = x + (inside - y) * slope
    run = rise * slope
    end = start + run
    steep = np.abs(run) < 1e-6  # so little that the middle stands for all
    first, last = (each.clip(0, width) for each in (start, end))
    # The integral of clip(x, 0, width) up to x, over the run; exact where an edge leaves the image.
    whole = (last**2 - first**2) / 2 + width * (np.maximum(end, width) - np.maximum(start, width))
    mean = np.where(steep, (first + last) / 2, whole / np.where(steep, 1, run))
    total = np.abs((x * y[:, onward] - x[:, onward] * y).sum(1)) / 2
    shares: NDArray[np.float64] = np.abs((mean * rise).sum(1)) / np.maximum(total, 1e-6)
    return np.minimum(shares, 1)


def smallest_rectangles(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smallest rectangle around each object, as DOTA's tools make it.

    Corners of a rectangle are taken as they are: its width is the first edge.

    Args:
        corners: Of outlines with any number of corners, ``[N, K, 2]``.

    Returns:
        Centre x and y, width and height in pixels, and the angle of the width in radians, from the
        x axis towards the y axis, ``[N, 5]``.
    """
    if corners.shape[1] != 4:
        return np.array([_enclose(each) for each in corners], np.float32).reshape(-1, 5)
    # By columns: NumPy takes several times as long along axes of four and two.
    edges = np.empty(corners.shape, np.float32)
    np.subtract(corners[:, 1:], corners[:, :3], out=edges[:, :3])
    np.subtract(corners[:, 0], corners[:, 3], out=edges[:, 3])
    across, down = edges[..., 0], edges[..., 1]
    width, height = np.hypot(across[:, :2], down[:, :2]).T
    angles = np.arctan2(down[:, 0], across[:, 0])
    rectangles = np.empty((len(corners), 5), np.float32)
    one, two, three, four = (corners[:, number] for number in range(4))
    rectangles[:, :2] = (one + two + three + four) / 4
    rectangles[:, 2], rectangles[:, 3], rectangles[:, 4] = width, height, angles
    # Of a rectangle the first two edges are square, and the others their opposites.
    skew = np.abs(across[:, 0] * across[:, 1] + down[:, 0] * down[:, 1])
    gaps = np.abs(edges[:, :2] + edges[:, 2:]).reshape(-1, 4)
    apart = np.maximum(np.maximum(gaps[:, 0], gaps[:, 1]), np.maximum(gaps[:, 2], gaps[:, 3]))
    is_other = (skew > SQUARE_PX * np.maximum(np.minimum(width, height), 1e-6)) | (
        apart > SQUARE_PX
    )
    for number in np.flatnonzero(is_other).tolist():
        rectangles[number] = _enclose(corners[number])
    return rectangles


def _enclose(outline: NDArray[np.float32]) -> tuple[float, ...]:
    (x, y), sides, degrees = cv2.minAreaRect(np.ascontiguousarray(outline, np.float32))
    return x, y, *sides, math.radians(degrees)


def is_upright(corners: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which corners are those of upright boxes, ``[N]``."""
    same = corners == box_corners(corners[:, (0, 2)].reshape(-1, 4))
    return np.asarray(same.all(axis=(1, 2)))


def rectangle_corners(rectangles: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the corners of rectangles as :func:`smallest_rectangles` gives them, ``[N, 4, 2]``."""
    x, y, width, height, angle = (rectangles[:, column, None] for column in range(5))
    cos, sin = np.cos(angle), np.sin(angle)
    across, down = (
        np.array([-0.5, 0.5, 0.5, -0.5]) * width,
        np.array([-0.5, -0.5, 0.5, 0.5]) * height,
    )
    corners = np.stack([x + cos * across - sin * down, y + sin * across + cos * down], axis=-1)
    return corners.astype(np.float32)


def box_corners(boxes: NDArray[Any] | Sequence[Any]) -> NDArray[np.float32]:
    """Return the corners of upright boxes: left, top, right, bottom, ``[N, 4] -> [N, 4, 2]``."""
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    return array[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
