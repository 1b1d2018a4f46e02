"""Detections of a split in the files that benchmarks and other tools take."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.targets.rectangles import corners, hulls
from rsdl.tasks.base import Place
from rsdl.tasks.merged_tiles import group_tiles, merge_detections, to_stored

Floats = NDArray[np.float32]


def dota_files(
    predictions: Floats,
    places: Sequence[Place],
    classes: Sequence[str],
    *,
    nms_iou: float,
    oriented: bool,
) -> dict[str, str]:
    """Return DOTA's submission, the text of a file for each class; tiles of an image are merged.

    A line is image, score and four corners, in ``Task1_<class>.txt``; of upright boxes image,
    score, left, top, right and bottom, in ``Task2_<class>.txt``.

    Args:
        predictions: Detections of each tile, ``[N, M, 7]``.
        places: Where each tile lies, ``[N]``.
        classes: Names of the classes.
        nms_iou: IoU above which the lower of two detections of a class is dropped.
        oriented: Whether boxes have an angle.

    Raises:
        DataError: If two images have the same name in two folders, or two classes one file.
    """
    names = [re.sub(r"[\s/]+", "-", name) for name in classes]
    lines: dict[str, list[str]] = {name: [] for name in names}
    images = group_tiles(places)
    stems = [PurePosixPath(image).stem for image in images]
    for each, rule in ((stems, "images"), (names, "classes")):
        if twice := sorted(name for name, times in Counter(each).items() if times > 1):
            problem = f"has two {rule} {twice[0]}, which DOTA's files cannot tell apart"
            raise DataError("--export dota", problem, "pass --export coco")
    for stem, numbers in zip(stems, images.values(), strict=True):
        mine = [places[number] for number in numbers]
        found = merge_detections(predictions[numbers], mine, nms_iou=nms_iou, oriented=oriented)
        for outline, score, label in _outlines(found, oriented=oriented):
            shown = " ".join(f"{value:.2f}" for value in outline)
            lines[names[label]].append(f"{stem} {score:.5f} {shown}\n")
    task = "Task1" if oriented else "Task2"
    return {f"{task}_{name}.txt": "".join(rows) for name, rows in lines.items()}


def coco_results(
    predictions: Floats, places: Sequence[Place], samples: Sequence[int], *, oriented: bool
) -> str:
    """Return COCO's results: a JSON list of detections in stored samples.

    Images and categories have the numbers that ``rsdl data convert --to coco`` gives them: the
    place of a sample in its split, and of a class in the data set, from 1. An oriented box has its
    corners as ``segmentation``, and its hull as ``bbox``.

    Args:
        predictions: Detections of each sample, ``[N, M, 7]``.
        places: How large the network saw each sample, ``[N]``.
        samples: Numbers of the samples, ``[N]``.
        oriented: Whether boxes have an angle.
    """
    rows: list[dict[str, Any]] = []
    for prediction, place, sample in zip(predictions, places, samples, strict=True):
        found = to_stored(prediction, place)
        sides = hulls(torch.from_numpy(found[:, :5]), oriented=oriented).tolist()
        outlines = _outlines(found, oriented=oriented)
        for (left, top, right, bottom), (outline, score, label) in zip(
            sides, outlines, strict=True
        ):
            box = [round(value, 3) for value in (left, top, right - left, bottom - top)]
            row = {"image_id": sample + 1, "category_id": label + 1, "bbox": box}
            row["score"] = round(score, 6)
            if oriented:
                row["segmentation"] = [[round(value, 3) for value in outline]]
            rows.append(row)
    return json.dumps(rows, separators=(",", ":")) + "\n"


def check_places(places: Sequence[Place]) -> None:
    """Raise a ``ConfigError`` unless the network saw the whole samples."""
    if not places:
        problem = "needs detections in whole samples, and data.eval_crop shows the network parts"
        raise ConfigError(
            "--export",
            problem,
            "train with data.eval_crop=1 and samples of the shape of data.image_size",
        )


def _outlines(
    found: NDArray[np.floating[Any]], *, oriented: bool
) -> list[tuple[list[float], float, int]]:
    """Return four corners, or left, top, right and bottom, with score and label of each box."""
    boxes = torch.from_numpy(found[:, :5]).double()
    outlines = corners(boxes).flatten(1) if oriented else hulls(boxes, oriented=False)
    scores, labels = found[:, 5].tolist(), found[:, 6].astype(int).tolist()
    return list(zip(outlines.tolist(), scores, labels, strict=True))
