import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_cohen_kappa,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from rsdl.evaluate.scores import wilson_interval
from tests.unit.evaluate.class_scores import scores_of

matrices = st.integers(1, 6).flatmap(
    lambda size: arrays(np.int64, (size, size), elements=st.integers(0, 9))
)


def samples_of(confusion: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and targets that have this confusion matrix."""
    pairs = [(j, i) for (i, j), n in np.ndenumerate(confusion) for _ in range(n)]
    table = torch.tensor(pairs)
    return table[:, 0], table[:, 1]


@given(matrices)
def test_scores_agree_with_torchmetrics(confusion: np.ndarray) -> None:
    num_classes = len(confusion)
    if confusion.sum() == 0 or num_classes < 2:
        return
    predicted, target = samples_of(confusion)
    metrics = scores_of(confusion).metrics
    options: Any = {"num_classes": num_classes}
    oa = multiclass_accuracy(predicted, target, average="micro", **options)
    f1 = multiclass_f1_score(predicted, target, average="macro", **options)
    kappa = multiclass_cohen_kappa(predicted, target, **options)
    assert metrics["oa"] == pytest.approx(float(oa), abs=1e-6)
    assert metrics["macro_f1"] == pytest.approx(float(f1), abs=1e-6)
    if metrics["kappa"] is None:
        # All samples in one cell: 0 / 0, whatever the rounding makes of it elsewhere.
        assert (confusion > 0).sum() == 1
    else:
        assert metrics["kappa"] == pytest.approx(float(kappa), abs=1e-5)


@given(matrices)
def test_class_scores_agree_with_torchmetrics_where_they_are_defined(
    confusion: np.ndarray,
) -> None:
    if confusion.sum() == 0 or len(confusion) < 2:
        return
    predicted, target = samples_of(confusion)
    rows = scores_of(confusion).per_class
    for name, function in (
        ("precision", multiclass_precision),
        ("recall", multiclass_recall),
        ("f1", multiclass_f1_score),
    ):
        theirs = function(predicted, target, num_classes=len(confusion), average=None)
        for row, their in zip(rows, theirs, strict=True):
            mine = getattr(row, name)
            assert (0 if mine is None else mine) == pytest.approx(float(their), abs=1e-6)


@given(matrices)
def test_balanced_accuracy_is_the_mean_recall_of_classes_with_samples(
    confusion: np.ndarray,
) -> None:
    scores = scores_of(confusion)
    recalls = [row.recall for row in scores.per_class if row.support]
    assert None not in recalls
    balanced = scores.metrics["balanced_accuracy"]
    expected = None if not recalls else pytest.approx(math.fsum(recalls) / len(recalls))
    assert balanced == expected


def test_a_class_without_samples_has_no_recall_and_does_not_lower_balanced_accuracy() -> None:
    scores = scores_of(np.array([[4, 1, 0], [0, 5, 0], [0, 0, 0]]))
    absent = scores.per_class[2]
    assert (absent.support, absent.precision, absent.recall, absent.f1) == (0, None, None, None)
    assert scores.metrics["balanced_accuracy"] == pytest.approx((0.8 + 1.0) / 2)
    assert scores.metrics["macro_f1"] == pytest.approx((8 / 9 + 10 / 11) / 2)


def test_a_class_that_is_never_predicted_has_no_precision_and_zero_f1() -> None:
    row = scores_of(np.array([[5, 0], [3, 0]])).per_class[1]
    assert (row.precision, row.recall, row.f1) == (None, 0.0, 0.0)


def test_nothing_is_defined_without_samples() -> None:
    scores = scores_of(np.zeros((3, 3), dtype=int))
    assert set(scores.metrics.values()) == {None}


def test_counts_of_a_billion_stay_exact() -> None:
    scores = scores_of(np.array([[10**9, 0], [1, 1]]))
    assert scores.metrics["oa"] == pytest.approx((10**9 + 1) / (10**9 + 2), abs=1e-15)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_narrows_with_trials(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    narrow = wilson_interval(10 * successes, 10 * trials)
    assert narrow[1] - narrow[0] < high - low


def test_the_interval_is_the_published_one() -> None:
    # Newcombe (1998), table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
