"""Class-level scores from a confusion matrix.

Everything an accuracy assessment reports about hard predictions is in that matrix, so the network
runs once and the scores follow on the CPU, exactly, in double precision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsdl.evaluate.result import ClassScores

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a confusion matrix says.

    Attributes:
        metrics: ``oa``, ``balanced_accuracy``, ``kappa``, ``macro_f1``; ``None`` where undefined.
        per_class: One row a class.
    """

    metrics: dict[str, float | None]
    per_class: tuple[ClassScores, ...]


def scores_from_confusion(confusion: NDArray[Any], classes: Sequence[str]) -> Scores:
    """Return overall and per-class scores.

    A class without samples has no recall, and one that is never predicted no precision: both are
    ``None`` rather than zero. Balanced accuracy is the mean recall over classes that have samples
    (Brodersen et al. 2010; as scikit-learn, while torchmetrics' macro recall also counts a zero for
    a class that was predicted but has no samples). Macro F1 is the mean over classes that are true
    or predicted at least once (as both libraries). Kappa is Cohen's (1960), ``None`` where chance
    alone would always agree.

    Args:
        confusion: Counts by true class (rows) and predicted class (columns), ``[C, C]`` integers.
        classes: Names of the ``C`` classes.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    assert counts.shape == (len(classes), len(classes)), "confusion must be [C, C]"
    correct, support, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision = _ratio(correct, predicted)
    recall = _ratio(correct, support)
    f1 = _ratio(2 * correct, support + predicted)
    metrics = {
        "oa": _optional(_ratio(correct.sum(), counts.sum())),
        "balanced_accuracy": _mean(recall),
        "kappa": _kappa(correct, support, predicted),
        "macro_f1": _mean(f1),
    }
    rows = zip(classes, support, precision, recall, f1, strict=True)
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


def _kappa(correct: Floats, support: Floats, predicted: Floats) -> float | None:
    total = support.sum()
    chance = float(support @ predicted)  # over total squared, kept whole to stay exact
    return _optional(_ratio(correct.sum() * total - chance, total * total - chance))


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    below = np.asarray(denominator, dtype=np.float64)
    ratio = np.full(below.shape, np.nan)
    np.divide(np.asarray(numerator, dtype=np.float64), below, out=ratio, where=below != 0)
    return ratio


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _optional(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)
