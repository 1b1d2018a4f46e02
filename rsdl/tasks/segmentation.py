"""Segmentation: a class for each pixel.

Metrics are counts of pixels, summed over samples and ranks: the same samples give the same numbers
on any number of processes. Pixels whose target is 255 count in nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize
from rsdl.data.augment import Mix
from rsdl.data.preview import data_uri, shrink
from rsdl.data.targets.mask import IGNORE, overlay
from rsdl.models.segmenter import build_segmenter
from rsdl.records.evaluation import Overlay, SegmentationEvaluation
from rsdl.storage.s3.endpoint import StorageConfig
from rsdl.tasks import pixel_losses
from rsdl.tasks.base import CardFacts, Columns, Lookup, show_share
from rsdl.tasks.image_scores import choose_images, score_scenes
from rsdl.tasks.pixel_metrics import MetricValues, SegmentationMetrics
from rsdl.tasks.scores import class_scores

NUM_OVERLAYS = 4
NUM_SCENES = 100
OVERLAY_SIDE = 256


class SegmentationTask:
    """Loss, metrics and evaluation of segmentation; see :class:`rsdl.tasks.base.Task`.

    Args:
        config: Config of the task.
        classes: Names of the data set's classes.
        class_counts: Train pixels of each class, for balanced weights.

    Raises:
        ConfigError: If there are not as many ``class_weights`` as classes.
    """

    def __init__(
        self,
        config: SegmentationConfig,
        classes: Sequence[str],
        class_counts: Sequence[int] = (),
    ) -> None:
        self.config = config
        self.facts = config.facts
        self.classes = tuple(classes)
        self._weights = _class_weights(config, self.classes, class_counts)

    def build_network(
        self,
        config: ModelConfig,
        *,
        in_chans: int,
        image_size: ImageSize,
        storage: StorageConfig,
        bands: Sequence[str],
    ) -> nn.Module:
        """Return a backbone with a head: images to logits ``[B, num_classes, H, W]``."""
        return build_segmenter(
            config,
            self.config,
            num_classes=len(self.classes),
            in_chans=in_chans,
            image_size=image_size,
            storage=storage,
            bands=bands,
        )

    def head(self, network: nn.Module) -> nn.Module:
        """Return pyramid and heads."""
        return network.get_submodule("decoder")

    def loss(
        self,
        outputs: Tensor | tuple[Tensor, Tensor],
        targets: Tensor,
        *,
        training: bool,
        mix: Mix | None = None,
    ) -> Tensor:
        """Return the weighted sum of the config's losses for each row, ``[B]`` float32.

        Those of a second head are added with ``auxiliary_weight``.

        Args:
            outputs: Logits, ``[B, num_classes, H, W]``; in training with a second head, a pair.
            targets: Class indices, ``[B, H, W]``; 255 is ignored.
            training: Whether to smooth the labels.
            mix: ``None``; masks are not mixed.
        """
        assert mix is None, "refused by check_mixing"
        if isinstance(outputs, Tensor):
            return self._losses(outputs, targets, training)
        main, second = (self._losses(logits, targets, training) for logits in outputs)
        return main + self.config.auxiliary_weight * second

    def _losses(self, outputs: Tensor, targets: Tensor, training: bool) -> Tensor:
        logits, labels = outputs.float(), targets.long()
        weights = None if self._weights is None else self._weights.to(logits.device)
        total = logits.new_zeros(len(logits))
        for name, weight in self.config.losses.items():
            match name:
                case "cross_entropy":
                    smoothing = self.config.label_smoothing if training else 0.0
                    value = pixel_losses.cross_entropy(
                        logits, labels, weights=weights, smoothing=smoothing
                    )
                case "focal":
                    value = pixel_losses.focal(
                        logits, labels, weights=weights, gamma=self.config.focal_gamma
                    )
                case "dice":
                    value = pixel_losses.dice(logits, labels)
                case "lovasz":
                    value = pixel_losses.lovasz(logits, labels)
            total = total + weight * value
        return total

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the most probable class of each pixel, ``[B, H, W]`` int64."""
        return outputs.argmax(1)

    def labels(self, prediction: Tensor) -> list[list[str]]:
        """Return the names of the classes in each row, those of most pixels first."""
        rows = prediction.flatten(1).cpu().numpy()
        counts = [np.bincount(row, minlength=len(self.classes)) for row in rows]
        return [
            [self.classes[label] for label in np.argsort(-row, kind="stable") if row[label]]
            for row in counts
        ]

    def merge_views(self, views: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the mean probabilities, turned back, and its classes."""
        total, count = None, 0
        for number, outputs in enumerate(views):
            shares = unturn(outputs.float().softmax(1), number)
            total = shares if total is None else total + shares
            count += 1
        assert total is not None
        merged = (total / count).clamp_min(1e-12).log()
        return merged, self.predict(merged)

    def columns(self, prediction: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the pixels of each class that are true, predicted and both, ``[B, C]`` each."""
        counted, count = targets != IGNORE, len(self.classes)

        def per_class(classes: Tensor, chosen: Tensor) -> Tensor:
            cells = torch.where(chosen, classes.long(), count).flatten(1)
            sums = torch.zeros(len(cells), count + 1, dtype=torch.int64, device=cells.device)
            return sums.scatter_add_(1, cells, torch.ones_like(cells))[:, :count]

        return {
            "true": per_class(targets, counted),
            "predicted": per_class(prediction, counted),
            "both": per_class(prediction, counted & (prediction == targets)),
        }

    def metrics(self) -> SegmentationMetrics:
        """Return new, empty metrics."""
        return SegmentationMetrics(len(self.classes), self.config.boundary_px)

    def describe(self, metrics: dict[str, Any]) -> str:
        """Return mean IoU and overall accuracy in one line."""
        return f"mIoU {show_share(metrics['miou'])}  OA {show_share(metrics['oa'])}"

    def evaluation(
        self,
        values: MetricValues,
        columns: Columns,
        lookup: Lookup,
        *,
        planned: int,
        **about: Any,  # noqa: ANN401 - fields of Evaluation
    ) -> SegmentationEvaluation:
        """Return the content of ``report.json``, with the best, median and worst images."""
        metrics = dict(values.metrics)
        loss = metrics.pop("loss")
        scenes = score_scenes(columns, lookup)
        chosen = choose_images(columns, NUM_OVERLAYS)
        samples = [int(columns["samples"][row]) for _, row, _ in chosen]
        return SegmentationEvaluation(
            **about,
            classes=self.classes,
            num_samples=values.num_samples,
            num_skipped=planned - values.num_samples,
            num_pixels=int(values.confusion.sum()),
            metrics={**metrics, "loss": loss},
            per_class=class_scores(values.scores, self.classes),
            iou=tuple(values.iou.tolist()),
            confusion=tuple(map(tuple, values.confusion.tolist())),
            overlays=tuple(
                Overlay(rank=rank, miou=score, **(shown | self._draw(*drawn)))
                for (rank, _, score), shown, drawn in zip(
                    chosen, lookup.show(samples), lookup.predict(samples), strict=True
                )
            ),
            scenes=tuple(scenes[:NUM_SCENES]),
            num_scenes=len(scenes),
        )

    def card(self) -> CardFacts:
        """Return what a model card says of segmentation."""
        return CardFacts(
            pipeline="image-segmentation",
            outputs=f"Logits of {len(self.classes)} classes for each pixel, in the order of "
            "`labels.json`",
            caution="Every pixel gets one of the classes, also one that shows none of them.",
        )

    def _draw(
        self, picture: NDArray[np.uint8], predicted: NDArray[Any], truth: NDArray[np.uint8]
    ) -> dict[str, str]:
        """Return an image with its true and predicted classes, and with its errors, as URIs."""
        count, classes = len(self.classes), predicted.astype(np.uint8)
        wrong = np.where((classes != truth) & (truth != IGNORE), np.uint8(0), np.uint8(IGNORE))
        grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
        drawn = {
            "image": picture,
            "truth": overlay(picture, truth, count),
            "predicted": overlay(picture, classes, count),
            "error": overlay(grey, wrong, 1, opacity=0.8),
        }
        return {name: data_uri(shrink(each, OVERLAY_SIDE)) for name, each in drawn.items()}


def _class_weights(
    config: SegmentationConfig, classes: tuple[str, ...], counts: Sequence[int]
) -> Tensor | None:
    given = config.class_weights
    if given == "none" or (given == "balanced" and not len(counts)):
        return None  # without counts nothing is trained
    if given == "balanced":
        shares = np.asarray(counts, np.float64) / max(sum(counts), 1)
        # A class without a pixel has no loss, whatever its weight.
        roots = np.sqrt(np.where(shares > 0, shares, 1.0))
        return torch.tensor(1 / roots / (1 / roots).mean(), dtype=torch.float32)
    if len(given) != len(classes):
        raise ConfigError(
            "task.class_weights",
            f"has {len(given)} weights, and the data set {len(classes)} classes",
            f"give one for each of {', '.join(classes)}",
        )
    return torch.tensor(given, dtype=torch.float32)


def unturn(maps: Tensor, number: int) -> Tensor:
    """Return maps ``[B, C, H, W]`` of the view ``number`` of ``turned_views``, turned back."""
    swapped, flip = divmod(number, 4)
    axes = [axis for axis, bit in ((2, 1), (3, 2)) if flip & bit]
    flipped = maps.flip(axes) if axes else maps
    return flipped.transpose(2, 3) if swapped else flipped
