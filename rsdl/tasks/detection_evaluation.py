"""The content of ``report.json`` of detection, from the metrics and the boxes of each image."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.data.preview import data_uri, shrink
from rsdl.data.targets.corners import rectangle_corners
from rsdl.records.detection import (
    DetectionEvaluation,
    Detections,
    DetectionScores,
    ErrorCounts,
    SizeScores,
)
from rsdl.tasks.average_precision import AT_50, AT_75, MetricValues
from rsdl.tasks.base import Columns, Lookup
from rsdl.tasks.boxes import DETECTED, SCORE
from rsdl.tasks.detection_scores import (
    ERRORS,
    MARKS,
    WRONG,
    DetectionCounts,
    ImageMatch,
    Operating,
    best_scores,
    count_errors,
    match_image,
)
from rsdl.tasks.image_scores import MAX_SAMPLES
from rsdl.tasks.merged_tiles import score_merged
from rsdl.tasks.object_matching import SIZES
from rsdl.tasks.scores import share

NUM_PICTURES = 8
PICTURE_SIDE = 480
RIGHT_COLOUR, WRONG_COLOUR, UNCOUNTED_COLOUR = (70, 170, 255), (255, 130, 40), (190, 190, 190)


def evaluate_detections(
    values: MetricValues,
    columns: Columns,
    lookup: Lookup,
    *,
    classes: tuple[str, ...],
    oriented: bool,
    nms_iou: float,
    planned: int,
    **about: Any,  # noqa: ANN401 - fields of Evaluation
) -> DetectionEvaluation:
    """Return the evaluation, with the images that have the most errors.

    Args:
        values: Results of the metrics.
        columns: Those of ``detection_columns``, and ``samples``, the numbers of the samples.
        lookup: What may be asked of single samples.
        classes: Names of the classes.
        oriented: Whether boxes have an angle.
        nms_iou: IoU above which the lower of two detections of a class is dropped, where tiles are
            merged.
        planned: Samples of the split, those that could not be decoded included.
        about: Other fields of the evaluation.
    """
    metrics = dict(values.metrics)
    loss = metrics.pop("loss")
    images = [
        match_image(prediction, objects, oriented=oriented)
        for prediction, objects in zip(columns["predictions"], columns["objects"], strict=True)
    ]
    best = best_scores(images, len(classes))
    counts = count_errors(images, best.score, len(classes))
    known = values.num_objects > 0
    samples = columns["samples"].tolist()
    places = lookup.places(samples) if len(samples) <= MAX_SAMPLES else []
    return DetectionEvaluation(
        **about,
        classes=classes,
        oriented=oriented,
        num_samples=len(images),
        num_skipped=planned - len(images),
        metrics={**metrics, "loss": loss},
        per_class=_class_rows(classes, values, best, counts),
        num_found=int(counts.confusion.sum()),
        confusion=tuple(map(tuple, counts.confusion.tolist())),
        unmatched_objects=tuple(counts.unmatched_objects.tolist()),
        unmatched_detections=tuple(counts.unmatched_detections.tolist()),
        errors=tuple(
            ErrorCounts(**dict(zip(ERRORS, row, strict=True)), missed=missed)
            for row, missed in zip(counts.errors.tolist(), counts.missed.tolist(), strict=True)
        ),
        curves=tuple(
            tuple(curve) if any_ else ()
            for curve, any_ in zip(values.curves.tolist(), known, strict=True)
        ),
        pictures=tuple(_pictures(counts, images, columns, lookup, best)),
        merged=score_merged(
            columns["predictions"], places, len(classes), nms_iou=nms_iou, oriented=oriented
        ),
        num_cut=max(int(values.num_objects.sum() - counts.objects.sum()), 0),
    )


def _class_rows(
    classes: Sequence[str], values: MetricValues, best: Operating, counts: DetectionCounts
) -> tuple[DetectionScores, ...]:
    return tuple(
        DetectionScores(
            name=name,
            support=int(values.num_objects[label]),
            precision=float(best.precision[label]),
            recall=float(best.recall[label]),
            f1=float(best.f1[label]),
            ap=float(values.ap[:, label].mean()),
            ap50=float(values.ap[AT_50, label]),
            ap75=float(values.ap[AT_75, label]),
            score=float(best.score[label]),
            sizes={
                size: SizeScores(objects=objects, recall=share(found, objects))
                for size, objects, found in zip(
                    SIZES[1:],
                    counts.objects[label].tolist(),
                    counts.found[label].tolist(),
                    strict=True,
                )
            },
        )
        for label, name in enumerate(classes)
    )


def _pictures(
    counts: DetectionCounts,
    images: Sequence[ImageMatch],
    columns: Columns,
    lookup: Lookup,
    best: Operating,
) -> list[Detections]:
    """Return the images with the most wrong detections and missed objects, the worst first."""
    errors = counts.images[:, 1:].sum(axis=1)
    worst = np.argsort(-errors, kind="stable")[:NUM_PICTURES]
    worst = worst[errors[worst] > 0]
    samples = columns["samples"][worst].tolist()
    shown = []
    for row, fields, (picture, *_) in zip(
        worst, lookup.show(samples), lookup.predict(samples), strict=True
    ):
        found, wrong, missed = counts.images[row].tolist()
        drawn = draw_match(picture, images[row], best.score)
        shown.append(Detections(**fields | drawn, found=found, wrong=wrong, missed=missed))
    return shown


def draw_match(
    picture: NDArray[np.uint8], image: ImageMatch, scores: NDArray[np.float64]
) -> dict[str, str]:
    """Return an image, and it with its objects and with its detections, as ``data:`` URIs.

    Args:
        picture: Colours, ``[H, W, 3]``.
        image: Its detections and objects.
        scores: Least score of each class that is drawn, ``[C]``.
    """
    above = image.detections[:, SCORE] >= scores[image.detections[:, DETECTED].astype(np.int64)]
    found = np.zeros(len(image.objects), bool)
    found[image.matches[above & (image.matches >= 0)]] = True
    counted = image.objects[:, MARKS] == 0
    matches = image.matches[above]
    small = shrink(picture, PICTURE_SIDE)
    factor = small.shape[1] / picture.shape[1]
    truth = _draw(small, image.objects, factor, right=counted & found, wrong=counted & ~found)
    predicted = _draw(
        small, image.detections[above], factor, right=matches >= 0, wrong=matches == WRONG
    )
    drawn = {"image": small, "truth": truth, "predicted": predicted}
    return {name: data_uri(each) for name, each in drawn.items()}


def _draw(
    picture: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    factor: float,
    *,
    right: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Return a picture with boxes: first those that do not count, then right, then wrong ones."""
    drawn, corners = picture.copy(), rectangle_corners(boxes[:, :5]) * factor
    groups = ((~right & ~wrong, UNCOUNTED_COLOUR), (right, RIGHT_COLOUR), (wrong, WRONG_COLOUR))
    for chosen, colour in groups:
        points = np.round(corners[chosen] * 16).astype(np.int32)  # sixteenths of a pixel
        cv2.polylines(drawn, list(points), True, colour, 1, cv2.LINE_AA, shift=4)
    return drawn
