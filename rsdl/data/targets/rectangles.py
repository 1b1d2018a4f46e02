"""Geometry of rectangles at any angle, in plain PyTorch.

A rectangle, or box, is centre x and y, width and height in pixels, and the angle of the width in
radians from the x axis towards the y axis (down), ``[..., 5]``. What is computed of half types is
computed in float32, and positions are taken relative to each other, so that a box at 30,000 px is
as exact as one at the origin.
"""

import torch
from torch import Tensor

# Of an area in px² and of a difference of two corners in px: less is nothing, but no division by 0.
SMALL_AREA, SMALL_STEP = 1e-9, 1e-9


def corners(boxes: Tensor) -> Tensor:
    """Return the corners of boxes in their order around each, ``[..., 5] -> [..., 4, 2]``."""
    x, y, width, height, angle = widen(boxes).unbind(-1)
    return _corners(x, y, width / 2, height / 2, angle)


def hulls(boxes: Tensor, *, oriented: bool) -> Tensor:
    """Return left, top, right and bottom of boxes, ``[..., 5] -> [..., 4]``."""
    boxes = widen(boxes)
    centre, half = boxes[..., :2], boxes[..., 2:4] / 2
    if oriented:
        cos, sin = boxes[..., 4].cos().abs(), boxes[..., 4].sin().abs()
        across, down = half.unbind(-1)
        half = torch.stack([cos * across + sin * down, sin * across + cos * down], -1)
    return torch.cat([centre - half, centre + half], -1)


def box_areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes in px², ``[..., 5] -> [...]``."""
    boxes = widen(boxes)
    return boxes[..., 2] * boxes[..., 3]


def rotated_intersection(first: Tensor, second: Tensor) -> Tensor:
    """Return the exact area in px² that two boxes share, ``[..., 5], [..., 5] -> [...]``.

    It is the boundary integral of y dx around the first box (Green's theorem), with x and y clamped
    to the second box, in the frame of the second. Nothing is sorted and no corner is classified,
    so that edges which coincide need no care, and it has a gradient.
    """
    first, second = widen(first), widen(second)
    cos, sin = second[..., 4].cos(), second[..., 4].sin()
    right, down = (first[..., :2] - second[..., :2]).unbind(-1)
    x, y = cos * right + sin * down, cos * down - sin * right
    half = first[..., 2:4] / 2
    start = _corners(x, y, half[..., 0], half[..., 1], first[..., 4] - second[..., 4])
    step = start.roll(-1, -2) - start
    limits = second[..., None, 2:4] / 2
    # Of each edge, 0 to 1: where x, and where y, enters and leaves the second box.
    safe = torch.where(step.abs() < SMALL_STEP, torch.full_like(step, SMALL_STEP), step)
    one, other = (-limits - start) / safe, (limits - start) / safe
    enter, leave = torch.minimum(one, other).clamp(0, 1), torch.maximum(one, other).clamp(0, 1)
    low, high = enter[..., 0], leave[..., 0]
    inner_low = torch.minimum(torch.maximum(enter[..., 1], low), high)
    inner_high = torch.minimum(torch.maximum(leave[..., 1], low), high)
    # Between these four places the clamped y is straight.
    places = torch.stack([low, inner_low, inner_high, high], -1)  # [..., edges, 4]
    height = start[..., 1:] + places * step[..., 1:]
    height = torch.minimum(torch.maximum(height, -limits[..., 1:]), limits[..., 1:])
    integral = (height[..., 1:] + height[..., :-1]) * (places[..., 1:] - places[..., :-1])
    return (integral.sum(-1) * step[..., 0]).sum(-1).mul(-0.5).clamp(min=0)


def widen(boxes: Tensor) -> Tensor:
    """Return boxes in float32, or in float64 where they are."""
    return boxes if boxes.dtype == torch.float64 else boxes.float()


def _corners(x: Tensor, y: Tensor, across: Tensor, down: Tensor, angle: Tensor) -> Tensor:
    """Return corners ``[..., 4, 2]`` of boxes with half a width and half a height."""
    cos, sin = angle.cos(), angle.sin()
    right, fall = cos * across, sin * across
    left, drop = sin * down, cos * down
    return torch.stack(
        [
            torch.stack(
                [x - right + left, x + right + left, x + right - left, x - right - left], -1
            ),
            torch.stack([y - fall - drop, y + fall - drop, y + fall + drop, y - fall + drop], -1),
        ],
        -1,
    )
