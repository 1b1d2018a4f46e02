"""Overall and per-class scores from a confusion matrix; pure functions without torch.

The matrix contains everything that an accuracy assessment reports about hard predictions. So the
network runs once, and the scores are computed on the CPU in double precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.records.evaluation_base import ClassScores

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConfusionScores:
    """Scores of a confusion matrix; undefined numbers are NaN.

    Attributes:
        oa: Overall accuracy.
        balanced_accuracy: Mean recall over classes that have samples.
        kappa: Cohen's kappa.
        macro_f1: Mean F1 over classes that are true or predicted at least once.
        support: Samples of each class, ``[C]``.
        precision: Correct share of the predictions of each class, ``[C]``.
        recall: Correct share of the samples of each class, ``[C]``.
        f1: Harmonic mean of precision and recall, ``[C]``.
    """

    oa: float
    balanced_accuracy: float
    kappa: float
    macro_f1: float
    support: Floats
    precision: Floats
    recall: Floats
    f1: Floats


def score_confusion(confusion: NDArray[Any]) -> ConfusionScores:
    """Return overall and per-class scores.

    The recall of a class without samples and the precision of a class without predictions are NaN,
    not zero. Balanced accuracy is the mean recall over classes that have samples (Brodersen et al.
    2010). scikit-learn does the same; torchmetrics' macro recall also counts a zero for a class
    that was predicted but has no samples. Macro F1 is the mean over classes that are true or
    predicted at least once, as in both libraries. Kappa is Cohen's (1960); it is NaN if agreement
    by chance is certain.

    Args:
        confusion: Counts by true class (rows) and predicted class (columns), ``[C, C]`` integers.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    correct, support, predicted = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    recall = _ratio(correct, support)
    f1 = _ratio(2 * correct, support + predicted)
    total = counts.sum()
    chance = support @ predicted  # chance agreement * total^2; not divided, to stay exact
    return ConfusionScores(
        oa=float(_ratio(correct.sum(), total)),
        balanced_accuracy=_mean(recall),
        kappa=float(_ratio(correct.sum() * total - chance, total * total - chance)),
        macro_f1=_mean(f1),
        support=support,
        precision=_ratio(correct, predicted),
        recall=recall,
        f1=f1,
    )


def class_scores(scores: ConfusionScores, classes: Sequence[str]) -> tuple[ClassScores, ...]:
    """Return one row for each class; undefined numbers are ``None``."""
    rows = zip(classes, scores.support, scores.precision, scores.recall, scores.f1, strict=True)
    return tuple(
        ClassScores(name=name, support=int(n), precision=float(p), recall=float(r), f1=float(f))
        for name, n, p, r, f in rows
    )


def share(part: Any, total: int) -> float:  # noqa: ANN401 - NumPy scalars
    """Return a part of a total; NaN if the total is 0."""
    return float(part) / total if total else float("nan")


def _ratio(numerator: Any, denominator: Any) -> Floats:  # noqa: ANN401 - scalars and arrays alike
    numerator, denominator = np.asarray(numerator), np.asarray(denominator)
    empty = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    ratio: Floats = np.divide(numerator, denominator, out=empty, where=denominator != 0)
    return ratio


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
