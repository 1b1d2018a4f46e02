"""Losses of segmentation, each a number for each row, so that ranks and micro-batches add up.

Ignored pixels count in none. Cross-entropy and focal loss are sums over the pixels that count,
divided by all pixels of an image; Dice and Lovász are of each image, over the classes in it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsdl.data.targets.mask import IGNORE


def cross_entropy(
    logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of each row, ``[B]``.

    Args:
        logits: ``[B, C, H, W]`` float32.
        targets: Class indices, ``[B, H, W]`` int64; 255 is ignored.
        weights: Weight of each class, ``[C]``.
        smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
    """
    pixels = F.cross_entropy(
        logits, targets, weights, ignore_index=IGNORE, reduction="none", label_smoothing=smoothing
    )
    return pixels.mean((1, 2))


def focal(
    logits: Tensor, targets: Tensor, *, weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """Return the focal loss of each row, ``[B]`` (Lin et al. 2017)."""
    entropy = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    # Away from 0, where a power below 1 has no finite slope.
    hard = (1 - torch.exp(-entropy)).clamp_min(1e-6).pow(gamma)
    own = 1.0 if weights is None else weights[targets.clamp_max(len(weights) - 1)]
    return (hard * entropy * own).mean((1, 2))


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the soft Dice coefficient of each row, ``[B]`` (Milletari et al. 2016).

    It is the mean over the classes in an image; 0 for an image without a label.
    """
    share, truth = _shares(logits, targets)
    # [B, C, H, W] -> [B, C]
    common, both = (share * truth).sum((2, 3)), (share + truth).sum((2, 3))
    present = truth.sum((2, 3)) > 0
    loss = torch.where(present, 1 - 2 * common / both.clamp_min(1e-6), 0.0)
    return loss.sum(1) / present.sum(1).clamp_min(1)


def lovasz(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the Lovász-Softmax loss of each row, ``[B]`` (Berman et al. 2018).

    A convex surrogate of one minus the IoU, the mean over the classes in an image.
    """
    share, truth = _shares(logits, targets)
    share, truth = share.flatten(2), truth.flatten(2)  # [B, C, P]
    errors, order = (truth - share).abs().sort(dim=2, descending=True)
    ranked = truth.gather(2, order)
    total = ranked.sum(2, keepdim=True)
    seen = ranked.cumsum(2)
    # IoU after the first pixels in the order of their errors are wrong; then its increments.
    jaccard = 1 - (total - seen) / (total + (1 - ranked).cumsum(2)).clamp_min(1)
    steps = torch.cat((jaccard[:, :, :1], jaccard[:, :, 1:] - jaccard[:, :, :-1]), dim=2)
    present = total.squeeze(2) > 0
    loss = torch.where(present, (errors * steps).sum(2), 0.0)
    return loss.sum(1) / present.sum(1).clamp_min(1)


def _shares(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities and one-hot truth ``[B, C, H, W]``, both 0 in ignored pixels."""
    counted = targets != IGNORE
    truth = F.one_hot(torch.where(counted, targets, 0), logits.shape[1]).permute(0, 3, 1, 2)
    counted = counted[:, None]
    return logits.softmax(1) * counted, truth * counted
