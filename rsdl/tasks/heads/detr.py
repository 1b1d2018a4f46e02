"""What the DETR-type heads say: class logits and boxes of queries, each object found by one alone.

Every layer is matched with the objects by itself: the assignment of least cost (Carion et al. 2020,
"End-to-End Object Detection with Transformers", section 3.1). SciPy finds it on the CPU, one image
and layer after the other, so that a step waits for the device once.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from rsdl.config.task import DetectionConfig
from rsdl.tasks.assignment import FREE, Truth, read_truth
from rsdl.tasks.boxes import aligned_giou, box_iou
from rsdl.tasks.heads.candidates import best_pairs, take_rows, to_candidates
from rsdl.tasks.heads.matching import centres_within

# Of the cost of a match, both papers.
CLASS_COST, CORNER_COST, OVERLAP_COST = 2.0, 5.0, 2.0
ALPHA, GAMMA = 0.25, 2.0  # of focal loss, and of its difference in the cost
CORNER_WEIGHT, OVERLAP_WEIGHT = 5.0, 2.0  # in the loss, both papers
FOCAL_WEIGHT = 2.0  # of classes in Deformable DETR's
BACKGROUND = 0.75  # alpha of varifocal loss, as in RT-DETR's code
WORST = 1e9  # a cost above all, of what is not finite


class DetrDetection:
    """Outputs of the heads of ``rsdl/models/heads/detr.py``; see :class:`DetectionHead`.

    The loss of a layer is that of the papers: focal loss of classes for Deformable DETR, varifocal
    loss for RT-DETRv2, L1 of boxes in shares of the image and generalized IoU, all layers alike. It
    is divided by the mean number of objects in a train image, a constant of the data set, in place
    of the number in the batch, so that the losses of ranks and micro-batches add up. A query that
    is matched with nothing and whose centre lies in an ignored object is not background.
    """

    needs_nms = False
    places = "layer, the last of which counts, and query"
    boxes = "a box: centre, width and height in pixels, angle 0"

    def __init__(
        self, config: DetectionConfig, image_size: tuple[int, int], mean_objects: float
    ) -> None:
        height, width = image_size
        self.sides = (width, height, width, height)
        self.has_quality = config.head == "rt_detr_v2"
        self.kept = config.max_detections
        self.divisor = max(mean_objects, 1.0)

    def losses(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        """Return the loss of each image over all layers; see :class:`DetectionHead`.

        Args:
            outputs: Logits ``[B, L, Q, num_classes]`` and boxes ``[B, L, Q, 5]``.
            targets: Objects, ``[B, G, 11]``.
        """
        logits, boxes = outputs[0].float(), outputs[1].float()
        truth = read_truth(targets, oriented=False)
        owners = match(logits.detach(), boxes.detach(), truth, self.sides)
        owned = owners >= 0
        rows = owners.clamp(min=0).flatten(1)
        labels = truth.labels.gather(1, rows).view_as(owners)
        true_boxes = truth.boxes.gather(1, rows[..., None].expand(-1, -1, 5)).view_as(boxes)
        # Queries without an object are compared with themselves: a gradient of 0, and not of NaN.
        true_boxes = torch.where(owned[..., None], true_boxes, boxes.detach())
        wanted = torch.zeros_like(logits)
        wanted = wanted.scatter(3, labels[..., None], owned[..., None].to(wanted.dtype))
        if self.has_quality:
            classes = varifocal(logits, wanted, box_iou(boxes.detach(), true_boxes, oriented=False))
        else:
            classes = FOCAL_WEIGHT * sigmoid_focal_loss(logits, wanted, ALPHA, GAMMA)
        within = centres_within(boxes.detach(), truth.hulls[:, None])
        counted = owned | ~(within & truth.ignored[:, None, None]).any(-1)
        moved = ((boxes - true_boxes)[..., :4] / boxes.new_tensor(self.sides)).abs().sum(3)
        apart = 1 - aligned_giou(boxes, true_boxes)
        losses = torch.where(counted, classes.sum(3), 0) + torch.where(
            owned, CORNER_WEIGHT * moved + OVERLAP_WEIGHT * apart, 0
        )
        return losses.sum((1, 2)) / self.divisor

    def candidates(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return the best pairs of a query of the last layer and a class."""
        logits, boxes = outputs[0][:, -1].float(), outputs[1][:, -1].float()
        best, queries, labels = best_pairs(logits, self.kept)
        return to_candidates(take_rows(boxes, queries), best.sigmoid(), labels)


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, truth: Truth, sides: tuple[int, int, int, int]) -> Tensor:
    """Return the object of each query of each layer, ``FREE`` for none, ``[B, L, Q]`` int64.

    Of more objects than queries the costly ones stay without one.

    Args:
        logits: Class logits, ``[B, L, Q, num_classes]`` float32.
        boxes: ``[B, L, Q, 5]`` float32, in pixels.
        truth: The objects; those that do not count get no query.
        sides: Width, height, width and height of the image, in pixels.
    """
    # Layer by layer: a cost for each query and object takes memory.
    costs = [
        cost_of_matches(layer, found, truth, sides)
        for layer, found in zip(logits.unbind(1), boxes.unbind(1), strict=True)
    ]
    owners = find_matches(torch.stack(costs, 1), truth.counts)
    return owners.to(logits.device)


def cost_of_matches(
    logits: Tensor, boxes: Tensor, truth: Truth, sides: tuple[int, int, int, int]
) -> Tensor:
    """Return what it costs to match each query of a layer with each object, ``[B, Q, G]``."""
    shares = logits.sigmoid()
    positive = -ALPHA * (1 - shares) ** GAMMA * (shares + 1e-8).log()
    negative = -(1 - ALPHA) * shares**GAMMA * (1 - shares + 1e-8).log()
    labels = truth.labels[:, None].expand(-1, logits.shape[1], -1)
    classes = (positive - negative).gather(2, labels)
    scale = boxes.new_tensor(sides)
    moved = torch.cdist(boxes[..., :4] / scale, truth.boxes[..., :4] / scale, p=1)
    overlaps = aligned_giou(boxes[:, :, None], truth.boxes[:, None])
    cost = CLASS_COST * classes + CORNER_COST * moved - OVERLAP_COST * overlaps
    return cost.nan_to_num(WORST, WORST, -WORST)


def find_matches(costs: Tensor, counts: Tensor) -> Tensor:
    """Return the object of each query at the least cost of all, on the CPU.

    Args:
        costs: ``[B, L, Q, G]``.
        counts: Whether each object is to be found, ``[B, G]`` bool.
    """
    from scipy.optimize import linear_sum_assignment

    host = costs.cpu().numpy()
    owners = np.full(host.shape[:3], FREE, np.int64)
    for image, (layers, real) in enumerate(zip(host, counts.cpu().numpy(), strict=True)):
        numbers = real.nonzero()[0]
        for layer, cost in enumerate(layers):
            queries, objects = linear_sum_assignment(cost[:, numbers])
            owners[image, layer, queries] = numbers[objects]
    return torch.from_numpy(owners)


def varifocal(logits: Tensor, wanted: Tensor, overlaps: Tensor) -> Tensor:
    """Return varifocal loss of the shape of ``logits``; see Zhang et al. 2021, "VarifocalNet".

    The probability of an object's class learns to be the IoU of the query's box.

    Args:
        logits: ``[..., num_classes]``.
        wanted: 1 for the class of a query's object, 0 else.
        overlaps: IoU of each query with its object, ``[...]``.
    """
    qualities = wanted * overlaps[..., None]
    background = BACKGROUND * logits.detach().sigmoid() ** GAMMA * (1 - wanted)
    loss = F.binary_cross_entropy_with_logits(logits, qualities, reduction="none")
    return (background + qualities) * loss
