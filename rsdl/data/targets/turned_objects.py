"""The objects of a batch, turned with its images: rows as in ``rsdl/data/targets/objects.py``."""

import math

import torch
from torch import Tensor

from rsdl.core.image_size import ImageSize, height_width
from rsdl.data.targets.base import Dihedral
from rsdl.data.targets.objects import FLAGS, IGNORED, LABEL, MIN_VISIBLE, RECTANGLE
from rsdl.data.targets.rectangles import SMALL_AREA, box_areas, hulls, rotated_intersection


def turn_objects(targets: Tensor, turned: Dihedral, image_size: ImageSize) -> Tensor:
    """Return the rows ``[B, G, 11]`` of images that were transposed, then flipped."""
    height, width = height_width(image_size)
    swap, over_y, over_x = (chosen[:, None] for chosen in turned)
    x, y, w, h, r, left, top, right, bottom, *rest = targets.unbind(-1)
    # Transposing mirrors at the diagonal, a flip at an axis; both turn the angle's direction.
    x, y = torch.where(swap, y, x), torch.where(swap, x, y)
    left, top = torch.where(swap, top, left), torch.where(swap, left, top)
    right, bottom = torch.where(swap, bottom, right), torch.where(swap, right, bottom)
    r = torch.where(swap, math.pi / 2 - r, r)
    r = torch.where(over_x ^ over_y, -r, r)
    x, y = torch.where(over_x, width - x, x), torch.where(over_y, height - y, y)
    mirrored = width - right, height - bottom, width - left, height - top
    left, right = torch.where(over_x, mirrored[0], left), torch.where(over_x, mirrored[2], right)
    top, bottom = torch.where(over_y, mirrored[1], top), torch.where(over_y, mirrored[3], bottom)
    return torch.stack([x, y, w, h, r, left, top, right, bottom, *rest], -1)


def rotate_objects(targets: Tensor, angles: Tensor, image_size: ImageSize) -> Tensor:
    """Return the rows ``[B, G, 11]`` of images that were turned about their centres.

    Rectangles turn; hulls are those of the turned rectangles. What both the image before and the
    one after show of an object is at least what each shows of it, added, less its whole. Where that
    is less than ``MIN_VISIBLE``, the object is ignored; where the turned image shows none of it,
    the row is padding.

    Args:
        targets: Rows of the images before.
        angles: From the x axis towards the y axis (down) in radians, ``[B]``.
        image_size: Size of the images.
    """
    height, width = height_width(image_size)
    angles = angles[:, None]
    cos, sin = angles.cos(), angles.sin()
    x, y, w, h, r = targets[..., RECTANGLE].unbind(-1)
    right, down = x - width / 2, y - height / 2
    moved = torch.stack(
        [width / 2 + cos * right - sin * down, height / 2 + sin * right + cos * down, w, h],
        -1,
    )
    direction = torch.remainder(r + angles + math.pi / 2, math.pi) - math.pi / 2
    boxes = torch.cat([moved, direction[..., None]], -1)
    before = _share(targets[..., RECTANGLE], height, width)
    after = _share(boxes, height, width)
    hidden = before + after - 1 < MIN_VISIBLE
    flags = torch.where(hidden, (targets[..., FLAGS].long() | IGNORED).float(), targets[..., FLAGS])
    gone = after <= 0
    labels = torch.where(gone, torch.full_like(after, -1), targets[..., LABEL])
    edge = boxes.new_tensor((width, height, width, height))
    rows = [boxes, hulls(boxes, oriented=True).clamp(min=0).minimum(edge)]
    rotated = torch.cat([*rows, labels[..., None], flags[..., None]], -1)
    # Padding, and images that were not turned, stay as they are.
    same = (angles == 0) | (targets[..., LABEL] < 0)
    return torch.where(same[..., None], targets, rotated)


def _share(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return which part of each box an image shows, ``[...]``."""
    image = boxes.new_tensor((width / 2, height / 2, width, height, 0.0))
    return rotated_intersection(boxes, image) / box_areas(boxes).clamp(min=SMALL_AREA)
