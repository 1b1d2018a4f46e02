"""What detections are right and what is wrong with the others; pure functions without a network.

Detections are matched to the objects of their class in the order of their scores, as for average
precision at IoU 0.5. A match does not depend on detections of lower scores, so that everything
here is counted at any score from the same matches. It is counted at the score at which the F1 of
a class is best: at a score of almost zero every detector makes hundreds of errors an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.data.targets.objects import FLAGS, IGNORED, LABEL
from rsdl.tasks.boxes import DETECTED, SCORE, truth_boxes
from rsdl.tasks.object_matching import AREAS, find_overlaps, make_boxes

# IoU from which a box is in place, and below which it is on nothing.
IN_PLACE, ON_NOTHING = 0.5, 0.1
# Objects of an image that an evaluation keeps.
MAX_OBJECTS = 1024
ERRORS = ("duplicate", "label", "place", "both", "background")

# Columns of an object's row ``[G, 7]`` after its box.
TRUE, MARKS = 5, 6
WRONG, UNCOUNTED = -1, -2


class ImageMatch(NamedTuple):
    """The detections of an image by score, and its objects.

    Attributes:
        detections: cx, cy, w, h, r, score and label, ``[M, 7]``.
        objects: cx, cy, w, h, r, label and flags, ``[G, 7]``.
        pairs: Number of a detection and of an object, for boxes with an IoU of 0.1 and more or on
            an ignored object, ``[2, P]``.
        iou: IoU of each pair, ``[P]``.
        matches: The object that each detection is on, ``[M]``; ``WRONG`` where it is on none, and
            ``UNCOUNTED`` where on one that is difficult or ignored.
    """

    detections: NDArray[np.float32]
    objects: NDArray[np.float32]
    pairs: NDArray[np.int64]
    iou: NDArray[np.float64]
    matches: NDArray[np.int64]


class Operating(NamedTuple):
    """The scores of best F1, and what they give, ``[C]`` each; NaN where undefined."""

    score: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """What detections of at least the score of their class are, summed over images.

    Attributes:
        confusion: Objects by true class and found class, ``[C, C]``.
        unmatched_objects: Objects that nothing was found on, ``[C]``.
        unmatched_detections: Detections on no object, or on one found before, ``[C]``.
        errors: Detections of each kind in ``ERRORS``, by their class, ``[C, 5]``.
        missed: Objects that no detection found or took for another class or place, ``[C]``.
        objects: Objects by size, ``[C, 3]``.
        found: Of these, how many were found, ``[C, 3]``.
        images: Found, wrong and missed in each image, ``[N, 3]``.
    """

    confusion: NDArray[np.int64]
    unmatched_objects: NDArray[np.int64]
    unmatched_detections: NDArray[np.int64]
    errors: NDArray[np.int64]
    missed: NDArray[np.int64]
    objects: NDArray[np.int64]
    found: NDArray[np.int64]
    images: NDArray[np.int64]


def object_rows(targets: Tensor, *, oriented: bool) -> Tensor:
    """Return cx, cy, w, h, r, label and flags of a batch's targets, ``[..., 11] -> [..., 7]``."""
    boxes = truth_boxes(targets, oriented=oriented)
    return torch.cat([boxes, targets[..., LABEL : FLAGS + 1]], dim=-1)


def detection_columns(prediction: Tensor, targets: Tensor, *, oriented: bool) -> dict[str, Tensor]:
    """Return what an evaluation keeps of each image, of a size that does not depend on the batch.

    Args:
        prediction: ``[B, M, 7]``.
        targets: ``[B, G, 11]``; objects after the first 1,024 of an image are cut.
        oriented: Whether boxes have an angle.

    Returns:
        ``predictions`` ``[B, M, 7]`` and ``objects`` ``[B, 1024, 7]``.
    """
    rows = object_rows(targets, oriented=oriented)[:, :MAX_OBJECTS]
    objects = rows.new_zeros(len(rows), MAX_OBJECTS, rows.shape[2])
    objects[..., TRUE] = -1
    objects[:, : rows.shape[1]] = rows
    return {"predictions": prediction.float(), "objects": objects}


def match_image(
    prediction: NDArray[np.float32], objects: NDArray[np.float32], *, oriented: bool
) -> ImageMatch:
    """Return which detection of an image is on which object of its class.

    Args:
        prediction: ``[M, 7]``; rows with label -1 are padding.
        objects: As of :func:`object_rows`, ``[G, 7]``; rows with label -1 are padding.
        oriented: Whether boxes have an angle.
    """
    detections = prediction[prediction[:, DETECTED] >= 0]
    detections = detections[np.argsort(-detections[:, SCORE], kind="stable")]
    objects = objects[objects[:, TRUE] >= 0]
    flags = objects[:, MARKS].astype(np.int64)
    ours, theirs = (
        make_boxes(torch.from_numpy(each[:, :5]), np.zeros(len(each), np.int64))
        for each in (detections, objects)
    )
    first, second, iou, cover = find_overlaps(ours, theirs, flags, oriented=oriented)
    kept = (iou >= ON_NOTHING) | ((flags[second] & IGNORED > 0) & (cover >= IN_PLACE))
    order = np.lexsort((second[kept], first[kept]))
    pairs = np.stack([first, second])[:, kept][:, order]
    iou, cover = iou[kept][order], cover[kept][order]
    matches = _match(detections, objects, pairs, cover)
    return ImageMatch(detections, objects, pairs, iou, matches)


def _match(
    detections: NDArray[np.float32],
    objects: NDArray[np.float32],
    pairs: NDArray[np.int64],
    overlap: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Give each detection, by score, the free object of its class with the highest overlap."""
    matches = np.full(len(detections), WRONG, np.int64)
    same = detections[pairs[0], DETECTED] == objects[pairs[1], TRUE]
    candidates = np.flatnonzero(same & (overlap >= IN_PLACE))
    order = candidates[np.lexsort([-overlap[candidates], pairs[0, candidates]])]
    counted = objects[:, MARKS] == 0
    taken = np.zeros(len(objects), bool)
    for detection, each in pairs[:, order].T.tolist():
        if matches[detection] >= 0:
            continue
        if not counted[each]:
            matches[detection] = UNCOUNTED
        elif not taken[each]:
            matches[detection], taken[each] = each, True
    return matches


def best_scores(images: Sequence[ImageMatch], num_classes: int) -> Operating:
    """Return the score of best F1 of each class; that over all classes if it has none right."""
    scores = _join([m.detections[:, SCORE] for m in images], np.float32)
    labels = _join([m.detections[:, DETECTED] for m in images], np.float32).astype(np.int64)
    matches = _join([m.matches for m in images], np.int64)
    true = _join([m.objects[m.objects[:, MARKS] == 0, TRUE] for m in images], np.float32)
    objects = np.bincount(true.astype(np.int64), minlength=num_classes)
    counted = matches != UNCOUNTED
    scores, labels, right = scores[counted], labels[counted], matches[counted] >= 0
    rest = _best(scores, right, int(objects.sum()))
    at = np.full(num_classes, 0.0 if rest is None else rest)
    hits, made = np.zeros(num_classes), np.zeros(num_classes)
    for label in range(num_classes):
        mine = labels == label
        own = _best(scores[mine], right[mine], int(objects[label]))
        at[label] = at[label] if own is None else own
        above = mine & (scores >= at[label])
        hits[label], made[label] = (above & right).sum(), above.sum()
    with np.errstate(invalid="ignore"):
        return Operating(at, hits / made, hits / objects, 2 * hits / (made + objects))


def _best(scores: NDArray[np.float32], right: NDArray[np.bool_], num_objects: int) -> float | None:
    if not right.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], right[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + num_objects)
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores count together
    return float(scores[np.where(last, f1, -1).argmax()])


def count_errors(
    images: Sequence[ImageMatch], scores: NDArray[np.float64], num_classes: int
) -> DetectionCounts:
    """Return what the detections of all images are, after TIDE (Bolya et al. 2020).

    A wrong detection is of the first kind that fits: ``duplicate`` (IoU of at least 0.5 with an
    object of its class, which a better detection found), ``label`` (of at least 0.5 with one of
    another class), ``place`` (of at least 0.1 with one of its class), ``both`` (with one of
    another class), else ``background``.

    Args:
        images: The images.
        scores: Least score of each class, ``[C]``.
        num_classes: Number of classes.
    """
    square = np.zeros((num_classes, num_classes), np.int64)
    none = np.zeros(num_classes, np.int64)
    counts = DetectionCounts(
        square, none.copy(), none.copy(), np.zeros((num_classes, len(ERRORS)), np.int64),
        none.copy(), np.zeros((num_classes, len(AREAS) - 1), np.int64),
        np.zeros((num_classes, len(AREAS) - 1), np.int64), np.zeros((len(images), 3), np.int64),
    )  # fmt: skip
    for number, image in enumerate(images):
        counts.images[number] = _count_image(counts, image, scores)
    return counts


def _count_image(
    counts: DetectionCounts, image: ImageMatch, scores: NDArray[np.float64]
) -> tuple[int, int, int]:
    """Add an image to the counts, and return what is found, wrong and missed in it."""
    said = image.detections[:, DETECTED].astype(np.int64)
    true = image.objects[:, TRUE].astype(np.int64)
    counted = image.objects[:, MARKS] == 0
    above = image.detections[:, SCORE] >= scores[said]
    found = np.zeros(len(true), bool)
    found[image.matches[above & (image.matches >= 0)]] = True
    wrong = np.flatnonzero(above & (image.matches == WRONG))
    kinds, on = error_kinds(image, wrong)
    np.add.at(counts.errors, (said[wrong], kinds), 1)
    # A detection of another class has found the object, if no other one has.
    seen, covered = found.copy(), found.copy()
    for detection, kind, each in zip(wrong.tolist(), kinds.tolist(), on.tolist(), strict=True):
        if ERRORS[kind] == "label" and not seen[each]:
            counts.confusion[true[each], said[detection]] += 1
            seen[each] = True
        else:
            counts.unmatched_detections[said[detection]] += 1
        if ERRORS[kind] in ("label", "place"):
            covered[each] = True
    np.add.at(counts.confusion, (true[found], true[found]), 1)
    np.add.at(counts.unmatched_objects, true[counted & ~seen], 1)
    np.add.at(counts.missed, true[counted & ~covered], 1)
    sizes = size_numbers(image.objects)
    np.add.at(counts.objects, (true[counted], sizes[counted]), 1)
    np.add.at(counts.found, (true[found], sizes[found]), 1)
    return int(found.sum()), len(wrong), int((counted & ~found).sum())


def error_kinds(
    image: ImageMatch, wrong: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the kind of each wrong detection, a number in ``ERRORS``, and the object it is near.

    The object is -1 where the kind is ``background``.
    """
    said, true = image.detections[wrong, DETECTED], image.objects[:, TRUE]
    iou = np.zeros((len(image.detections), len(true) + 1), np.float32)
    iou[image.pairs[0], image.pairs[1]] = image.iou
    # The last column is no object: it keeps the maximum of no objects defined.
    iou = np.where(np.append(image.objects[:, MARKS] == 0, False), iou[wrong], 0)
    same = np.append(true, -1) == said[:, None]
    own, other = np.where(same, iou, 0), np.where(same, 0, iou)
    own_iou, other_iou = own.max(axis=1), other.max(axis=1)
    cases = [own_iou >= IN_PLACE, other_iou >= IN_PLACE,
             own_iou >= ON_NOTHING, other_iou >= ON_NOTHING]  # fmt: skip
    kinds = np.select(cases, [0, 1, 2, 3], 4)
    on = np.select(cases, [own.argmax(1), other.argmax(1), own.argmax(1), other.argmax(1)], -1)
    return kinds, on


def size_numbers(objects: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return whether each object is small, 0, medium, 1, or large, 2, by the area of its box."""
    areas = objects[:, 2].astype(np.float64) * objects[:, 3]
    return np.digitize(areas, AREAS[2:, 0], right=True)


def _join(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:  # noqa: ANN401
    return np.concatenate([np.zeros(0, dtype), *parts])
