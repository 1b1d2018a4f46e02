"""Anchors around the centres of cells, and boxes told by how they differ from an anchor.

The anchors are those of ``torchvision.models.detection``, which lays them around the corners of
cells: here an image that is turned has the turned anchors. Unlike its ``BoxCoder``, nothing waits
for the device.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

FARTHEST = math.log(1000 / 16)  # of a logarithm of sides, as torchvision's BoxCoder clips it
RATIOS = (0.5, 1.0, 2.0)  # of height to width


def build_anchors(
    strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float]
) -> AnchorGenerator:
    """Return the anchors of a cell of each map.

    Args:
        strides: Side of the cells of each map in pixels.
        scales: Sides of a square anchor in cells.
        ratios: Ratios of height to width of anchors with the same area.
    """
    sizes = tuple(tuple(int(scale * stride) for scale in scales) for stride in strides)
    return AnchorGenerator(sizes, (tuple(ratios),) * len(sizes))


def lay_anchors(
    anchors: AnchorGenerator,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Return the anchors of all cells, ``[N, 4]`` float32: centre, width and height in pixels.

    Cells are in rows, maps one after the other; the anchors of a cell follow each other.

    Args:
        anchors: Those of a cell.
        grids: Rows and columns of each map.
        strides: Side of the cells of each map in pixels.
        device: Where they are wanted.
    """
    with torch.inference_mode(False):  # what is kept may be used in training later
        anchors.set_cell_anchors(torch.float32, device)
    steps: list[list[int]] = [[stride, stride] for stride in strides]
    sides = anchors.grid_anchors([list(grid) for grid in grids], steps)
    centred = [each + stride / 2 for each, stride in zip(sides, strides, strict=True)]
    return to_centres(torch.cat(centred))


def to_centres(sides: Tensor) -> Tensor:
    """Return left, top, right, bottom ``[..., 4]`` as centre, width and height."""
    low, high = sides[..., :2], sides[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def to_sides(centred: Tensor) -> Tensor:
    """Return centre, width and height ``[..., 4]`` as left, top, right, bottom."""
    centre, half = centred[..., :2], centred[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def encode(boxes: Tensor, anchors: Tensor, scales: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Return how boxes differ from anchors, both ``[..., 4]`` as centre, width and height.

    See Girshick et al. 2014, "Rich Feature Hierarchies", appendix C: offsets in sides of the
    anchor, and logarithms of the ratios of the sides, each times its scale.
    """
    offsets = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    ratios = (boxes[..., 2:] / anchors[..., 2:]).log()
    return torch.cat([offsets * scales[0], ratios * scales[1]], -1)


def decode(codes: Tensor, anchors: Tensor, scales: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Return the boxes of :func:`encode`, as centre, width and height."""
    centres = anchors[..., :2] + codes[..., :2] / scales[0] * anchors[..., 2:]
    ratios = (codes[..., 2:] / scales[1]).clamp(max=FARTHEST).exp()
    return torch.cat([centres, anchors[..., 2:] * ratios], -1)


def clip(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return the parts of boxes, as centre, width and height, that lie in an image."""
    height, width = image_size
    left, top, right, bottom = to_sides(boxes).unbind(-1)
    left, right = left.clamp(0, width), right.clamp(0, width)
    top, bottom = top.clamp(0, height), bottom.clamp(0, height)
    return to_centres(torch.stack([left, top, right, bottom], -1))
