"""Metrics of segmentation: counts of pixels, as sums over valid samples of all ranks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.data.targets.mask import IGNORE
from rsdl.tasks.boundary import boundary_counts
from rsdl.tasks.scores import ConfusionScores, Floats, score_confusion, share
from rsdl.tasks.sum_metric import SumMetric


class SegmentationMetrics(SumMetric):
    """Confusion matrix of pixels, counts of boundaries, and loss, as sums over valid samples.

    Args:
        num_classes: Classes of the data set.
        boundary_px: Pixels within which a boundary counts as found.
    """

    confusion: Tensor
    boundaries: Tensor
    num_samples: Tensor
    loss_sum: Tensor

    def __init__(self, num_classes: int, boundary_px: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.boundary_px = boundary_px
        self.add_sum("confusion", num_classes, num_classes, dtype=torch.int64)
        self.add_sum("boundaries", 4, dtype=torch.int64)
        self.add_sum("num_samples", dtype=torch.int64)
        self.add_sum("loss_sum", dtype=torch.float64)

    def update(self, prediction: Tensor, targets: Tensor, valid: Tensor, losses: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: Predicted classes, ``[B, H, W]``.
            targets: True classes, ``[B, H, W]``; 255 is ignored.
            valid: Whether each row counts, ``[B]`` bool.
            losses: Loss of each row, ``[B]``.
        """
        counted = (targets != IGNORE) & valid[:, None, None]
        cells = torch.where(counted, targets.long(), 0) * self.num_classes + prediction
        self.confusion.view(-1).scatter_add_(0, cells.flatten(), counted.long().flatten())
        found = boundary_counts(prediction, targets, self.boundary_px)
        self.boundaries += (found * valid[:, None]).sum(0)
        self.num_samples += valid.sum()
        self.loss_sum += (losses.double() * valid).sum()

    def values(self) -> "MetricValues":
        """Return every metric over all ranks; a collective that every rank must call."""
        return summarize(self.sums())


@dataclass(frozen=True, slots=True)
class MetricValues:
    """The metrics of an evaluation.

    Attributes:
        metrics: By name: loss, miou, oa, kappa, macro_f1, fw_iou (weighted by the pixels of each
            class), boundary_f1; NaN if undefined.
        confusion: Pixels by true class (rows) and predicted class (columns), ``[C, C]``.
        scores: Of the confusion matrix, overall and by class.
        iou: Intersection over union of each class, ``[C]``; NaN if it is neither true nor
            predicted.
        num_samples: Images that were evaluated.
    """

    metrics: dict[str, float]
    confusion: NDArray[np.int64]
    scores: ConfusionScores
    iou: Floats
    num_samples: int


def summarize(sums: dict[str, NDArray[Any]]) -> MetricValues:
    """Return the metrics computed from the sums of :class:`SegmentationMetrics`."""
    confusion, count = sums["confusion"], int(sums["num_samples"])
    scores, support, both = score_confusion(confusion), confusion.sum(axis=1), confusion.diagonal()
    union = confusion.sum(axis=0) + support - both
    iou, known = both / np.maximum(union, 1), union > 0
    predicted, right, true, met = sums["boundaries"].tolist()
    # As of a class: 0 if there are boundaries and none is found, unknown if there are none.
    precision, recall = right / max(predicted, 1), met / max(true, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-300)
    metrics = {
        "loss": share(sums["loss_sum"], count),
        "miou": float(iou[known].mean()) if known.any() else float("nan"),
        "oa": scores.oa,
        "kappa": scores.kappa,
        "macro_f1": scores.macro_f1,
        "fw_iou": share((iou * support).sum(), int(support.sum())),
        "boundary_f1": f1 if predicted + true else float("nan"),
    }
    return MetricValues(metrics, confusion, scores, np.where(known, iou, np.nan), count)
