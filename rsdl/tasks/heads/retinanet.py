"""What torchvision's RetinaNet says: class logits and a box of each anchor.

Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4. Focal loss and L1 loss,
both divided by the number of the image's own anchors that have an object.
"""

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from rsdl.models.heads.anchors import clip, decode, encode
from rsdl.models.heads.one_stage import RETINANET_SCALES
from rsdl.tasks.heads.anchored import AnchoredDetection
from rsdl.tasks.heads.candidates import best_pairs, take_rows, to_candidates
from rsdl.tasks.heads.matching import (
    BETWEEN,
    ImageTruth,
    in_ignored,
    match_by_iou,
    one_hot,
    read_images,
)  # fmt: skip

LOW, HIGH = 0.4, 0.5  # IoU of background, and of objects


class RetinaNetDetection(AnchoredDetection):
    """Outputs of :class:`rsdl.models.heads.one_stage.RetinaNetHead`; see :class:`DetectionHead`."""

    scales = RETINANET_SCALES
    places = "anchor of the pyramid"
    boxes = "how a box differs from it"

    def losses(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        """Return the loss of each image; see :class:`DetectionHead`.

        Args:
            outputs: Logits ``[B, N, num_classes]`` and codes ``[B, N, 4]``.
            targets: Objects, ``[B, G, 11]``.
        """
        logits, codes = outputs[0].float(), outputs[1].float()
        anchors = self._anchors(logits)
        rows = zip(logits, codes, read_images(targets), strict=True)
        return torch.stack([_loss(*row, anchors) for row in rows])

    def candidates(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return the best pairs of an anchor and a class; see :class:`DetectionHead`."""
        logits, codes = outputs[0].float(), outputs[1].float()
        best, places, labels = best_pairs(logits, self.kept)
        boxes = decode(take_rows(codes, places), self._anchors(logits)[places])
        return to_candidates(clip(boxes, self.image_size), best.sigmoid(), labels)


def _loss(logits: Tensor, codes: Tensor, truth: ImageTruth, anchors: Tensor) -> Tensor:
    owners = match_by_iou(anchors, truth, low=LOW, high=HIGH, keep_best=True)
    owned = owners >= 0
    number = owned.sum().clamp(min=1)
    counted = owned | ((owners != BETWEEN) & ~in_ignored(anchors, truth))
    classes = sigmoid_focal_loss(logits, one_hot(owners, truth, logits)).sum(1)
    # The code of an anchor without an object is compared with itself.
    wanted = encode(truth.boxes[owners.clamp(min=0)], anchors)
    apart = torch.where(owned[:, None], codes - wanted, torch.zeros_like(codes)).abs().sum()
    return (torch.where(counted, classes, torch.zeros_like(classes)).sum() + apart) / number
