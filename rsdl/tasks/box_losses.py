"""Losses of detection, summed over the cells of each image, in float32.

The class loss is quality focal loss: the probability of an object's class learns to be the IoU of
the cell's box.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rsdl.tasks.assignment import Level, Truth, assign, ignored_cells, quality_focal
from rsdl.tasks.boxes import aligned_giou, box_iou, prob_iou

BOX_WEIGHT = 2.0  # RTMDet, section 3.3
PROB_WEIGHT = 0.5  # of ProbIoU beside the exact IoU, which has no gradient where boxes are apart
LEAST_QUALITY = 0.05  # weight of a box that hardly overlaps its object


def detection_losses(
    logits: Tensor, boxes: Tensor, truth: Truth, levels: Sequence[Level], *, oriented: bool
) -> Tensor:
    """Return the loss of each image, a sum over its cells, ``[B]`` float32.

    Cells that touch an ignored object and that no other object owns are not background.

    Args:
        logits: Class logits of each cell, ``[B, N, num_classes]``.
        boxes: Predicted box of each cell, ``[B, N, 5]``.
        truth: The objects.
        levels: The cells.
        oriented: Whether angles count.
    """
    logits, boxes = logits.float(), boxes.float()
    owners = assign(logits.detach(), boxes.detach(), truth, levels, oriented=oriented)
    owned, rows = owners >= 0, owners.clamp(min=0)
    true_boxes = truth.boxes.gather(1, rows[..., None].expand(-1, -1, 5))
    # Cells without an object are compared with themselves: a gradient of 0, and not of NaN.
    own = torch.where(owned[..., None], boxes, true_boxes)
    overlaps = box_iou(own, true_boxes, oriented=oriented)
    qualities = torch.where(owned, overlaps.detach().clamp(0, 1), torch.zeros_like(overlaps))
    if oriented:
        apart = (1 - overlaps) + PROB_WEIGHT * (1 - prob_iou(own, true_boxes))
    else:
        apart = 1 - aligned_giou(own, true_boxes)
    weights = torch.where(owned, qualities.clamp(min=LEAST_QUALITY), torch.zeros_like(qualities))
    counted = owned | ~ignored_cells(truth, levels)
    labels = truth.labels.gather(1, rows)
    wanted = torch.zeros_like(logits).scatter(2, labels[..., None], qualities[..., None])
    classes = quality_focal(logits, wanted).sum(2)
    classes = torch.where(counted, classes, torch.zeros_like(classes))
    return classes.sum(1) + BOX_WEIGHT * (apart * weights).sum(1)
