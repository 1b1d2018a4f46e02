"""Overall and per-class scores for the report, and confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.records.evaluation import ClassScores
from rsdl.tasks.scores import score_confusion


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a confusion matrix.

    Attributes:
        metrics: ``oa``, ``balanced_accuracy``, ``kappa``, ``macro_f1``; ``None`` if undefined.
        per_class: One row for each class.
    """

    metrics: dict[str, float | None]
    per_class: tuple[ClassScores, ...]


def scores_from_confusion(confusion: NDArray[Any], classes: Sequence[str]) -> Scores:
    """Return overall and per-class scores; undefined ones are ``None``.

    See :func:`rsdl.tasks.scores.score_confusion` for their definitions.

    Args:
        confusion: Counts by true class (rows) and predicted class (columns), ``[C, C]`` integers.
        classes: Names of the ``C`` classes.
    """
    counts = np.asarray(confusion)
    assert counts.shape == (len(classes), len(classes)), "confusion must be [C, C]"
    scores = score_confusion(counts)
    names = ("oa", "balanced_accuracy", "kappa", "macro_f1")
    metrics = {name: _optional(getattr(scores, name)) for name in names}
    rows = zip(classes, scores.support, scores.precision, scores.recall, scores.f1, strict=True)
    per_class = (
        ClassScores(name=name, support=int(n), precision=float(p), recall=float(r), f1=float(f))
        for name, n, p, r, f in rows
    )
    return Scores(metrics, tuple(per_class))


def wilson_interval(successes: int, trials: int, *, z: float = 1.96) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927); 95% with the default ``z``.

    Args:
        successes: ``0 <= successes <= trials``.
        trials: At least 1.
        z: Quantile of the standard normal distribution.

    Returns:
        Low and high end, ``0 <= low <= successes / trials <= high <= 1``.
    """
    share, weight = successes / trials, z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _optional(value: float) -> float | None:
    return None if math.isnan(value) else value
