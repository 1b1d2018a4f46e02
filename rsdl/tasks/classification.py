"""Scene classification: one label for a whole image.

Metrics keep counts instead of predictions: their size does not depend on the split, and they are
summed over ranks, so that the same samples give the same accuracy on any number of processes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.config.task import ClassificationConfig
from rsdl.core.image_size import ImageSize
from rsdl.data.augment import Mix
from rsdl.models.catalog import build_model
from rsdl.records.evaluation import CalibrationBin, ClassificationEvaluation, Picture, RunnerUp
from rsdl.storage.s3.endpoint import StorageConfig
from rsdl.tasks.base import CardFacts, Columns, Lookup, Show, show_share
from rsdl.tasks.scores import ConfusionScores, class_scores, score_confusion, share
from rsdl.tasks.sum_metric import SumMetric

NUM_BINS = 15
TOP_K = 5
NUM_PICTURES = 12


class ClassificationTask:
    """Loss, metrics and evaluation of scene classification; see :class:`rsdl.tasks.base.Task`.

    Args:
        config: Config of the task.
        classes: Names of the data set's classes.
    """

    def __init__(self, config: ClassificationConfig, classes: Sequence[str]) -> None:
        self.config = config
        self.facts = config.facts
        self.classes = tuple(classes)

    def build_network(
        self,
        config: ModelConfig,
        *,
        in_chans: int,
        image_size: ImageSize,
        storage: StorageConfig,
        bands: Sequence[str],
    ) -> nn.Module:
        """Return a network with timm's own head: images to logits ``[B, num_classes]``."""
        return build_model(
            config,
            num_classes=len(self.classes),
            in_chans=in_chans,
            image_size=image_size,
            storage=storage,
            bands=bands,
        )

    def head(self, network: nn.Module) -> nn.Module:
        """Return the classifier."""
        classifier: nn.Module = network.get_classifier()  # type: ignore[operator]
        return classifier

    def loss(
        self, outputs: Tensor, targets: Tensor, *, training: bool, mix: Mix | None = None
    ) -> Tensor:
        """Return the cross-entropy of each row, ``[B]`` float32.

        Args:
            outputs: Logits, ``[B, num_classes]``.
            targets: Class indices, ``[B]``.
            training: Whether to smooth the labels (Szegedy et al. 2016).
            mix: How rows were mixed with each other; ``None`` without mixing.
        """
        smoothing = self.config.label_smoothing if training else 0.0

        def entropy(labels: Tensor) -> Tensor:
            return F.cross_entropy(
                outputs.float(), labels, reduction="none", label_smoothing=smoothing
            )

        own = entropy(targets)
        if mix is None:
            return own
        return mix.weight * own + (1 - mix.weight) * entropy(targets[mix.partner])

    def predict(self, outputs: Tensor) -> Tensor:
        """Return class probabilities, ``[B, num_classes]`` float32."""
        return outputs.float().softmax(1)

    def labels(self, prediction: Tensor) -> list[str]:
        """Return the name of the most probable class of each row."""
        return [self.classes[number] for number in prediction.argmax(1).tolist()]

    def merge_views(self, views: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the mean probabilities, and the mean probabilities."""
        mean = torch.stack([self.predict(outputs) for outputs in views]).mean(0)
        return mean.clamp_min(1e-12).log(), mean

    def columns(self, prediction: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the true class and the two most probable ones with their probabilities."""
        top = prediction.topk(min(2, len(self.classes)), dim=1)
        return {
            "targets": targets,
            "predicted": top.indices[:, 0],
            "confidence": top.values[:, 0],
            "runner_up": top.indices[:, -1],
            "runner_up_probability": top.values[:, -1],
        }

    def metrics(self) -> "ClassificationMetrics":
        """Return new, empty metrics."""
        return ClassificationMetrics(len(self.classes))

    def describe(self, metrics: dict[str, Any]) -> str:
        """Return overall accuracy and kappa in one line."""
        return f"OA {show_share(metrics['oa'])}  kappa {metrics['kappa'] or 0:.3f}"

    def evaluation(
        self,
        values: "MetricValues",
        columns: Columns,
        lookup: Lookup,
        *,
        planned: int,
        **about: Any,  # noqa: ANN401 - fields of Evaluation
    ) -> ClassificationEvaluation:
        """Return the content of ``report.json``, with mistakes and uncertain predictions."""
        total = int(values.confusion.sum())
        metrics = dict(values.metrics)
        loss = metrics.pop("loss")
        return ClassificationEvaluation(
            **about,
            classes=self.classes,
            num_samples=total,
            num_skipped=planned - total,
            metrics={**metrics, "loss": loss},
            per_class=class_scores(values.scores, self.classes),
            confusion=tuple(map(tuple, values.confusion.tolist())),
            calibration=tuple(CalibrationBin(**row) for row in values.calibration),
            mistakes=self._pictures(columns, worst_mistakes(columns, NUM_PICTURES), lookup.show),
            uncertain=self._pictures(columns, least_certain(columns, NUM_PICTURES), lookup.show),
        )

    def card(self) -> CardFacts:
        """Return what a model card says of scene classification."""
        return CardFacts(
            pipeline="image-classification",
            outputs=f"Logits of {len(self.classes)} classes, in the order of `labels.json`",
            caution="Every image gets one of the classes, also one that shows none of them.",
        )

    def _pictures(
        self, columns: Columns, rows: NDArray[np.int64], show: Show
    ) -> tuple[Picture, ...]:
        """Return rows of an evaluation as pictures with their predictions."""

        def name(column: str, row: int) -> str:
            return self.classes[int(columns[column][row])]

        return tuple(
            Picture(
                label=name("targets", row),
                predicted=name("predicted", row),
                confidence=min(float(columns["confidence"][row]), 1.0),
                runner_up=RunnerUp(
                    name=name("runner_up", row),
                    probability=min(float(columns["runner_up_probability"][row]), 1.0),
                ),
                **shown,
            )
            for row, shown in zip(rows, show(columns["samples"][rows].tolist()), strict=True)
        )


def worst_mistakes(columns: Columns, count: int) -> NDArray[np.int64]:
    """Return the row numbers of wrong predictions, the most confident first."""
    wrong = np.flatnonzero(columns["predicted"] != columns["targets"])
    return wrong[np.argsort(-columns["confidence"][wrong], kind="stable")][:count]


def least_certain(columns: Columns, count: int) -> NDArray[np.int64]:
    """Return the row numbers with the smallest margin to the runner-up, smallest first."""
    margin = columns["confidence"] - columns["runner_up_probability"]
    return np.argsort(margin, kind="stable")[:count]


class ClassificationMetrics(SumMetric):
    """Confusion matrix, top-5 accuracy, calibration and loss, as sums over valid samples.

    Args:
        num_classes: Classes of the data set.
    """

    confusion: Tensor
    num_top: Tensor
    bin_count: Tensor
    bin_confidence: Tensor
    bin_correct: Tensor
    loss_sum: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_sum("confusion", num_classes, num_classes, dtype=torch.int64)
        self.add_sum("num_top", dtype=torch.int64)
        self.add_sum("bin_count", NUM_BINS, dtype=torch.int64)
        self.add_sum("bin_confidence", NUM_BINS, dtype=torch.float64)
        self.add_sum("bin_correct", NUM_BINS, dtype=torch.int64)
        self.add_sum("loss_sum", dtype=torch.float64)

    def update(self, prediction: Tensor, targets: Tensor, valid: Tensor, losses: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: Class probabilities, ``[B, num_classes]``.
            targets: Class indices, ``[B]``.
            valid: Whether each row counts, ``[B]`` bool.
            losses: Loss of each row, ``[B]``.
        """
        counts = valid.long()
        confidence, predicted = prediction.max(1)
        cells = targets * self.num_classes + predicted
        self.confusion.view(-1).scatter_add_(0, cells, counts)
        top = prediction.topk(min(TOP_K, self.num_classes), dim=1).indices
        self.num_top += ((top == targets[:, None]).any(1).long() * counts).sum()
        # Bins are (low, high], as in Guo et al. 2017 and torchmetrics.
        bins = (confidence * NUM_BINS).ceil().long().sub(1).clamp(0, NUM_BINS - 1)
        self.bin_count.scatter_add_(0, bins, counts)
        self.bin_confidence.scatter_add_(0, bins, confidence.double() * counts)
        self.bin_correct.scatter_add_(0, bins, (predicted == targets).long() * counts)
        self.loss_sum += (losses.double() * counts).sum()

    def values(self) -> "MetricValues":
        """Return every metric over all ranks; a collective that every rank must call."""
        return summarize(self.sums())


@dataclass(frozen=True, slots=True)
class MetricValues:
    """The metrics of an evaluation.

    Attributes:
        metrics: By name: loss, oa, balanced_accuracy, kappa, macro_f1, top5, ece; shares in
            ``[0, 1]``; NaN if undefined.
        confusion: Counts, true classes in rows, ``[C, C]``.
        scores: Of the confusion matrix, overall and by class.
        calibration: For each bin of confidence: low, high, count, mean confidence and accuracy
            (both ``None`` if the bin is empty).
    """

    metrics: dict[str, float]
    confusion: NDArray[np.int64]
    scores: ConfusionScores
    calibration: list[dict[str, Any]]


def summarize(sums: dict[str, NDArray[Any]]) -> MetricValues:
    """Return the metrics computed from the sums of :class:`ClassificationMetrics`."""
    confusion = sums["confusion"]
    scores, total = score_confusion(confusion), int(confusion.sum())
    gap = np.abs(sums["bin_confidence"] - sums["bin_correct"]).sum()
    metrics = {
        "loss": share(sums["loss_sum"], total),
        "oa": scores.oa,
        "balanced_accuracy": scores.balanced_accuracy,
        "kappa": scores.kappa,
        "macro_f1": scores.macro_f1,
        "top5": share(sums["num_top"], total),
        "ece": share(gap, total),
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
    return MetricValues(metrics, confusion, scores, calibration)
