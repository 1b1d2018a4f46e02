"""What may be a detection: the best pairs of a place, such as a cell, and a class."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsdl.config.task import DetectionConfig

BEFORE_NMS = 2000  # candidates of an image, as in RTMDet
BOX = 5  # columns of a box


def num_candidates(config: DetectionConfig) -> int:
    """Return how many candidates of an image are kept before NMS, if there are as many."""
    return max(BEFORE_NMS, 2 * config.max_detections)


def best_pairs(scores: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return score, row and class of the best pairs of scores ``[B, N, K]``, ``[B, kept]`` each."""
    best, places = scores.flatten(1).topk(min(kept, scores[0].numel()), dim=1)
    return best, places // scores.shape[2], places % scores.shape[2]


def take_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Return rows ``[B, K]`` of values ``[B, N, D]``, ``[B, K, D]``."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))


def to_candidates(boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Return candidates ``[B, K, 7]`` of boxes, scores and labels.

    Args:
        boxes: Centre, width and height, and angle if they have one, ``[B, K, 4 or 5]``.
        scores: ``[B, K]``.
        labels: ``[B, K]``.
    """
    whole = F.pad(boxes, (0, BOX - boxes.shape[2]))
    return torch.cat([whole, torch.stack([scores, labels.to(scores.dtype)], -1)], -1)
