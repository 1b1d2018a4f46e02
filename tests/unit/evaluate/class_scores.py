"""Scores of a confusion matrix as a report has them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.records.evaluation_base import ClassScores
from rsdl.tasks.scores import class_scores, score_confusion

NAMES = ("oa", "balanced_accuracy", "kappa", "macro_f1")


class Scores(NamedTuple):
    """Overall and per-class scores; ``None`` where undefined."""

    metrics: dict[str, float | None]
    per_class: tuple[ClassScores, ...]


def scores_of(confusion: NDArray[Any], classes: Sequence[str] | None = None) -> Scores:
    scores = score_confusion(np.asarray(confusion))
    values = {name: getattr(scores, name) for name in NAMES}
    return Scores(
        {name: None if math.isnan(value) else value for name, value in values.items()},
        class_scores(scores, classes or [f"c{i}" for i in range(len(confusion))]),
    )
