"""Detections and objects of tiles, merged to those of the images that the tiles were cut from.

A detection that a tile's edge cuts is left to the neighbour that sees the whole of it; what two
tiles found is merged by non-maximum suppression. Of an object that several tiles show the copy of
the tile that shows most of it is taken.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rsdl.data.targets.corners import ends, smallest_rectangles
from rsdl.data.targets.objects import FLAGS, HULL, LABEL, RECTANGLE, WIDTH, Objects
from rsdl.data.targets.rectangles import hulls
from rsdl.records.detection import MergedScores
from rsdl.tasks.average_precision import AT_50, DetectionMetrics, summarize
from rsdl.tasks.base import Place
from rsdl.tasks.boxes import DETECTED, SCORE, nms, resize_boxes

# A box is cut if it ends closer to the edge than this, in px or in parts of its extent: networks
# put the side of an object that is cut near the edge, and not on it.
EDGE_PX, EDGE_SHARE = 2.0, 1 / 16
SAME_OBJECT = 0.99  # IoU of two copies of one object; they differ by rounding alone

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def score_merged(
    predictions: Floats,
    places: Sequence[Place],
    num_classes: int,
    *,
    nms_iou: float,
    oriented: bool,
) -> MergedScores | None:
    """Return the metrics over whole images; ``None`` if no image has several tiles.

    Args:
        predictions: Detections of each tile, ``[N, M, 7]``.
        places: Where each tile lies, ``[N]``; empty if that is not known.
        num_classes: Number of classes.
        nms_iou: IoU above which the lower of two detections of a class is dropped.
        oriented: Whether boxes have an angle.
    """
    images = group_tiles(places)
    if len(images) == len(places):
        return None
    metrics = DetectionMetrics(num_classes, oriented)
    for numbers in images.values():
        mine = [places[number] for number in numbers]
        found = merge_detections(predictions[numbers], mine, nms_iou=nms_iou, oriented=oriented)
        metrics.update(
            torch.from_numpy(found)[None], torch.from_numpy(merge_objects(mine))[None],
            torch.ones(1, dtype=torch.bool), torch.zeros(1),
        )  # fmt: skip
    values = summarize(metrics.local_sums())  # every rank has the detections of all
    shown = {name: value for name, value in values.metrics.items() if name != "loss"}
    return MergedScores(
        num_images=len(images),
        num_objects=int(values.num_objects.sum()),
        metrics=shown,
        ap50=tuple(values.ap[AT_50].tolist()),
    )


def group_tiles(places: Sequence[Place]) -> dict[str, list[int]]:
    """Return the numbers of the tiles of each image, by its name."""
    images: dict[str, list[int]] = {}
    for number, place in enumerate(places):
        images.setdefault(place.image, []).append(number)
    return dict(sorted(images.items()))


def merge_detections(
    predictions: Floats, places: Sequence[Place], *, nms_iou: float, oriented: bool
) -> Floats:
    """Return the detections of an image, ``[N, M, 7] -> [K, 7]`` in pixels of the image."""
    starts = np.array([place.corner[::-1] for place in places], np.float64)
    sizes = np.array([place.target.size[::-1] for place in places], np.float64)
    edges = np.concatenate([starts, starts + sizes], axis=1)
    parts = []
    for prediction, place, own in zip(predictions, places, edges, strict=True):
        found = to_stored(prediction, place)
        found[:, :2] += own[:2]
        parts.append(found[~_seen_better(found, own, edges, oriented=oriented)])
    found = np.concatenate(parts)
    boxes, scores, labels = (
        torch.from_numpy(found[:, part]) for part in (slice(5), SCORE, DETECTED)
    )
    kept = nms(boxes, scores, labels.long(), nms_iou, oriented=oriented)
    merged: Floats = found[kept.numpy()].astype(np.float32)
    return merged


def to_stored(prediction: Floats, place: Place) -> Doubles:
    """Return the detections of a tile ``[M, 7]`` in pixels of the stored tile, ``[K, 7]``."""
    found = prediction[prediction[:, DETECTED] >= 0].astype(np.float64)
    return resize_boxes(found, *place.scale)


def _seen_better(
    found: NDArray[np.float64],
    own: NDArray[np.float64],
    edges: NDArray[np.float64],
    *,
    oriented: bool,
) -> NDArray[np.bool_]:
    """Return which detections the edge of their tile cuts, and another tile shows as a whole.

    Args:
        found: Detections in pixels of the image, ``[K, 7]``.
        own: Left, top, right and bottom of their tile.
        edges: Those of all tiles of the image, ``[N, 4]``.
        oriented: Whether boxes have an angle.
    """
    sides = hulls(torch.from_numpy(found[:, :5]), oriented=oriented).numpy()
    extent = np.tile(sides[:, 2:] - sides[:, :2], 2)
    margin = np.maximum(EDGE_PX, extent * EDGE_SHARE)
    inward = np.array([1, 1, -1, -1])
    room = inward * (sides[:, None] - edges) - margin[:, None]  # [K, N, 4]
    whole = (room >= 0).all(axis=2)
    cut = np.any(inward * (sides - own) < margin, axis=1)
    better: NDArray[np.bool_] = cut & np.any(whole, axis=1)
    return better


def merge_objects(places: Sequence[Place]) -> Floats:
    """Return the objects of an image, each once, as rows of a batch's targets, ``[G, 11]``."""
    stored: list[Objects] = [place.target for place in places]
    corners = np.concatenate([
        objects.corners + np.array(place.corner[::-1], np.float32)
        for objects, place in zip(stored, places, strict=True)
    ])  # fmt: skip
    labels = np.concatenate([objects.labels for objects in stored])
    flags = np.concatenate([objects.flags for objects in stored])
    shares = np.concatenate([objects.shares for objects in stored])
    rectangles = smallest_rectangles(corners)
    kept = nms(
        torch.from_numpy(rectangles).double(), torch.from_numpy(shares), torch.from_numpy(labels),
        SAME_OBJECT, oriented=True,
    ).numpy()  # fmt: skip
    rows = np.zeros((len(kept), WIDTH), np.float32)
    rows[:, RECTANGLE], rows[:, LABEL], rows[:, FLAGS] = rectangles[kept], labels[kept], flags[kept]
    last = np.max([np.add(place.corner, place.target.size) for place in places], axis=0)[::-1]
    low, high = ends(corners[kept])
    rows[:, HULL] = np.concatenate([low.clip(0, last), high.clip(0, last)], axis=1)
    return rows
