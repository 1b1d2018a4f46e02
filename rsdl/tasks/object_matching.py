"""Which detections are right: the matching of COCO and that of Pascal VOC and DOTA.

Detections are numbered from the best score down and truths in their order; what overlaps is a list
of pairs within an image and class, so that memory and time grow with what overlaps.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.data import object_sizes
from rsdl.data.targets.objects import IGNORED
from rsdl.data.targets.rectangles import box_areas, hulls
from rsdl.tasks.boxes import box_intersection
from rsdl.tasks.near_pairs import near_pairs

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

# As pycocotools has them.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Areas in px², both ends included: all, small, medium, large objects.
SIZES = ("all", *object_sizes.SIZES)
AREAS = np.array([(0, np.inf), *pairwise((0, *object_sizes.LIMITS, np.inf))])
VOC_IOU = 0.5
# Bits of a number, one for each range of areas and threshold, say what holds for which.
NUM_BITS = len(AREAS) * len(THRESHOLDS)
SPREAD = np.int64(sum(1 << (number * len(THRESHOLDS)) for number in range(len(AREAS))))
ALL_THRESHOLDS = np.int64((1 << len(THRESHOLDS)) - 1)


class Boxes(NamedTuple):
    """Detections or truths of a batch: boxes ``[N, 5]`` float64, groups, areas in px² ``[N]``.

    A group is the number of an image and a class: only what is of one group matches.
    """

    boxes: Tensor
    groups: Numbers
    areas: NDArray[np.float64]


class Overlaps(NamedTuple):
    """Pairs of a detection and a truth that overlap.

    ``iou`` is that of both; ``cover`` is instead the covered share of the detection where the truth
    is ignored: as COCO's crowds, such a truth may hold many objects, or be a part of one.
    """

    detections: Numbers
    truths: Numbers
    iou: NDArray[np.float64]
    cover: NDArray[np.float64]


def make_boxes(boxes: Tensor, groups: Numbers) -> Boxes:
    """Return boxes in float64 with their areas."""
    boxes = boxes.double()
    return Boxes(boxes, groups, box_areas(boxes).numpy())


def find_overlaps(detections: Boxes, truths: Boxes, flags: Numbers, *, oriented: bool) -> Overlaps:
    """Return what overlaps within groups; flags are those of the truths, ``[G]``."""
    number = len(detections.groups)
    sides = hulls(torch.cat([detections.boxes, truths.boxes]), oriented=oriented).numpy()
    pairs = [np.empty((2, 0), np.int64)]
    for first, second in near_pairs(sides, np.concatenate([detections.groups, truths.groups])):
        crossing = (first < number) & (second >= number)
        pairs.append(np.stack([first[crossing], second[crossing] - number]))
    here, there = np.concatenate(pairs, axis=1)
    ours, theirs = detections.boxes[torch.from_numpy(here)], truths.boxes[torch.from_numpy(there)]
    common = box_intersection(ours, theirs, oriented=oriented).numpy()
    own, other = detections.areas[here], truths.areas[there]
    iou = common / np.maximum(own + other - common, 1e-9)
    ignored = flags[there] & IGNORED > 0
    cover = np.where(ignored, common / np.maximum(own, 1e-9), iou)
    return Overlaps(here, there, iou, cover)


def size_mask(areas: NDArray[np.float64]) -> Mask:
    """Return in which ranges areas are, ``[N, sizes]``."""
    mask: Mask = (areas[:, None] >= AREAS[:, 0]) & (areas[:, None] <= AREAS[:, 1])
    return mask


def size_bits(areas: NDArray[np.float64]) -> Numbers:
    """Return in which ranges areas are, for all thresholds, ``[N]`` bits."""
    steps = ALL_THRESHOLDS << (np.arange(len(AREAS)) * len(THRESHOLDS))
    bits: Numbers = (size_mask(areas) * steps).sum(axis=1)
    return bits


def unpack(bits: Numbers) -> Mask:
    """Return bits as a mask, ``[N] -> [N, sizes * thresholds]``."""
    mask: Mask = (bits[:, None] >> np.arange(NUM_BITS)) & 1 > 0
    return mask


def coco_matches(
    overlaps: Overlaps, num_detections: int, truths: Boxes, flags: Numbers
) -> tuple[Numbers, Numbers]:
    """Return where detections are right by COCO's rules, and where they have a truth, as bits.

    Each detection takes the free truth that it overlaps most, at least by the threshold; one that
    does not count (flagged, or of another size) only if no other is left. With that it is neither
    right nor wrong. Without a truth it is wrong, if it is of the size. A flagged truth may be taken
    many times.

    Returns:
        Bits by range of areas and threshold, ``[N], [N]``.
    """
    reached = np.searchsorted(THRESHOLDS, overlaps.cover, side="right")
    reach = ((np.int64(1) << reached) - 1) * SPREAD
    counted = np.where(flags == 0, size_bits(truths.areas), 0)[overlaps.truths]
    # Each pair stands twice: for where its truth counts, then for where it does not.
    bits = np.concatenate([reach & counted, reach & ~counted])
    spare = np.repeat((False, True), len(reach))
    detection, truth = np.tile(overlaps.detections, 2), np.tile(overlaps.truths, 2)
    # Of equal overlaps pycocotools takes the later truth.
    order = np.lexsort((-truth, -np.tile(overlaps.cover, 2), spare, detection))
    order = order[bits[order] > 0]
    free = [(1 << NUM_BITS) - 1] * len(flags)
    right, matched = [0] * num_detections, [0] * num_detections
    taken_often = (flags != 0).tolist()
    columns = (detection[order], truth[order], bits[order], spare[order])
    for number, other, reaches, aside in zip(*(each.tolist() for each in columns), strict=True):
        hit = reaches & ~matched[number] & free[other]
        if hit:
            matched[number] |= hit
            if not taken_often[other]:
                free[other] &= ~hit
            if not aside:
                right[number] |= hit
    return np.array(right, np.int64), np.array(matched, np.int64)


def voc_matches(overlaps: Overlaps, num_detections: int, flags: Numbers) -> tuple[Mask, Mask]:
    """Return which detections are right and which are wrong by the rules of VOC and DOTA, ``[N]``.

    Each detection goes to the truth that it overlaps most, and is wrong if a better one went there.
    The IoU must be above 0.5, as in DOTA's tools. Those at a difficult truth, and those that would
    be wrong and lie on an ignored one, are neither.
    """
    detections, truths, iou, cover = overlaps
    ignored = flags[truths] & IGNORED > 0
    on_ignored = np.zeros(num_detections, bool)
    on_ignored[detections[ignored & (cover > VOC_IOU)]] = True
    near = np.flatnonzero((iou > VOC_IOU) & ~ignored)
    near = near[np.lexsort((truths[near], -iou[near], detections[near]))]
    _, best = np.unique(detections[near], return_index=True)
    detections, truths = detections[near[best]], truths[near[best]]
    _, first = np.unique(truths, return_index=True)  # detections stand from the best down
    right, wrong = np.zeros(num_detections, bool), ~on_ignored
    right[detections[first]] = True
    aside = np.zeros(num_detections, bool)
    aside[detections[flags[truths] != 0]] = True
    right &= ~aside
    return right, wrong & ~right & ~aside
