"""How much two boxes overlap, and which detections are duplicates.

Boxes are as in ``rsdl/data/targets/rectangles.py``; of upright ones the angle is not read.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsdl.data.targets.objects import HULL, RECTANGLE
from rsdl.data.targets.rectangles import SMALL_AREA, box_areas, hulls, rotated_intersection, widen
from rsdl.tasks.near_pairs import near_pairs

# Columns of a detection after its box ``[:5]``: score, and label, -1 for padding.
SCORE, DETECTED = 5, 6
ALIKE = 0.999  # of an IoU; that of equal boxes is above it


def truth_boxes(truths: Tensor, *, oriented: bool) -> Tensor:
    """Return the boxes of objects, ``[..., 11] -> [..., 5]``: rectangles, or visible hulls."""
    if oriented:
        return truths[..., RECTANGLE]
    left, top, right, bottom = truths[..., HULL].unbind(-1)
    columns = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return torch.stack([*columns, torch.zeros_like(left)], -1)


def resize_boxes(rows: NDArray[np.float64], across: float, down: float) -> NDArray[np.float64]:
    """Return boxes of an image that was made so many times as wide and as high.

    Its sides were scaled alike but for whole pixels, so that a turned box stays one.
    """
    cos, sin = np.cos(rows[:, 4]), np.sin(rows[:, 4])
    resized = rows.copy()
    resized[:, :2] *= across, down
    resized[:, 2] *= np.hypot(cos * across, sin * down)
    resized[:, 3] *= np.hypot(sin * across, cos * down)
    resized[:, 4] = np.arctan2(sin * down, cos * across)
    return resized


def aligned_intersection(first: Tensor, second: Tensor) -> Tensor:
    """Return the area in px² that two upright boxes share, ``[..., 5], [..., 5] -> [...]``."""
    low, high = _common(first, second)
    return (high - low).clamp(min=0).prod(-1)


def box_intersection(first: Tensor, second: Tensor, *, oriented: bool) -> Tensor:
    """Return the area in px² that two boxes share, ``[..., 5], [..., 5] -> [...]``."""
    return (rotated_intersection if oriented else aligned_intersection)(first, second)


def box_iou(first: Tensor, second: Tensor, *, oriented: bool) -> Tensor:
    """Return the exact intersection over union of boxes, ``[..., 5], [..., 5] -> [...]``.

    It is differentiable, 0 where both boxes have no area, and at least float32.

    Args:
        first: Boxes.
        second: Boxes; the shapes are broadcast.
        oriented: Whether angles count.
    """
    common = box_intersection(first, second, oriented=oriented)
    union = box_areas(first) + box_areas(second) - common
    return common / union.clamp(min=SMALL_AREA)


def aligned_giou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalized IoU of upright boxes, in ``(-1, 1]`` (Rezatofighi et al. 2019)."""
    common = aligned_intersection(first, second)
    union = box_areas(first) + box_areas(second) - common
    ours, theirs = hulls(first, oriented=False), hulls(second, oriented=False)
    low = torch.minimum(ours[..., :2], theirs[..., :2])
    around = (torch.maximum(ours[..., 2:], theirs[..., 2:]) - low).prod(-1)
    iou = common / union.clamp(min=SMALL_AREA)
    return iou - (around - union) / around.clamp(min=SMALL_AREA)


def prob_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return how alike boxes are as Gaussians, in ``[0, 1]`` (Murrugarra-Llerena et al. 2021).

    It is 1 minus the Hellinger distance. Unlike the IoU it has a gradient where boxes do not
    overlap. Every term is a sum of what is not negative, so that thin boxes stay exact.
    """
    first, second = widen(first), widen(second)
    offset = first[..., :2] - second[..., :2]
    turn = first[..., 4] - second[..., 4]
    cos2, sin2 = turn.cos().square(), turn.sin().square()
    long1, short1 = (first[..., 2:4].square() / 12).unbind(-1)
    long2, short2 = (second[..., 2:4].square() / 12).unbind(-1)
    # Determinant of the sum of both covariances, in the frame of the second box.
    crossed = long2 * (long1 * sin2 + short1 * cos2) + short2 * (long1 * cos2 + short1 * sin2)
    total = (long1 * short1 + long2 * short2 + crossed).clamp(min=SMALL_AREA**2)
    along1, across1 = _in_frame(offset, first[..., 4])
    along2, across2 = _in_frame(offset, second[..., 4])
    apart = long1 * across1.square() + short1 * along1.square()
    apart = apart + long2 * across2.square() + short2 * along2.square()
    own = (box_areas(first) / 12 * (box_areas(second) / 12)).clamp(min=SMALL_AREA**2)
    bhattacharyya = apart / total / 4 + (total.log() - (4 * own).log()) / 2
    return 1 - (-torch.expm1(-bhattacharyya.clamp(1e-7, 100))).sqrt()


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, *, oriented: bool) -> Tensor:
    """Return the numbers of the detections that no better one of their class covers, best first.

    It is the exact greedy suppression: from the best score down, a detection is kept unless its IoU
    with one that was kept is above the limit. Equal scores go by label and box, so that the order
    in which detections are given does not matter. It runs on the CPU, in memory that grows with
    the pairs that overlap. Detections of many images go in one call if their labels differ.

    Args:
        boxes: ``[N, 5]``.
        scores: ``[N]``.
        labels: Class indices, not negative, ``[N]``.
        iou: Limit in ``[0, 1]``.
        oriented: Whether angles count.
    """
    host, classes = boxes.detach().cpu().double(), labels.detach().cpu().numpy().astype(np.int64)
    keys = (*host.numpy().T[::-1], classes, -scores.detach().cpu().double().numpy())
    order = np.lexsort(keys)
    host, classes = host[torch.from_numpy(order)], classes[order]
    if iou < ALIKE:
        first = _first_of_equal(np.column_stack([classes, host.numpy()]))
        order, host, classes = order[first], host[torch.from_numpy(first)], classes[first]
    sides = hulls(host, oriented=oriented).numpy()
    area = box_areas(host).numpy()
    over: list[NDArray[np.int64]] = [np.empty((2, 0), np.int64)]
    for pair in map(np.stack, near_pairs(sides, classes)):
        # Cheap first: what hulls share, and the smaller box, bound what the boxes share.
        (one, other), (here, there) = sides[pair], area[pair]
        shared = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
        most = np.minimum(np.minimum(here, there), shared[:, 0] * shared[:, 1])
        pair = pair[:, most * (1 + 1e-9) > iou * (here + there - most)]
        first, second = host[torch.from_numpy(pair)]
        pair = pair[:, (box_iou(first, second, oriented=oriented) > iou).numpy()]
        over.append(pair)
    pairs = np.concatenate(over, axis=1)
    # A better one's fate is known before its pairs are met: they are sorted by it.
    pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
    kept = np.ones(len(order), bool)
    betters, starts = np.unique(pairs[0], return_index=True)
    ends = [*starts.tolist(), pairs.shape[1]]
    for number, better in enumerate(betters.tolist()):
        if kept[better]:
            kept[pairs[1, ends[number] : ends[number + 1]]] = False
    return torch.from_numpy(order[kept]).to(boxes.device)


def _first_of_equal(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which class and box ``[N, 6]`` no row before equals; those without area all are.

    Only the first of equal boxes can be kept, and their pairs would be as many as their square.
    """
    order = np.lexsort(rows.T)
    is_first = np.ones(len(rows), bool)
    is_first[order[1:]] = (rows[order[1:]] != rows[order[:-1]]).any(axis=1)
    is_first |= ~(rows[:, 3:5].prod(axis=1) > SMALL_AREA)
    return is_first


def _common(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper corner of what two upright boxes share, ``[..., 2]`` each.

    They are relative to the first box's centre: float32 is coarse far from the origin.
    """
    first, second = widen(first), widen(second)
    half1, half2 = first[..., 2:4] / 2, second[..., 2:4] / 2
    offset = second[..., :2] - first[..., :2]
    return torch.maximum(-half1, offset - half2), torch.minimum(half1, offset + half2)


def _in_frame(offset: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return an offset along and across a direction."""
    cos, sin = angle.cos(), angle.sin()
    right, down = offset.unbind(-1)
    return cos * right + sin * down, cos * down - sin * right
