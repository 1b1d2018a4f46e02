"""Which anchor learns which object, as in ``torchvision.models.detection``, image by image.

Each anchor is compared with each object of an image: memory is O(anchors x objects), one image at a
time, where that of :mod:`rsdl.tasks.assignment` is O(objects). Shapes are static, and nothing waits
for the device.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from rsdl.models.heads.anchors import to_sides
from rsdl.tasks.assignment import read_truth

NOTHING, BETWEEN = -1, -2  # no object's anchor: background, or neither an object's nor background


class ImageTruth(NamedTuple):
    """The objects of an image, padded.

    Attributes:
        boxes: Centre and sides, ``[G, 4]`` float32.
        labels: Class indices, 0 for padding, ``[G]`` int64.
        counts: Whether an object is to be found, ``[G]`` bool.
        ignored: Left, top, right and bottom of what is neither an object nor background, 0 for
            others, ``[G, 4]``.
    """

    boxes: Tensor
    labels: Tensor
    counts: Tensor
    ignored: Tensor


def read_images(targets: Tensor) -> Iterator[ImageTruth]:
    """Yield the objects of each image of a batch's targets ``[B, G, 11]``."""
    truth = read_truth(targets, oriented=False)
    ignored = torch.where(truth.ignored[..., None], truth.hulls, torch.zeros_like(truth.hulls))
    rows = zip(truth.boxes[..., :4], truth.labels, truth.counts, ignored, strict=True)
    for row in rows:
        yield ImageTruth(*row)


@torch.no_grad()
def match_by_iou(
    anchors: Tensor, truth: ImageTruth, *, low: float, high: float, keep_best: bool
) -> Tensor:
    """Return the object of each anchor, ``NOTHING`` or ``BETWEEN``, ``[N]`` int64.

    As torchvision's ``Matcher``, but an object that no anchor overlaps gets none.

    Args:
        anchors: As centre, width and height, ``[N, 4]``.
        truth: The objects.
        low: IoU below which an anchor is background.
        high: IoU from which it is its best object's.
        keep_best: Whether an object also gets the anchors that overlap it most.
    """
    overlaps = box_iou(to_sides(truth.boxes), to_sides(anchors))  # [G, N]
    overlaps = torch.where(truth.counts[:, None], overlaps, torch.zeros_like(overlaps))
    most, owners = overlaps.max(0)
    found = torch.where(most < high, torch.full_like(owners, BETWEEN), owners)
    found = torch.where(most < low, torch.full_like(owners, NOTHING), found)
    if not keep_best:
        return found
    best = overlaps.max(1, keepdim=True).values
    is_best = ((overlaps == best) & (best > 0)).any(0)
    return torch.where(is_best, owners, found)


@torch.no_grad()
def in_ignored(boxes: Tensor, truth: ImageTruth) -> Tensor:
    """Return whether the centre of each box ``[N, 4]`` lies in what is ignored, ``[N]`` bool."""
    return centres_within(boxes, truth.ignored).any(1)


def centres_within(boxes: Tensor, hulls: Tensor) -> Tensor:
    """Return whether the centre of each box lies in each hull.

    Args:
        boxes: Centre x and y first, ``[..., N, 4]``.
        hulls: Left, top, right and bottom, ``[..., G, 4]``.

    Returns:
        ``[..., N, G]`` bool; left and top edges belong to a hull, right and bottom ones do not.
    """
    x, y = boxes[..., None, 0], boxes[..., None, 1]
    left, top, right, bottom = hulls[..., None, :, :].unbind(-1)
    return (x >= left) & (x < right) & (y >= top) & (y < bottom)


def one_hot(owners: Tensor, truth: ImageTruth, like: Tensor) -> Tensor:
    """Return 1 for the class of each anchor's object and 0 otherwise, of the shape of ``like``."""
    labels = truth.labels[owners.clamp(min=0)]
    owned = (owners >= 0).to(like.dtype)
    return torch.zeros_like(like).scatter(1, labels[:, None], owned[:, None])


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of chosen values ``[N]``, 0 of none."""
    values = torch.where(chosen, values, torch.zeros_like(values))
    return values.sum() / chosen.sum().clamp(min=1)
