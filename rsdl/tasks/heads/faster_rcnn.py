"""What Faster R-CNN says: of each anchor whether it is an object, of each proposal which.

Sources: Ren et al. 2015, "Faster R-CNN", section 3.1.2; Girshick 2015, "Fast R-CNN", section 2.3.

torchvision learns from a random sample of anchors and of proposals. Here all count, weighted so
that the loss is what it would be of such a sample on average: it draws nothing, so that a resumed
run, any number of ranks and any batch have the same. And an image's true boxes are not added to its
proposals, since the network does not see them: the second stage learns what the first has found.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsdl.models.heads.anchors import clip, decode, encode
from rsdl.models.heads.faster_rcnn import ANCHOR_SCALES
from rsdl.tasks.heads.anchored import AnchoredDetection
from rsdl.tasks.heads.candidates import best_pairs, take_rows, to_candidates
from rsdl.tasks.heads.matching import (
    NOTHING,
    ImageTruth,
    in_ignored,
    match_by_iou,
    mean_where,
    read_images,
)  # fmt: skip

BETA = 1 / 9  # where the smooth L1 loss becomes straight
SCALES = (10.0, 5.0)  # of the codes of proposals: about the inverse of their deviations
PADDING = -1.0  # score of what is no proposal, below any threshold


class FasterRcnnDetection(AnchoredDetection):
    """Outputs of :class:`rsdl.models.heads.faster_rcnn.FasterRcnnHead`.

    See :class:`DetectionHead`.
    """

    scales = ANCHOR_SCALES
    places = "anchor of the pyramid whether it is an object, and for each of its best boxes"
    boxes = "how the object's box differs from it; background is the first class"

    def losses(self, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """Return the loss of both stages of each image; see :class:`DetectionHead`.

        Args:
            outputs: Logits and codes of the anchors; proposals, their logits and codes.
            targets: Objects, ``[B, G, 11]``.
        """
        outputs = tuple(each.float() for each in outputs)
        anchors = self._anchors(outputs[0])
        losses = []
        for objectness, codes, proposals, logits, moved, truth in zip(
            *outputs, read_images(targets), strict=True
        ):
            first = first_loss(objectness, codes, anchors, truth)
            losses.append(first + second_loss(logits, moved, proposals, truth))
        return torch.stack(losses)

    def candidates(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """Return the best pairs of a proposal and a class; see :class:`DetectionHead`."""
        _, _, proposals, logits, codes = (each.float() for each in outputs)
        real = proposals[..., 2:].amin(-1, keepdim=True) > 0
        scores = logits.softmax(-1)[..., 1:]
        scores = torch.where(real, scores, torch.full_like(scores, PADDING))
        best, places, labels = best_pairs(scores, self.kept)
        number = scores.shape[2]
        own = take_rows(codes[:, :, 1:].flatten(1, 2), places * number + labels)
        boxes = decode(own, take_rows(proposals, places), SCALES)
        return to_candidates(clip(boxes, self.image_size), best, labels)


def first_loss(logits: Tensor, codes: Tensor, anchors: Tensor, truth: ImageTruth) -> Tensor:
    """Return the loss of the first stage of an image.

    Args:
        logits: Whether each anchor is an object, ``[N]``.
        codes: Of the objects, ``[N, 4]``.
        anchors: ``[N, 4]``.
        truth: The objects.
    """
    owners = match_by_iou(anchors, truth, low=0.3, high=0.7, keep_best=True)
    owned = owners >= 0
    unsure = F.binary_cross_entropy_with_logits(logits, owned.float(), reduction="none")
    wanted = encode(truth.boxes[owners.clamp(min=0)], anchors)
    apart = F.smooth_l1_loss(codes, wanted, beta=BETA, reduction="none").sum(1)
    background = (owners == NOTHING) & ~in_ignored(anchors, truth)
    return mean_of_sample(unsure, apart, owned, background, size=256, share=0.5)


def second_loss(logits: Tensor, codes: Tensor, proposals: Tensor, truth: ImageTruth) -> Tensor:
    """Return the loss of the second stage of an image.

    Args:
        logits: Of background and each class, ``[P, 1 + num_classes]``.
        codes: Of each class's box, ``[P, 1 + num_classes, 4]``.
        proposals: ``[P, 4]``, 0 for padding.
        truth: The objects.
    """
    real = proposals[:, 2:].amin(1) > 0
    own = torch.where(real[:, None], proposals, torch.ones_like(proposals))
    owners = match_by_iou(own, truth, low=0.5, high=0.5, keep_best=False)
    owned = real & (owners >= 0)
    rows = owners.clamp(min=0)
    labels = torch.where(owned, 1 + truth.labels[rows], torch.zeros_like(rows))
    unsure = F.cross_entropy(logits, labels, reduction="none")
    said = codes.gather(1, labels[:, None, None].expand(-1, -1, 4))[:, 0]
    wanted = encode(truth.boxes[rows], own, SCALES)
    apart = F.smooth_l1_loss(said, wanted, beta=BETA, reduction="none").sum(1)
    background = real & ~owned & ~in_ignored(own, truth)
    return mean_of_sample(unsure, apart, owned, background, size=512, share=0.25)


def mean_of_sample(
    unsure: Tensor, apart: Tensor, owned: Tensor, background: Tensor, *, size: int, share: float
) -> Tensor:
    """Return the mean over a random sample, on average: of class losses, and box losses of objects.

    Args:
        unsure: Class loss of each anchor, ``[N]``.
        apart: Loss of each anchor's box, ``[N]``.
        owned: Whether it has an object, ``[N]``.
        background: Whether it is background, ``[N]``; others have no part.
        size: Anchors of a sample.
        share: Largest share of those with an object.
    """
    objects = owned.sum().clamp(max=int(size * share))
    others = torch.minimum(background.sum(), size - objects)
    total = objects * mean_where(unsure + apart, owned) + others * mean_where(unsure, background)
    return total / (objects + others).clamp(min=1)
