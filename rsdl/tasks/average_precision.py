"""Metrics of detection: average precision from counts of right and wrong detections by score.

Detections are counted in 4,096 bins of their score and then forgotten: the size does not depend on
the split, counts add up over ranks, and AP differs from that of the sorted scores by less than
0.001. A class takes 1.4 MB; all that is matched is matched on the CPU.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.data.targets.objects import FLAGS, LABEL
from rsdl.tasks.boxes import truth_boxes
from rsdl.tasks.object_matching import (
    SIZES,
    THRESHOLDS,
    Mask,
    Numbers,
    coco_matches,
    find_overlaps,
    make_boxes,
    size_bits,
    size_mask,
    unpack,
    voc_matches,
)
from rsdl.tasks.scores import Floats, share
from rsdl.tasks.sum_metric import SumMetric

NUM_BINS = 4096
AT_50, AT_75 = 0, 5  # of the IoU thresholds 0.5, 0.55 .. 0.95
# Recalls at which precision is read; VOC's by steps of 0.1, which round as in the devkit.
COCO_RECALLS = np.linspace(0, 1, 101)
VOC_RECALLS = np.arange(0, 1.1, 0.1)


class DetectionMetrics(SumMetric):
    """Right and wrong detections by score, objects and loss, as sums over valid samples.

    Args:
        num_classes: Classes of the data set.
        oriented: Whether boxes are compared by smallest rectangles, or by upright visible hulls.
    """

    seen: Tensor
    right: Tensor
    matched: Tensor
    voc_right: Tensor
    voc_wrong: Tensor
    num_objects: Tensor
    num_detections: Tensor
    num_samples: Tensor
    loss_sum: Tensor

    def __init__(self, num_classes: int, oriented: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.oriented = oriented
        # Most detections have no truth: those of each size, less those that have one, are wrong.
        self.add_sum("seen", len(SIZES), num_classes, NUM_BINS, dtype=torch.int32)
        for name in ("right", "matched"):
            shape = (len(SIZES), len(THRESHOLDS), num_classes, NUM_BINS)
            self.add_sum(name, *shape, dtype=torch.int32)
        for name in ("voc_right", "voc_wrong"):
            self.add_sum(name, num_classes, NUM_BINS, dtype=torch.int32)
        self.add_sum("num_objects", len(SIZES), num_classes, dtype=torch.int64)
        self.add_sum("num_detections", dtype=torch.int64)
        self.add_sum("num_samples", dtype=torch.int64)
        self.add_sum("loss_sum", dtype=torch.float64)

    def update(self, prediction: Tensor, targets: Tensor, valid: Tensor, losses: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: Centre x and y, width, height, angle, score in ``[0, 1]`` and label of each
                detection, ``[B, M, 7]``; label -1 is padding.
            targets: Objects as :mod:`rsdl.data.targets.objects` has them, ``[B, G, 11]``.
            valid: Whether each row counts, ``[B]`` bool.
            losses: Loss of each row, ``[B]``.
        """
        self.num_samples += valid.sum()
        self.loss_sum += (losses.double() * valid).sum()
        chosen = valid.cpu()
        found, truths = prediction.detach().float().cpu()[chosen], targets.float().cpu()[chosen]
        self._count(*_flatten(found, 6), *_flatten(truths, LABEL))

    def values(self) -> "MetricValues":
        """Return every metric over all ranks; a collective that every rank must call."""
        return summarize(self.sums())

    def _count(
        self, found: Tensor, found_images: Numbers, truths: Tensor, truth_images: Numbers
    ) -> None:
        """Match detections ``[N, 7]`` with objects ``[G, 11]`` and count them."""
        scores = found[:, 5].double().numpy()
        order = np.argsort(-scores, kind="stable")
        found, found_images, scores = found[order], found_images[order], scores[order]
        labels = found[:, 6].numpy().astype(np.int64)
        classes = truths[:, LABEL].numpy().astype(np.int64)
        flags = truths[:, FLAGS].numpy().astype(np.int64)
        detections = make_boxes(found[:, :5], found_images * self.num_classes + labels)
        objects = make_boxes(
            truth_boxes(truths, oriented=self.oriented), truth_images * self.num_classes + classes
        )
        overlaps = find_overlaps(detections, objects, flags, oriented=self.oriented)
        bins = (scores * NUM_BINS).astype(np.int64).clip(0, NUM_BINS - 1)
        cells = labels * NUM_BINS + bins
        right, matched = coco_matches(overlaps, len(cells), objects, flags)
        self._add("seen", size_mask(detections.areas), cells)
        some = np.flatnonzero(matched)
        inside = matched[some] & size_bits(detections.areas[some])
        self._add("right", unpack(right[some]), cells[some])
        self._add("matched", unpack(inside), cells[some])
        voc_right, voc_wrong = voc_matches(overlaps, len(cells), flags)
        self._add("voc_right", voc_right[:, None], cells)
        self._add("voc_wrong", voc_wrong[:, None], cells)
        counted = size_mask(objects.areas) & (flags == 0)[:, None]
        counts = [np.bincount(classes[each], minlength=self.num_classes) for each in counted.T]
        self.num_objects += torch.from_numpy(np.array(counts)).to(self.device)
        self.num_detections += len(cells)

    def _add(self, name: str, mask: Mask, cells: Numbers) -> None:
        """Count the cells of detections in each table for which a mask ``[N, tables]`` has them."""
        sums: Tensor = getattr(self, name)
        rows, tables = np.nonzero(mask)
        numbers = tables * (self.num_classes * NUM_BINS) + cells[rows]
        places = torch.from_numpy(numbers).to(sums.device)
        sums.view(-1).index_add_(0, places, torch.ones_like(places, dtype=sums.dtype))


@dataclass(frozen=True, slots=True)
class MetricValues:
    """The metrics of an evaluation.

    Attributes:
        metrics: By name: loss; map (mean AP over IoU 0.5 to 0.95), ap50 and ap75 by COCO's rules;
            voc07 (11 recalls) and voc12 (area) by VOC's at IoU 0.5; map_small, map_medium and
            map_large (objects of up to 32², up to 96² and more px²). Means over classes with
            objects; NaN if there are none.
        ap: COCO's AP by IoU and class, ``[T, C]``; NaN if a class has no objects.
        num_objects: Objects of each class that are neither difficult nor ignored, ``[C]``.
        curves: Precision of each class at 101 recalls and IoU 0.5, ``[C, 101]``; NaN as ``ap``.
        num_detections: Detections in images that were evaluated.
        num_samples: Images that were evaluated.
    """

    metrics: dict[str, float]
    ap: Floats
    num_objects: Numbers
    curves: Floats
    num_detections: int
    num_samples: int


def summarize(sums: dict[str, NDArray[Any]]) -> MetricValues:
    """Return the metrics computed from the sums of :class:`DetectionMetrics`."""
    objects, count = sums["num_objects"], int(sums["num_samples"])
    precisions = []
    columns = (sums["right"], sums["matched"], sums["seen"], objects)
    for right, matched, seen, number in zip(*columns, strict=True):
        wrong = seen - matched
        precisions.append(_at_recalls(right, wrong, number, COCO_RECALLS))  # [T, C, 101]
    ap, *by_size = (each.mean(axis=-1) for each in precisions)
    voc = sums["voc_right"], sums["voc_wrong"], objects[0]
    metrics = {
        "loss": share(sums["loss_sum"], count),
        "map": _mean(ap),
        "ap50": _mean(ap[AT_50]),
        "ap75": _mean(ap[AT_75]),
        "voc07": _mean(_at_recalls(*voc, VOC_RECALLS).mean(axis=-1)),
        "voc12": _mean(_area(*voc)),
    }
    metrics |= {f"map_{size}": _mean(each) for size, each in zip(SIZES[1:], by_size, strict=True)}
    curves = precisions[0][AT_50]
    return MetricValues(metrics, ap, objects[0], curves, int(sums["num_detections"]), count)


def _flatten(rows: Tensor, label: int) -> tuple[Tensor, Numbers]:
    """Return the rows that are no padding, ``[B, N, K] -> [n, K]``, and their images ``[n]``."""
    image, row = (rows[..., label] >= 0).nonzero(as_tuple=True)
    return rows[image, row], image.numpy()


def _at_recalls(
    right: NDArray[Any], wrong: NDArray[Any], num_objects: Numbers, recalls: Floats
) -> Floats:
    """Return interpolated precision: the best at each recall or more.

    Args:
        right: Counts by score, ``[..., C, bins]``.
        wrong: As ``right``.
        num_objects: ``[C]``.
        recalls: ``[R]``.

    Returns:
        ``[..., C, R]``; NaN for a class without objects.
    """
    values = np.full((*right.shape[:-1], len(recalls)), np.nan)
    for place in np.ndindex(right.shape[:-1]):
        number = int(num_objects[place[-1]])
        if number:
            recall, precision = _curve(right[place], wrong[place], number)
            first = np.searchsorted(recall, recalls, side="left")
            values[place] = np.append(precision, 0)[first]
    return values


def _area(right: NDArray[Any], wrong: NDArray[Any], num_objects: Numbers) -> Floats:
    """Return the area under each curve, ``[C]``, as VOC from 2010 on."""
    values = np.full(len(right), np.nan)
    for place in np.flatnonzero(num_objects):
        recall, precision = _curve(right[place], wrong[place], int(num_objects[place]))
        values[place] = (np.diff(recall, prepend=0) * precision).sum()
    return values


def _curve(right: NDArray[Any], wrong: NDArray[Any], number: int) -> tuple[Floats, Floats]:
    """Return recall, and the best precision from there on, at the bins that hold a detection."""
    bins = np.flatnonzero(right + wrong)[::-1]
    hits, misses = np.cumsum(right[bins]), np.cumsum(wrong[bins])
    precision = hits / np.maximum(hits + misses, 1)
    return hits / number, np.maximum.accumulate(precision[::-1])[::-1]


def _mean(values: Floats) -> float:
    """Return the mean of what is defined, NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
