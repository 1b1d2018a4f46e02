"""Generated objects and detections of a split, and their evaluation."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsdl.data.targets.objects import WIDTH
from rsdl.records.detection import DetectionEvaluation
from rsdl.tasks.average_precision import DetectionMetrics
from rsdl.tasks.base import Lookup, Place
from rsdl.tasks.detection_evaluation import evaluate_detections
from rsdl.tasks.detection_scores import detection_columns

SIDE = 256
ROWS = 32


class Split(NamedTuple):
    """Detections ``[N, M, 7]`` and objects ``[N, G, 11]`` of the images of a split."""

    predictions: NDArray[np.float32]
    targets: NDArray[np.float32]
    num_classes: int
    oriented: bool

    def objects(self) -> NDArray[np.float32]:
        """Return the rows of all objects."""
        return self.targets[self.targets[..., 9] >= 0]


def draw_split(
    num_classes: int,
    num_images: int,
    *,
    most: int = 12,
    oriented: bool = True,
    noise: float | None = 2.0,
) -> Split:
    """Return objects that do not touch each other, and detections of them.

    Args:
        num_classes: Number of classes.
        num_images: Number of images.
        most: Objects of an image; half of them to all.
        oriented: Whether boxes have an angle.
        noise: Standard deviation of the detections in px, which also find a few things that are
            not there and lack a fifth of what is; ``None`` for the truth itself.
    """
    rng = np.random.default_rng(num_classes + 100 * num_images)
    predictions = np.zeros((num_images, ROWS, 7), np.float32)
    targets = np.zeros((num_images, ROWS, WIDTH), np.float32)
    predictions[..., 6], targets[..., 9] = -1, -1
    for found, truths in zip(predictions, targets, strict=True):
        number = int(rng.integers(most // 2, most + 1)) if most else 0
        place = rng.permutation(16)[:number]
        centre = np.stack([place % 4, place // 4], axis=1) * 64 + 32
        sides = rng.uniform(12, 44, (number, 2))
        truths[:number, :2], truths[:number, 2:4] = centre, sides
        truths[:number, 4] = rng.uniform(-1.5, 1.5, number) if oriented else 0
        truths[:number, 5:7], truths[:number, 7:9] = centre - sides / 2, centre + sides / 2
        truths[:number, 9] = rng.integers(0, num_classes, number)
        seen = truths[:number][rng.random(number) < (1 if noise is None else 0.8)]
        extra = np.repeat(seen[:2], 0 if noise is None else 1, axis=0)
        rows = np.concatenate([seen, extra])
        found[: len(rows), :5] = rows[:, :5]
        found[: len(rows), :4] += rng.normal(0, noise or 0, (len(rows), 4))
        found[: len(rows), 5] = np.sort(rng.uniform(0.2, 1, len(rows)))[::-1]
        found[: len(rows), 6] = rows[:, 9]
    return Split(predictions, targets, num_classes, oriented)


def evaluate_split(
    split: Split,
    places: Sequence[Place] = (),
    **about: Any,  # noqa: ANN401
) -> DetectionEvaluation:
    """Return the evaluation of a split, as the task makes it."""
    predictions, targets, num_classes, oriented = split
    metrics = DetectionMetrics(num_classes, oriented)
    found, truths = torch.from_numpy(predictions), torch.from_numpy(targets)
    metrics.update(found, truths, torch.ones(len(found), dtype=torch.bool), torch.ones(len(found)))
    columns = detection_columns(found, truths, oriented=oriented)

    def show(samples: Sequence[int]) -> list[dict[str, Any]]:
        return [{"key": f"tile{one}", "source": "scene.png", "image": None} for one in samples]

    def predict(samples: Sequence[int]) -> Iterator[tuple[NDArray[np.uint8], Any, Any]]:
        for one in samples:
            yield np.full((SIDE, SIDE, 3), 90, np.uint8), predictions[one], targets[one]

    given = {"run": "resnet50_dota", "split": "test", "checkpoint": "best.ckpt"} | about
    return evaluate_detections(
        metrics.values(),
        {name: column.numpy() for name, column in columns.items()}
        | {"samples": np.arange(len(found))},
        Lookup(show, predict, lambda samples: [], lambda samples: list(places)),
        classes=tuple(f"class {number}" for number in range(num_classes)),
        oriented=oriented,
        nms_iou=0.3,
        planned=len(found),
        **given,
    )
