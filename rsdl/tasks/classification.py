"""Scene classification: one label for a whole image.

Metrics keep counts instead of predictions: their size does not depend on the split, and they are
summed over ranks, so that the same samples give the same accuracy on any number of processes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from rsdl.config.task import TaskConfig
from rsdl.tasks.scores import score_confusion

NUM_BINS = 15
TOP_K = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """The two most probable classes of each row of a batch.

    Attributes:
        predicted: Most probable class, ``[B]``.
        confidence: Its probability, ``[B]``.
        runner_up: Second most probable class, ``[B]``.
        runner_up_probability: Its probability, ``[B]``.
    """

    predicted: Tensor
    confidence: Tensor
    runner_up: Tensor
    runner_up_probability: Tensor


class ClassificationTask:
    """Targets, loss and metrics of scene classification.

    Args:
        config: Config of the task.
        num_classes: Classes of the data set.
    """

    monitor = "oa"

    def __init__(self, config: TaskConfig, num_classes: int) -> None:
        self.config = config
        self.num_classes = num_classes

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        *,
        smooth: bool,
        partner: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy of each row, ``[B]`` float32.

        Args:
            logits: ``[B, num_classes]``.
            targets: Class indices, ``[B]``.
            smooth: Whether to smooth the labels (Szegedy et al. 2016), as in training.
            partner: Row that each row was mixed with, ``[B]``; ``None`` without mixing.
            weight: Share of each row's own image, ``[B]``.
        """
        smoothing = self.config.label_smoothing if smooth else 0.0

        def entropy(labels: Tensor) -> Tensor:
            return F.cross_entropy(
                logits.float(), labels, reduction="none", label_smoothing=smoothing
            )

        own = entropy(targets)
        if partner is None or weight is None:
            return own
        return weight * own + (1 - weight) * entropy(targets[partner])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities, ``[B, num_classes]`` float32."""
        return logits.float().softmax(1)

    def outcome(self, probabilities: Tensor) -> Outcome:
        """Return the two most probable classes of each row."""
        top = probabilities.topk(min(2, self.num_classes), dim=1)
        return Outcome(top.indices[:, 0], top.values[:, 0], top.indices[:, -1], top.values[:, -1])

    def metrics(self) -> "ClassificationMetrics":
        """Return new, empty metrics."""
        return ClassificationMetrics(self.num_classes)


class ClassificationMetrics(Metric):
    """Confusion matrix, top-5 accuracy, calibration and loss, as sums over valid samples.

    Args:
        num_classes: Classes of the data set.
    """

    full_state_update = False
    confusion: Tensor
    num_top: Tensor
    bin_count: Tensor
    bin_confidence: Tensor
    bin_correct: Tensor
    loss_sum: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

        def sums(name: str, *shape: int, dtype: torch.dtype) -> None:
            self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

        sums("confusion", num_classes, num_classes, dtype=torch.int64)
        sums("num_top", dtype=torch.int64)
        sums("bin_count", NUM_BINS, dtype=torch.int64)
        sums("bin_confidence", NUM_BINS, dtype=torch.float64)
        sums("bin_correct", NUM_BINS, dtype=torch.int64)
        sums("loss_sum", dtype=torch.float64)

    def update(self, probabilities: Tensor, targets: Tensor, valid: Tensor, loss: Tensor) -> None:
        """Add a batch.

        Args:
            probabilities: ``[B, num_classes]``.
            targets: Class indices, ``[B]``.
            valid: Whether each row counts, ``[B]`` bool.
            loss: Loss of each row, ``[B]``.
        """
        counts = valid.long()
        confidence, predicted = probabilities.max(1)
        cells = targets * self.num_classes + predicted
        self.confusion.view(-1).scatter_add_(0, cells, counts)
        top = probabilities.topk(min(TOP_K, self.num_classes), dim=1).indices
        self.num_top += ((top == targets[:, None]).any(1).long() * counts).sum()
        # Bins are (low, high], as in Guo et al. 2017 and torchmetrics.
        bins = (confidence * NUM_BINS).ceil().long().sub(1).clamp(0, NUM_BINS - 1)
        self.bin_count.scatter_add_(0, bins, counts)
        self.bin_confidence.scatter_add_(0, bins, confidence.double() * counts)
        self.bin_correct.scatter_add_(0, bins, (predicted == targets).long() * counts)
        self.loss_sum += (loss.double() * counts).sum()

    def compute(self) -> dict[str, Tensor]:
        """Return the sums over all ranks."""
        return {name: getattr(self, name) for name in self._defaults}

    def values(self) -> "MetricValues":
        """Return every metric over all ranks; a collective that every rank must call."""
        sums = {name: value.cpu().numpy() for name, value in self.compute().items()}
        return summarize(sums)


@dataclass(frozen=True, slots=True)
class MetricValues:
    """The metrics of an evaluation.

    Attributes:
        metrics: By name: loss, oa, balanced_accuracy, kappa, macro_f1, top5, ece; shares in
            ``[0, 1]``; NaN if undefined.
        confusion: Counts, true classes in rows, ``[C, C]``.
        calibration: For each bin of confidence: low, high, count, mean confidence and accuracy
            (both ``None`` if the bin is empty).
    """

    metrics: dict[str, float]
    confusion: NDArray[np.int64]
    calibration: list[dict[str, Any]]


def summarize(sums: dict[str, NDArray[Any]]) -> MetricValues:
    """Return the metrics computed from the sums of :class:`ClassificationMetrics`."""
    confusion = sums["confusion"]
    scores, total = score_confusion(confusion), int(confusion.sum())
    gap = np.abs(sums["bin_confidence"] - sums["bin_correct"]).sum()
    metrics = {
        "loss": _share(sums["loss_sum"], total),
        "oa": scores.oa,
        "balanced_accuracy": scores.balanced_accuracy,
        "kappa": scores.kappa,
        "macro_f1": scores.macro_f1,
        "top5": _share(sums["num_top"], total),
        "ece": _share(gap, total),
    }
    calibration = [
        {
            "low": number / NUM_BINS,
            "high": (number + 1) / NUM_BINS,
            "count": int(count),
            "confidence": float(confidence) / int(count) if count else None,
            "accuracy": int(correct) / int(count) if count else None,
        }
        for number, (count, confidence, correct) in enumerate(
            zip(sums["bin_count"], sums["bin_confidence"], sums["bin_correct"], strict=True)
        )
    ]
    return MetricValues(metrics, confusion, calibration)


def _share(part: Any, total: int) -> float:  # noqa: ANN401 - NumPy scalars
    return float(part) / total if total else float("nan")
