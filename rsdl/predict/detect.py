"""Windows of a scene -> detections of a network -> the objects of the scene, each once.

An object that the edge of a window cuts is left to the neighbour that sees more of it, and what is
found twice in an overlap is merged by exact non-maximum suppression over the whole scene. So the
result depends neither on the order of windows nor on the batch, and memory is that of the
detections.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.data.targets.corners import ends, rectangle_corners
from rsdl.predict.scene import Progress, Read, WindowRule, read_batches, whole_of
from rsdl.predict.windows import Axis
from rsdl.raster.scenes import Scene
from rsdl.tasks.boxes import DETECTED, SCORE, nms
from rsdl.tasks.merged_tiles import EDGE_PX, EDGE_SHARE

Numbers = NDArray[np.float64]
# Stored pixels [B, H, W, C] -> of each window centre x and y, width, height and angle in its
# pixels, score and label, [N, 7].
Detector = Callable[[NDArray[Any]], Sequence[NDArray[np.floating[Any]]]]

SEEN_SIDE = 2048  # of the picture of where a scene has data


@dataclass(frozen=True, slots=True)
class MergeRule:
    """How the detections of windows are merged.

    Attributes:
        iou: Of two detections of one class that overlap by more, the one of lower score goes.
        oriented: Whether boxes have an angle.
    """

    iou: float
    oriented: bool


class Detections(NamedTuple):
    """The objects of a scene, those of the highest score first.

    Attributes:
        boxes: Centre x and y, width, height in pixels of the scene, and the angle of the width in
            radians from the x axis towards the y axis (down), ``[N, 5]``.
        scores: In 0 to 1, ``[N]``.
        labels: Class numbers, ``[N]``.
        num_cut: How many of them the edge of a window cuts, and no neighbour sees more of.
        seen: Every so many pixels down and across, whether the scene has data.
        step: How many.
    """

    boxes: Numbers
    scores: Numbers
    labels: NDArray[np.int64]
    num_cut: int
    seen: NDArray[np.bool_]
    step: int

    @property
    def corners(self) -> Numbers:
        """Corners as (column, row), ``[N, 4, 2]``."""
        return corners_of(self.boxes)


def detect_scene(
    scene: Scene,
    detector: Detector,
    rule: WindowRule,
    merge: MergeRule,
    *,
    batch_size: int,
    progress: Progress = lambda share: None,
) -> Detections:
    """Return the objects of a scene whose centre lies where it has data.

    Args:
        scene: The scene; objects outside of the area that clips it are left out.
        detector: Finds objects in windows.
        rule: How the scene is cut.
        merge: How detections are merged.
        batch_size: Windows computed at once; the result does not depend on it.
        progress: Called with the share of windows that are done.

    Raises:
        CorruptSampleError: If the file cannot be read somewhere.
        DataError: If the network gives no numbers, or alpha is imagery.
    """
    whole, *corner = whole_of(scene)
    rows, cols = rule.lay(scene)
    edges = [Edges(axis) for axis in rule.cut(whole.height, whole.width)]
    seen, found = Seen(scene.height, scene.width), [np.empty((0, 8))]
    with closing(read_batches(scene, rule, batch_size)) as batches:
        for windows, done in batches:
            results = detector(np.stack([each.pixels for each in windows])) if windows else ()
            for window, rows_of in zip(windows, results, strict=True):
                top, left = int(rows.starts[window.row]), int(cols.starts[window.col])
                place = top - corner[0], left - corner[1]
                seen.add(*place, window)
                boxes = np.asarray(rows_of, np.float64)
                if not np.isfinite(boxes).all():
                    problem = "the network's boxes are no numbers there"
                    raise DataError(str(scene.path), problem, "evaluate the run")
                boxes = boxes[_has_data(boxes, *place, window, scene)]
                boxes[:, :2] += left, top
                lost, cut = find_cut(boxes, edges, top, left)
                boxes[:, :2] -= corner[1], corner[0]
                found.append(np.concatenate([boxes, cut[:, None]], axis=1)[~lost])
            progress(done)
    return merge_detections(np.concatenate(found), merge, seen)


def merge_detections(found: Numbers, merge: MergeRule, seen: "Seen") -> Detections:
    """Return detections of windows ``[N, 8]`` merged: box, score, label, whether it is cut."""
    boxes, scores, labels = (
        torch.from_numpy(found[:, part].copy()) for part in (slice(5), SCORE, DETECTED)
    )
    kept = nms(boxes, scores, labels.long(), merge.iou, oriented=merge.oriented).numpy()
    rest = found[kept]
    return Detections(
        rest[:, :5], rest[:, 5], rest[:, 6].astype(np.int64), int(rest[:, 7].sum()), *seen.result
    )


class Edges:
    """Along one side of a scene, where the neighbours of each window begin and end.

    Args:
        axis: All windows along the side.
    """

    def __init__(self, axis: Axis) -> None:
        starts = axis.starts.tolist()
        self._window = axis.window
        self._before = {after: before for before, after in pairwise(starts)}
        self._after = dict(pairwise(starts))

    def judge(self, low: Numbers, high: Numbers, start: int) -> tuple[Any, Any]:
        """Return which extents an edge of a window cuts, and which of them a neighbour sees better.

        Args:
            low: Where each begins in the scene, ``[N]``.
            high: Where it ends, ``[N]``.
            start: Where the window begins.
        """
        margin = np.maximum(EDGE_PX, (high - low) * EDGE_SHARE)
        cut, better = np.zeros((2, len(low)), bool)
        if (before := self._before.get(start)) is not None:
            touches = low < start + margin
            cut |= touches
            better |= touches & (high <= before + self._window - margin)
        if (after := self._after.get(start)) is not None:
            touches = high > start + self._window - margin
            cut |= touches
            better |= touches & (low >= after + margin)
        return cut, better


def find_cut(
    boxes: Numbers, edges: Sequence[Edges], top: int, left: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections of a window a neighbour sees more of, and which its edges cut.

    Args:
        boxes: In pixels of the scene, ``[N, >= 5]``.
        edges: Those along the height and along the width.
        top: First row of the window.
        left: Its first column.
    """
    corners = corners_of(boxes[:, :5])
    low, high = ends(corners)
    cut_y, better_y = edges[0].judge(low[:, 1], high[:, 1], top)
    cut_x, better_x = edges[1].judge(low[:, 0], high[:, 0], left)
    return better_y | better_x, cut_y | cut_x


def corners_of(boxes: Numbers) -> Numbers:
    """Return the corners of boxes as (x, y), ``[N, 5] -> [N, 4, 2]``, exact far from the origin."""
    centred = boxes * (0, 0, 1, 1, 1)
    return boxes[:, None, :2] + rectangle_corners(centred)


class Seen:
    """Where a scene has data, every so many pixels.

    Args:
        height: Of the scene in pixels.
        width: Of the scene in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._step = -(-max(height, width) // SEEN_SIDE)
        self._seen = np.zeros((-(-height // self._step), -(-width // self._step)), bool)

    def add(self, top: int, left: int, window: Read) -> None:
        """Add a window, which may exceed the scene."""
        size, step = window.pixels.shape[:2], self._step
        first = [-(-max(place, 0) // step) for place in (top, left)]
        behind = [
            min(-(-(place + side) // step), limit)
            for place, side, limit in zip((top, left), size, self._seen.shape, strict=True)
        ]
        rows, cols = (np.arange(a, b) * step for a, b in zip(first, behind, strict=True))
        known = True if window.valid is None else window.valid[np.ix_(rows - top, cols - left)]
        self._seen[first[0] : behind[0], first[1] : behind[1]] |= known

    @property
    def result(self) -> tuple[NDArray[np.bool_], int]:
        """Where there is data, and how many pixels lie between."""
        return self._seen, self._step


def _has_data(boxes: Numbers, top: int, left: int, window: Read, scene: Scene) -> NDArray[np.bool_]:
    """Return whether the centre of each box of a window lies in the scene, where it has data."""
    places = np.floor(boxes[:, :2]).astype(np.int64)
    col, row = places.T
    size = window.pixels.shape[:2]
    inside: NDArray[np.bool_] = (row >= 0) & (row < size[0]) & (col >= 0) & (col < size[1])
    inside &= (row + top >= 0) & (row + top < scene.height)
    inside &= (col + left >= 0) & (col + left < scene.width)
    if window.valid is not None:
        row, col = row.clip(0, size[0] - 1), col.clip(0, size[1] - 1)
        inside &= window.valid[row, col]
    return inside
