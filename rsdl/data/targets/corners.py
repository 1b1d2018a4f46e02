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


def visible_shares(
    corners: NDArray[np.float32], height: float, width: float
) -> NDArray[np.float32]:
    """Return the part of each object's hull that lies inside of an image, ``[N]``.

    Args:
        corners: In pixels of the image, ``[N, 4, 2]``.
        height: Of the image in pixels.
        width: Of the image in pixels.
    """
    low, high = corners.min(axis=1), corners.max(axis=1)
    edge = np.array((width, height), np.float32)
    shares = ((high > 0) & (low < edge)).all(axis=1).astype(np.float32)
    inside = ((low >= 0) & (high <= edge)).all(axis=1)
    cut = np.flatnonzero((shares > 0) & ~inside)
    upright = _is_upright(corners[cut])
    shown = (high[cut].clip(0, edge) - low[cut].clip(0, edge)).prod(axis=1)
    whole = (high[cut] - low[cut]).prod(axis=1)
    shares[cut] = shown / np.maximum(whole, 1e-6)
    frame = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    for number in cut[~upright]:
        hull = cv2.convexHull(corners[number])
        common, _ = cv2.intersectConvexConvex(hull, frame)
        shares[number] = min(common / max(cv2.contourArea(hull), 1e-6), 1)
    return np.asarray(shares, np.float32)


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
    edges = np.roll(corners, -1, axis=1) - corners
    along, down = edges[:, 0], edges[:, 1]
    sides = np.sqrt((edges[:, :2] ** 2).sum(axis=2))
    angles = np.arctan2(along[:, 1], along[:, 0])
    rectangles = np.concatenate([corners.mean(axis=1), sides, angles[:, None]], axis=1)
    skew = np.abs((along * down).sum(axis=1)) / np.maximum(sides.min(axis=1), 1e-6)
    apart = np.abs(edges[:, :2] + edges[:, 2:]).max(axis=(1, 2), initial=0)
    for number in np.flatnonzero((skew > SQUARE_PX) | (apart > SQUARE_PX)):
        rectangles[number] = _enclose(corners[number])
    return np.asarray(rectangles, np.float32)


def _enclose(outline: NDArray[np.float32]) -> tuple[float, ...]:
    (x, y), sides, degrees = cv2.minAreaRect(np.ascontiguousarray(outline, np.float32))
    return x, y, *sides, math.radians(degrees)


def _is_upright(corners: NDArray[np.float32]) -> NDArray[np.bool_]:
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
