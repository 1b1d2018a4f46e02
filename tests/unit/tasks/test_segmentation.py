"""Segmentation: metrics that add up, losses that ignore 255, views turned back."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError
from rsdl.data.targets.mask import IGNORE
from rsdl.tasks import pixel_losses
from rsdl.tasks.base import turned_views
from rsdl.tasks.boundary import boundary_counts, find_boundaries
from rsdl.tasks.segmentation import SegmentationTask, unturn

CLASSES = "abcd"
SIZE = (7, 9)


def configure(**fields: object) -> SegmentationConfig:
    return SegmentationConfig.model_validate({"name": "segmentation", **fields})


def draw(rows: int, seed: int, *, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return logits and masks."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((rows, len(CLASSES), *SIZE), generator=generator)
    targets = torch.randint(0, len(CLASSES), (rows, *SIZE), generator=generator)
    targets[torch.rand((rows, *SIZE), generator=generator) < ignored] = IGNORE
    return logits, targets.to(torch.uint8)


@given(cuts=st.lists(st.integers(1, 11), max_size=4), seed=st.integers(0, 5))
def test_metrics_do_not_depend_on_how_samples_are_batched(cuts: list[int], seed: int):
    task = SegmentationTask(configure(), CLASSES)
    logits, targets = draw(12, seed)
    valid = torch.arange(12) != 5  # padding, or corrupt
    whole, parts = task.metrics(), task.metrics()
    predicted, losses = task.predict(logits), task.loss(logits, targets, training=False)
    whole.update(predicted, targets, valid, losses)
    edges = sorted({0, 12, *cuts})
    for low, high in pairwise(edges):
        rows = slice(low, high)
        parts.update(predicted[rows], targets[rows], valid[rows], losses[rows])
    assert parts.values().metrics == pytest.approx(whole.values().metrics, rel=1e-12)
    assert (parts.values().confusion == whole.values().confusion).all()
    assert whole.values().num_samples == 11


@given(seed=st.integers(0, 20))
def test_scores_are_those_of_counting_pixel_by_pixel(seed: int):
    task = SegmentationTask(configure(), CLASSES)
    logits, targets = draw(3, seed)
    metrics = task.metrics()
    everything = torch.ones(3, dtype=torch.bool)
    metrics.update(task.predict(logits), targets, everything, torch.zeros(3))
    values = metrics.values()
    found, truth = logits.argmax(1).numpy(), targets.numpy()
    counted = truth != IGNORE
    ious = []
    for label in range(len(CLASSES)):
        both = ((found == label) & (truth == label)).sum()
        either = (((found == label) | (truth == label)) & counted).sum()
        ious.append(both / either)
    assert values.metrics["miou"] == pytest.approx(np.mean(ious))
    assert values.metrics["oa"] == pytest.approx((found == truth)[counted].mean())
    shares = np.bincount(truth[counted], minlength=len(CLASSES)) / counted.sum()
    assert values.metrics["fw_iou"] == pytest.approx((shares * ious).sum())


def test_without_a_labelled_pixel_scores_are_unknown_and_not_zero():
    task = SegmentationTask(configure(), CLASSES)
    metrics = task.metrics()
    targets = torch.full((2, *SIZE), IGNORE, dtype=torch.uint8)
    logits, _ = draw(2, 0)
    everything = torch.ones(2, dtype=torch.bool)
    losses = task.loss(logits, targets, training=False)
    metrics.update(task.predict(logits), targets, everything, losses)
    values = metrics.values().metrics
    assert values["loss"] == 0
    assert all(math.isnan(values[name]) for name in values if name != "loss")


LOSSES = [{"cross_entropy": 1.0}, {"focal": 1.0}, {"dice": 1.0}, {"lovasz": 1.0},
          {"cross_entropy": 0.5, "dice": 2.0}]  # fmt: skip


@pytest.mark.parametrize("losses", LOSSES)
def test_ignored_pixels_have_no_loss_and_no_gradient(losses: dict[str, float]):
    task = SegmentationTask(configure(losses=losses), CLASSES)
    logits, targets = draw(2, 1)
    logits.requires_grad_()
    value = task.loss(logits, targets, training=True)
    value.sum().backward()
    assert logits.grad is not None and value.shape == (2,) and (value > 0).all()
    ignored = (targets == IGNORE)[:, None].expand_as(logits)
    assert (logits.grad[ignored] == 0).all() and (logits.grad[~ignored] != 0).any()
    other = torch.where(ignored, torch.full_like(logits, 3.0), logits)
    assert torch.allclose(task.loss(other, targets, training=True), value)


@pytest.mark.parametrize("losses", LOSSES)
def test_a_perfect_prediction_has_no_loss_and_a_row_none_of_the_others(losses: dict[str, float]):
    task = SegmentationTask(configure(losses=losses), CLASSES)
    logits, targets = draw(3, 2)
    known = torch.where(targets == IGNORE, 0, targets).long()
    perfect = F.one_hot(known, len(CLASSES)).permute(0, 3, 1, 2) * 60.0
    assert (task.loss(perfect, targets, training=False) < 1e-4).all()
    alone = [task.loss(logits[n : n + 1], targets[n : n + 1], training=False) for n in range(3)]
    assert torch.allclose(torch.cat(alone), task.loss(logits, targets, training=False))


def test_lovasz_is_that_of_its_paper():
    """Equation 9 of Berman et al. 2018, class by class and pixel by pixel."""
    logits, targets = draw(1, 3)
    shares = logits.softmax(1)[0].double().flatten(1).numpy()
    truth = targets.flatten().numpy()
    counted = truth != IGNORE
    losses = []
    for label in range(len(CLASSES)):
        own = (truth[counted] == label).astype(float)
        errors = np.abs(own - shares[label][counted])
        order = np.argsort(-errors)
        wrong: set[int] = set()
        jaccard = [0.0]
        for pixel in order.tolist():
            wrong.add(pixel)
            missed = {p for p in wrong if own[p]}
            added = {p for p in wrong if not own[p]}
            jaccard.append(1 - (own.sum() - len(missed)) / (own.sum() + len(added)))
        losses.append((errors[order] * np.diff(jaccard)).sum())
    assert pixel_losses.lovasz(logits, targets.long()).item() == pytest.approx(
        np.mean(losses), rel=1e-5
    )


def test_balanced_weights_are_inverse_to_the_root_of_a_class_share():
    task = SegmentationTask(configure(class_weights="balanced"), "ab", (100, 400))
    assert task._weights is not None
    assert task._weights.tolist() == pytest.approx([4 / 3, 2 / 3])
    with pytest.raises(ConfigError, match=r"class_weights: has 3 weights, and the data set 2 "):
        SegmentationTask(configure(class_weights=[1, 2, 3]), "ab")


@pytest.mark.parametrize("size", [(6, 6), (4, 6)])
def test_views_are_turned_back(size: tuple[int, int]):
    image = torch.arange(2 * 3 * size[0] * size[1]).view(2, 3, *size).float()
    views = list(turned_views(image))
    assert len(views) == (8 if size[0] == size[1] else 4)
    for number, view in enumerate(views):
        assert torch.equal(unturn(view, number), image)


def test_boundaries_within_the_tolerance_are_found():
    truth = torch.zeros((1, 12, 12), dtype=torch.uint8)
    truth[:, :, 6:] = 1
    for shift, near in ((0, True), (2, True), (5, False)):
        found = torch.zeros_like(truth)
        found[:, :, 6 + shift :] = 1
        predicted, right, true, met = boundary_counts(found, truth, 2)[0].tolist()
        assert predicted == true == 24  # one pixel on each side of the edge
        assert (right == 24, met == 24) == (near, near)
    ignored = truth.clone()
    ignored[:, :, 5:7] = IGNORE
    assert not find_boundaries(ignored, ignored != IGNORE).any()


def test_a_boundary_f1_without_a_hit_is_0_and_without_boundaries_unknown():
    task = SegmentationTask(configure(boundary_px=1), "ab")
    truth = torch.zeros((1, 16, 16), dtype=torch.uint8)
    truth[:, :, 12:] = 1
    missed = torch.zeros((1, 16, 16), dtype=torch.int64)
    missed[:, :, 3:] = 1
    for found, targets, wanted in (
        (missed, truth, 0.0),
        (missed * 0, truth, 0.0),
        (truth.long(), truth, 1.0),
        (missed * 0, truth * 0, None),
    ):
        metrics = task.metrics()
        metrics.update(found, targets, torch.ones(1, dtype=torch.bool), torch.zeros(1))
        value = metrics.values().metrics["boundary_f1"]
        assert math.isnan(value) if wanted is None else value == wanted


@given(seed=st.integers(0, 20), weight=st.sampled_from([0.4, 1.0]))
def test_the_loss_of_a_second_head_is_added_row_by_row(seed: int, weight: float):
    losses = {"cross_entropy": 1.0, "dice": 0.5}
    alone = SegmentationTask(configure(losses=losses), CLASSES)
    both = SegmentationTask(configure(losses=losses, auxiliary_weight=weight), CLASSES)
    (logits, targets), (second, _) = draw(6, seed), draw(6, seed + 100)
    whole = both.loss((logits, second), targets, training=True)
    main, other = (alone.loss(each, targets, training=True) for each in (logits, second))
    assert torch.allclose(whole, main + weight * other)
    # A row has the same loss in any batch, so that ranks and micro-batches add up.
    parts = [both.loss((logits[r], second[r]), targets[r], training=True)
             for r in (slice(0, 1), slice(1, 6))]  # fmt: skip
    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)
    # In evaluation there is one head alone.
    assert torch.equal(both.loss(logits, targets, training=False),
                       alone.loss(logits, targets, training=False))  # fmt: skip
    assert both.config.for_inference().auxiliary_weight == 0
