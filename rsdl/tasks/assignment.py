"""Which cell of the pyramid learns which object.

Dynamic soft label assignment of RTMDet (Lyu et al. 2022, section 3.3): each object takes the cells
whose predictions cost least, as many as the overlaps of its best predictions add up to. Only the
cells around an object's centre are its candidates, so that time and memory grow with the number of
objects, and not with that of objects times cells. All shapes are static, and nothing waits for the
device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rsdl.core.image_size import ImageSize, height_width
from rsdl.data.targets.objects import FLAGS, HULL, IGNORED, LABEL
from rsdl.tasks.boxes import box_iou, truth_boxes

REACH = 2  # cells from that of the centre
TOP_K = 13
IOU_WEIGHT, FARTHEST, STEEPNESS = 3.0, 3.0, 10.0  # lambda_2, beta and alpha of the paper
FREE = -1  # no object's cell
LEAST_SIDE = 0.01  # px, of a true box
NEVER = 1e8  # a cost above all


class Level(NamedTuple):
    """The cells of one map of the pyramid, which are in rows.

    Attributes:
        first: Number of the first cell among those of all maps.
        rows: Rows of cells.
        columns: Columns of cells.
        stride: Side of a cell in pixels.
    """

    first: int
    rows: int
    columns: int
    stride: int


class Truth(NamedTuple):
    """The objects of a batch, padded.

    Attributes:
        boxes: Centre, sides and angle, ``[B, G, 5]`` float32.
        labels: Class indices, 0 for padding, ``[B, G]`` int64.
        counts: Whether an object is to be found, ``[B, G]`` bool.
        hulls: Left, top, right and bottom, ``[B, G, 4]``.
        ignored: Whether it is neither an object nor background, ``[B, G]`` bool.
    """

    boxes: Tensor
    labels: Tensor
    counts: Tensor
    hulls: Tensor
    ignored: Tensor


def levels_of(image_size: ImageSize, strides: Sequence[int]) -> tuple[Level, ...]:
    """Return the cells of maps that cover an image."""
    height, width = height_width(image_size)
    levels: list[Level] = []
    first = 0
    for stride in strides:
        levels.append(Level(first, -(-height // stride), -(-width // stride), stride))
        first += levels[-1].rows * levels[-1].columns
    return tuple(levels)


def num_cells(levels: Sequence[Level]) -> int:
    """Return the number of cells of all maps."""
    return levels[-1].first + levels[-1].rows * levels[-1].columns


def read_truth(targets: Tensor, *, oriented: bool) -> Truth:
    """Return the objects of a batch's targets ``[B, G, 11]``; see ``rsdl.data.targets.objects``."""
    targets = targets.float()
    is_real = targets[..., LABEL] >= 0
    ignored = (targets[..., FLAGS].long() & IGNORED) != 0
    hulls = targets[..., HULL]
    boxes = truth_boxes(targets, oriented=oriented)
    sides = boxes[..., 2:4].clamp(min=LEAST_SIDE)
    boxes = torch.cat([boxes[..., :2], sides, boxes[..., 4:]], -1)
    labels = targets[..., LABEL].clamp(min=0).long()
    return Truth(boxes, labels, is_real & ~ignored, hulls, is_real & ignored)


@torch.no_grad()
def assign(
    logits: Tensor, boxes: Tensor, truth: Truth, levels: Sequence[Level], *, oriented: bool
) -> Tensor:
    """Return the object of each cell, ``FREE`` for none, ``[B, N]`` int64.

    A cell that several objects want gets the one that it costs least.

    Args:
        logits: Class logits of each cell, ``[B, N, num_classes]``.
        boxes: Predicted box of each cell, ``[B, N, 5]``.
        truth: The objects; those that do not count get no cell.
        levels: The cells.
        oriented: Whether angles count.
    """
    cells, distances = candidates(truth.boxes, levels)
    batch, number, each = cells.shape
    flat = cells.flatten(1)
    real = torch.isfinite(distances) & truth.counts[..., None]
    predicted = boxes.gather(1, flat[..., None].expand(-1, -1, 5)).view(batch, number, each, 5)
    overlaps = box_iou(predicted, truth.boxes[:, :, None], oriented=oriented).clamp(0, 1)
    overlaps = torch.where(real, overlaps, torch.zeros_like(overlaps))
    # Of each candidate the logit of the object's own class.
    places = flat * logits.shape[2] + truth.labels[..., None].expand(-1, -1, each).flatten(1)
    own = logits.flatten(1).gather(1, places).view(batch, number, each)
    cost = (
        quality_focal(own, overlaps)
        - IOU_WEIGHT * (overlaps + 1e-7).log()
        + STEEPNESS ** (distances - FARTHEST)
    )
    cost = torch.where(real, cost, torch.full_like(cost, NEVER))
    wanted = overlaps.topk(min(TOP_K, each), -1).values.sum(-1).long().clamp(min=1)
    ranks = cost.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    cost = torch.where(ranks < wanted[..., None], cost, torch.full_like(cost, NEVER)).flatten(1)
    shape = (batch, boxes.shape[1])
    least = cost.new_full(shape, NEVER).scatter_reduce(1, flat, cost, "amin")
    wins = (cost <= least.gather(1, flat)) & (cost < NEVER)
    objects = torch.arange(number, device=flat.device)[None, :, None].expand(batch, -1, each)
    owners = torch.where(wins, objects.flatten(1), torch.full_like(flat, FREE))
    return torch.full(shape, FREE, device=flat.device).scatter_reduce(1, flat, owners, "amax")


def candidates(boxes: Tensor, levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """Return the cells around the centre of each box on each map, and how far they are from it.

    Args:
        boxes: ``[B, G, 5]``.
        levels: The cells.

    Returns:
        Numbers of the cells, and the distance of their centres from the box's in cells, infinite
        for those outside of the map; ``[B, G, K]`` each.
    """
    steps = torch.arange(-REACH, REACH + 1, device=boxes.device)
    across, down = steps.repeat(len(steps)), steps.repeat_interleave(len(steps))
    cells, distances = [], []
    for first, rows, columns, stride in levels:
        x, y = boxes[..., 0:1] / stride, boxes[..., 1:2] / stride
        column, row = x.floor().long() + across, y.floor().long() + down
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        far = torch.hypot(column + 0.5 - x, row + 0.5 - y)
        distances.append(torch.where(inside, far, torch.full_like(far, torch.inf)))
        cells.append(first + row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1))
    return torch.cat(cells, -1), torch.cat(distances, -1)


@torch.no_grad()
def ignored_cells(truth: Truth, levels: Sequence[Level]) -> Tensor:
    """Return whether each cell touches the hull of an object that is ignored, ``[B, N]`` bool.

    Each hull adds 1 to its cells by four corners, whose double sum is the number of hulls.
    """
    found = []
    ones = truth.ignored.int()
    signs = torch.stack([ones, -ones, -ones, ones], -1).flatten(1)
    for _, rows, columns, stride in levels:
        left, top = (truth.hulls[..., :2] / stride).floor().long().unbind(-1)
        right, bottom = (truth.hulls[..., 2:] / stride).ceil().long().unbind(-1)
        left, right = left.clamp(0, columns), right.clamp(0, columns)
        top, bottom = top.clamp(0, rows), bottom.clamp(0, rows)
        wide = columns + 1
        places = [
            top * wide + left,
            top * wide + right,
            bottom * wide + left,
            bottom * wide + right,
        ]
        corners = signs.new_zeros(len(signs), (rows + 1) * wide)
        corners = corners.scatter_add(1, torch.stack(places, -1).flatten(1), signs)
        counts = corners.view(-1, rows + 1, wide).cumsum(1).cumsum(2)
        found.append((counts[:, :rows, :columns] > 0).flatten(1))
    return torch.cat(found, 1)


def quality_focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return quality focal loss with an exponent of 2, of the shape of ``logits``.

    See Li et al. 2020, "Generalized Focal Loss", section 3.1.
    """
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return loss * (wanted - logits.sigmoid()).square()
