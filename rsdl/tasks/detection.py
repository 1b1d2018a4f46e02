"""Detection: a box and a class for each object, aligned or at any angle.

After the network everything handles one tensor of detections ``[B, M, 7]``: centre, width, height
and angle of a box, score and label, the best first. Rows without a detection have score 0 and
label -1.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsdl.config.model import ModelConfig
from rsdl.config.task import DetectionConfig
from rsdl.core.image_size import ImageSize, height_width
from rsdl.data.augment import Mix
from rsdl.models.detector import build_detector
from rsdl.records.detection import DetectionEvaluation
from rsdl.storage.s3.endpoint import StorageConfig
from rsdl.tasks.average_precision import DetectionMetrics, MetricValues
from rsdl.tasks.base import CardFacts, Columns, Lookup, show_share
from rsdl.tasks.boxes import DETECTED, SCORE, nms
from rsdl.tasks.detection_evaluation import evaluate_detections
from rsdl.tasks.detection_scores import detection_columns
from rsdl.tasks.heads.base import DetectionHead
from rsdl.tasks.heads.catalog import HEADS

WIDTH = 7  # columns of a detection


class DetectionTask:
    """Loss, metrics and evaluation of detection; see :class:`rsdl.tasks.base.Task`.

    What the outputs of a head mean, ``rsdl/tasks/heads`` knows.

    Args:
        config: Config of the task.
        classes: Names of the data set's classes.
        mean_objects: Objects of a train image, on average.
    """

    def __init__(
        self, config: DetectionConfig, classes: Sequence[str], mean_objects: float = 1.0
    ) -> None:
        self.config = config
        self.facts = config.facts
        self.classes = tuple(classes)
        self.mean_objects = mean_objects
        self._image_size: tuple[int, int] | None = None
        self._outputs: DetectionHead | None = None

    def build_network(
        self,
        config: ModelConfig,
        *,
        in_chans: int,
        image_size: ImageSize,
        storage: StorageConfig,
        bands: Sequence[str],
    ) -> nn.Module:
        """Return a backbone with a head: images to the head's outputs.

        The task remembers the size of the images, which says where the cells are.
        """
        self._image_size = height_width(image_size)
        self._outputs = HEADS[self.config.head](self.config, self._image_size, self.mean_objects)
        return build_detector(
            config,
            self.config,
            num_classes=len(self.classes),
            in_chans=in_chans,
            image_size=image_size,
            storage=storage,
            bands=bands,
        )

    def head(self, network: nn.Module) -> nn.Module:
        """Return pyramid and head."""
        return network.get_submodule("decoder")

    def loss(
        self,
        outputs: Any,  # noqa: ANN401 - of the head's structure
        targets: Tensor,
        *,
        training: bool,
        mix: Mix | None = None,
    ) -> Tensor:
        """Return the loss of classes and boxes of each row, ``[B]`` float32.

        Args:
            outputs: What the head returned.
            targets: Objects, ``[B, G, 11]``; see ``rsdl.data.targets.objects``.
            training: Has no effect.
            mix: ``None``; objects are not mixed.
        """
        assert mix is None, "refused by check_mixing"
        return self._meaning().losses(outputs, targets)

    @torch.no_grad()
    def predict(self, outputs: Any) -> Tensor:  # noqa: ANN401
        """Return the detections of each row, ``[B, max_detections, 7]``."""
        meaning = self._meaning()
        return self._select(meaning.candidates(outputs), suppress=meaning.needs_nms)

    def labels(self, prediction: Tensor) -> list[list[tuple[str, float]]]:
        """Return class and score of the detections of each row, the best first."""
        return [
            [(self.classes[int(row[DETECTED])], row[SCORE]) for row in rows if row[DETECTED] >= 0]
            for rows in prediction.tolist()
        ]

    @torch.no_grad()
    def merge_views(self, views: Iterable[Any]) -> tuple[Any, Tensor]:
        """Return the outputs of the first view, and the detections of all, turned back."""
        assert self._image_size is not None
        first, found = None, []
        for number, outputs in enumerate(views):
            first = outputs if first is None else first
            turned = self._meaning().candidates(outputs)
            oriented = self.config.is_oriented
            found.append(unturn(turned, number, self._image_size, oriented=oriented))
        assert first is not None
        return first, self._select(torch.cat(found, 1), suppress=True)

    def columns(self, prediction: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return detections and objects of each row; see :func:`detection_columns`."""
        return detection_columns(prediction, targets, oriented=self.config.is_oriented)

    def metrics(self) -> DetectionMetrics:
        """Return new, empty metrics."""
        return DetectionMetrics(len(self.classes), self.config.is_oriented)

    def describe(self, metrics: dict[str, Any]) -> str:
        """Return AP50 and mAP in one line."""
        return f"AP50 {show_share(metrics['ap50'])}  mAP {show_share(metrics['map'])}"

    def evaluation(
        self,
        values: MetricValues,
        columns: Columns,
        lookup: Lookup,
        *,
        planned: int,
        **about: Any,  # noqa: ANN401 - fields of Evaluation
    ) -> DetectionEvaluation:
        """Return the content of ``report.json``, with the images that have the most errors."""
        return evaluate_detections(
            values,
            columns,
            lookup,
            classes=self.classes,
            oriented=self.config.is_oriented,
            nms_iou=self.config.iou_of_nms,
            planned=planned,
            **about,
        )

    def card(self) -> CardFacts:
        """Return what a model card says of detection."""
        head, number = self._meaning(), len(self.classes)
        return CardFacts(
            pipeline="object-detection",
            outputs=f"For each {head.places} logits of {number} classes, in the order of "
            f"`labels.json`, and {head.boxes}",
            caution="Scores are no probabilities: they rank detections, and a threshold is to be "
            "chosen on the data at hand.",
        )

    def _meaning(self) -> DetectionHead:
        assert self._outputs is not None, "before build_network"
        return self._outputs

    def _select(self, found: Tensor, *, suppress: bool) -> Tensor:
        """Return the detections of each image ``[B, K, 7]``, ``[B, M, 7]``, on the CPU.

        A batch is moved at once, since NMS and all that follows run there. ``suppress`` says
        whether an object may be among them twice.
        """
        number = self.config.max_detections
        selected = found.new_zeros(len(found), number, WIDTH, device="cpu")
        selected[..., DETECTED] = -1
        for rows, every in zip(selected, found.cpu(), strict=True):
            likely = every[every[:, SCORE] >= self.config.score_threshold]
            kept = likely[:, SCORE].argsort(descending=True, stable=True)
            if suppress:
                kept = nms(
                    likely[:, :SCORE], likely[:, SCORE], likely[:, DETECTED],
                    self.config.iou_of_nms, oriented=self.config.is_oriented,
                )  # fmt: skip
            kept = kept[:number]
            rows[: len(kept)] = likely[kept]
        return selected


def unturn(found: Tensor, number: int, size: tuple[int, int], *, oriented: bool) -> Tensor:
    """Return detections ``[..., 7]`` in view ``number`` of ``turned_views``, turned back.

    Args:
        found: Detections.
        number: Number of the view.
        size: Height and width of the image; of views that are transposed they are equal.
        oriented: Whether angles count.
    """
    swapped, flip = divmod(number, 4)
    height, width = size
    x, y, w, h, angle, *rest = found.unbind(-1)
    if flip & 1:
        y, angle = height - y, -angle
    if flip & 2:
        x, angle = width - x, -angle
    if swapped:
        x, y, angle = y, x, math.pi / 2 - angle
        if not oriented:
            w, h = h, w
    if not oriented:
        angle = torch.zeros_like(angle)
    angle = torch.remainder(angle + math.pi / 2, math.pi) - math.pi / 2
    return torch.stack([x, y, w, h, angle, *rest], -1)
