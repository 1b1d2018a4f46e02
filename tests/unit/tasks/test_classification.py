"""Loss and metrics, against torch and torchmetrics."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional import classification as reference

from rsdl.config.task import ClassificationConfig
from rsdl.data.augment import Mix
from rsdl.tasks.classification import ClassificationMetrics, ClassificationTask

NUM_CLASSES = 7
CLASSES = [f"c{number}" for number in range(NUM_CLASSES)]


def predictions(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return probabilities, targets and which rows count."""
    random = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, NUM_CLASSES, generator=random)
    targets = torch.randint(NUM_CLASSES, (count,), generator=random)
    logits[torch.arange(count), targets] += 1.5
    return logits.softmax(1), targets, torch.rand(count, generator=random) < 0.8


def batches(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)


@pytest.mark.parametrize("size", [1, 17, 400])
def test_metrics_are_torchmetrics_over_the_rows_that_count(size: int):
    probabilities, targets, valid = predictions(1, 400)
    task = ClassificationTask(ClassificationConfig(), CLASSES)
    losses = task.loss(probabilities.log(), targets, training=False)
    metrics = task.metrics()
    for rows in batches(400, size):
        metrics.update(probabilities[rows], targets[rows], valid[rows], losses[rows])
    values = metrics.values()
    p, t = probabilities[valid], targets[valid]
    expected = {
        "loss": F.cross_entropy(p.log(), t),
        "oa": reference.multiclass_accuracy(p, t, NUM_CLASSES, average="micro"),
        "balanced_accuracy": reference.multiclass_recall(p, t, NUM_CLASSES, average="macro"),
        "kappa": reference.multiclass_cohen_kappa(p, t, NUM_CLASSES),
        "macro_f1": reference.multiclass_f1_score(p, t, NUM_CLASSES, average="macro"),
        "top5": reference.multiclass_accuracy(p, t, NUM_CLASSES, average="micro", top_k=5),
        "ece": reference.multiclass_calibration_error(p, t, NUM_CLASSES, n_bins=15, norm="l1"),
    }
    assert values.metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert values.metrics[name] == pytest.approx(float(value), abs=1e-5), name
    confusion = reference.multiclass_confusion_matrix(p, t, NUM_CLASSES)
    assert np.array_equal(values.confusion, confusion.numpy())
    assert sum(row["count"] for row in values.calibration) == int(valid.sum())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 60), size=st.integers(1, 60))
def test_counts_do_not_depend_on_how_rows_are_batched(seed: int, count: int, size: int):
    probabilities, targets, valid = predictions(seed, count)
    losses = torch.arange(count) / 8  # exact in floating point
    whole, parts = ClassificationMetrics(NUM_CLASSES), ClassificationMetrics(NUM_CLASSES)
    whole.update(probabilities, targets, valid, losses)
    for rows in batches(count, size):
        parts.update(probabilities[rows], targets[rows], valid[rows], losses[rows])
    for name in ("confusion", "num_top", "bin_count", "bin_correct", "loss_sum"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_no_rows_have_no_metrics():
    metrics = ClassificationMetrics(NUM_CLASSES)
    probabilities, targets, _ = predictions(0, 5)
    nobody = torch.zeros(5, dtype=torch.bool)
    metrics.update(probabilities, targets, nobody, torch.ones(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = metrics.values()
    assert all(np.isnan(value) for value in values.metrics.values())
    assert all(row["accuracy"] is None for row in values.calibration)


def test_smoothing_is_of_training_alone():
    task = ClassificationTask(ClassificationConfig(label_smoothing=0.2), CLASSES)
    probabilities, targets, _ = predictions(2, 9)
    logits = probabilities.log()
    plain = F.cross_entropy(logits, targets, reduction="none")
    smooth = F.cross_entropy(logits, targets, reduction="none", label_smoothing=0.2)
    assert torch.equal(task.loss(logits, targets, training=False), plain)
    assert torch.equal(task.loss(logits, targets, training=True), smooth)


def test_mixed_images_have_the_loss_of_mixed_targets():
    task = ClassificationTask(ClassificationConfig(label_smoothing=0.1), CLASSES)
    probabilities, targets, _ = predictions(3, 8)
    logits = probabilities.log()
    partner = torch.arange(8) ^ 1
    weight = torch.linspace(0, 1, 8)
    hot = F.one_hot(targets, NUM_CLASSES).float()
    mixed = weight[:, None] * hot + (1 - weight)[:, None] * hot[partner]
    expected = F.cross_entropy(logits, mixed, reduction="none", label_smoothing=0.1)
    found = task.loss(logits, targets, training=True, mix=Mix(partner, weight))
    assert torch.allclose(found, expected, atol=1e-5)


def test_half_precision_outputs_are_scored_in_full():
    task = ClassificationTask(ClassificationConfig(), CLASSES)
    logits = torch.randn(4, NUM_CLASSES).bfloat16()
    assert (
        task.loss(logits, torch.zeros(4, dtype=torch.long), training=False).dtype == torch.float32
    )
    assert task.predict(logits).dtype == torch.float32


def test_columns_name_the_first_two_classes():
    task, targets = ClassificationTask(ClassificationConfig(), "abc"), torch.tensor([1, 2])
    columns = task.columns(torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2]]), targets)
    assert columns["targets"].tolist() == [1, 2]
    assert columns["predicted"].tolist() == [1, 0]
    assert columns["runner_up"].tolist() == [2, 2]
    assert columns["confidence"].tolist() == pytest.approx([0.5, 0.7])
    assert columns["runner_up_probability"].tolist() == pytest.approx([0.3, 0.2])
    only = ClassificationTask(ClassificationConfig(), "a").columns(torch.ones(2, 1), targets * 0)
    assert only["predicted"].tolist() == only["runner_up"].tolist() == [0, 0]
