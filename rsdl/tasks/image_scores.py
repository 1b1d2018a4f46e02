"""Scores of single images and scenes, from the pixels of each class that are in them."""

from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rsdl.records.evaluation import SceneScores
from rsdl.tasks.base import Columns, Lookup

# The metadata of each sample is read to tell its scene: a million reads would take minutes.
MAX_SAMPLES = 100_000


def mean_ious(columns: Columns) -> NDArray[np.float64]:
    """Return the mean IoU of each row over the classes that are true or predicted in it, ``[N]``.

    It is NaN for a row without a labelled pixel.

    Args:
        columns: ``true``, ``predicted`` and ``both``: pixels of each class, ``[N, C]``.
    """
    union = columns["true"] + columns["predicted"] - columns["both"]
    known = union > 0
    iou = np.divide(columns["both"], union, out=np.zeros(union.shape), where=known)
    counts = known.sum(axis=1)
    means: NDArray[np.float64] = np.full(len(counts), np.nan)
    np.divide(iou.sum(axis=1), counts, out=means, where=counts > 0)
    return means


def score_scenes(columns: Columns, lookup: Lookup) -> list[SceneScores]:
    """Return the scores of each scene, the worst first; those without a labelled pixel last.

    There are none if more than 100,000 samples were evaluated.

    Args:
        columns: As :func:`mean_ious`, and ``samples``, the numbers of the samples.
        lookup: Names the scene of each sample.
    """
    if len(columns["samples"]) > MAX_SAMPLES:
        return []
    names = lookup.scenes(columns["samples"].tolist())
    order = sorted(range(len(names)), key=names.__getitem__)
    parts = [(name, list(rows)) for name, rows in groupby(order, names.__getitem__)]
    sums = {
        column: np.array([columns[column][rows].sum(axis=0) for _, rows in parts])
        for column in ("true", "predicted", "both")
    }
    scores = [
        SceneScores(
            name=name,
            num_samples=len(rows),
            num_pixels=int(true.sum()),
            miou=miou,
            oa=int(both.sum()) / max(int(true.sum()), 1),
        )
        for (name, rows), miou, true, both in zip(
            parts, mean_ious(sums).tolist(), sums["true"], sums["both"], strict=True
        )
    ]
    return sorted(scores, key=lambda row: (row.miou is None, row.miou or 0.0))


def choose_images(columns: Columns, count: int) -> list[tuple[str, int, float]]:
    """Return the images with the best, median and worst mean IoU: rank, row number and mean IoU.

    Images without a labelled pixel are left out, and none is chosen twice.
    """
    means = mean_ious(columns)
    labelled = np.flatnonzero(~np.isnan(means))
    scores = means[labelled]
    best_first = np.argsort(-scores, kind="stable")
    order, ranked = labelled[best_first], scores[best_first]
    middle = max((len(order) - count) // 2, 0)
    places = {"best": range(count), "median": range(middle, middle + count),
              "worst": range(len(order) - count, len(order))}  # fmt: skip
    taken: dict[int, tuple[str, int, float]] = {}
    for rank, wanted in places.items():
        for place in wanted:
            if 0 <= place < len(order) and place not in taken:
                taken[place] = (rank, int(order[place]), float(ranked[place]))
    return [taken[place] for place in sorted(taken)]
