"""Geometry of boxes against shapely, and suppression against its definition."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsdl.data.targets.corners import rectangle_corners
from rsdl.data.targets.rectangles import box_areas, corners, hulls
from rsdl.tasks.boxes import (
    aligned_giou,
    box_iou,
    nms,
    prob_iou,
)
from rsdl.tasks.near_pairs import near_pairs

rotated_iou = partial(box_iou, oriented=True)
aligned_iou = partial(box_iou, oriented=False)


def draw_pairs(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return pairs of boxes at up to 30,000 px; of every ten, nine are of some special kind."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(number, generator=generator) * (high - low) + low

    one = torch.stack(
        [
            uniform(0, 30000),
            uniform(0, 30000),
            uniform(0, 9).exp2(),
            uniform(0, 9).exp2(),
            uniform(-math.pi, math.pi),
        ],
        -1,
    )
    other = torch.stack(
        [
            one[:, 0] + uniform(-40, 40),
            one[:, 1] + uniform(-40, 40),
            uniform(0, 9).exp2(),
            uniform(0, 9).exp2(),
            uniform(-math.pi, math.pi),
        ],
        -1,
    )
    kind = torch.arange(number) % 10
    other[kind == 1] = one[kind == 1]  # the same
    other[kind == 2, 2:] = one[kind == 2, 2:]  # shifted
    other[kind == 3, :4] = one[kind == 3, :4]  # turned by a quarter
    other[kind == 3, 4] = one[kind == 3, 4] + math.pi / 2
    other[kind == 4] = one[kind == 4] * torch.tensor([1, 1, 0.5, 1, 1])  # two edges coincide
    beside = one[kind == 5]  # one edge coincides from outside
    beside[:, 0] += beside[:, 2] * beside[:, 4].cos()
    beside[:, 1] += beside[:, 2] * beside[:, 4].sin()
    other[kind == 5] = beside
    for box in (one, other):
        box[kind == 6] = box[kind == 6].round()  # upright on a grid
        box[kind == 6, 4] = 0
    other[kind == 7, 2] = 0  # without width
    one[kind == 8, 2], other[kind == 8, 3] = 3000, 2000  # long
    return one, other


def polygon_iou(one: Tensor, other: Tensor) -> np.ndarray:
    first = shapely.polygons(corners(one.double()).numpy())
    second = shapely.polygons(corners(other.double()).numpy())
    common = shapely.area(shapely.intersection(first, second))
    union = shapely.area(first) + shapely.area(second) - common
    return common / np.maximum(union, 1e-12)


def test_rotated_iou_is_that_of_polygons():
    one, other = draw_pairs(100_000)
    expected = polygon_iou(one, other)
    assert (expected > 0.05).mean() > 0.3
    for first, second in ((one, other), (other, one)):
        np.testing.assert_allclose(rotated_iou(first, second), expected, atol=1e-4)
    exact = rotated_iou(one.double(), other.double())
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(exact, expected, atol=1e-8)


def test_upright_iou_is_that_of_polygons():
    one, other = (box * torch.tensor([1, 1, 1, 1, 0]) for box in draw_pairs(20_000, seed=1))
    expected = polygon_iou(one, other)
    np.testing.assert_allclose(aligned_iou(one, other), expected, atol=1e-4)
    np.testing.assert_allclose(rotated_iou(one, other), expected, atol=1e-4)


def test_giou_falls_with_the_gap():
    here = torch.tensor([50.0, 50, 10, 10, 0])
    gaps = torch.tensor([0.0, 5, 10, 20, 100])
    there = here + gaps[:, None] * torch.tensor([1, 0, 0, 0, 0])
    # By hand: union 200, 200 and 200 of a hull of 200, 300 and 1100 from a gap of 10 on.
    expected = torch.tensor([1, 50 / 150, 0, -100 / 300, -900 / 1100])
    torch.testing.assert_close(aligned_giou(here, there), expected)


def test_prob_iou_is_one_minus_the_hellinger_distance_of_gaussians():
    one, other = draw_pairs(10_000, seed=2)
    kept = other[:, 2] > 0
    one, other = one[kept].double(), other[kept].double()

    def covariance(boxes: Tensor) -> Tensor:
        turn = torch.stack([boxes[:, 4].cos(), -boxes[:, 4].sin()], -1)
        axes = torch.stack([turn, torch.stack([-turn[:, 1], turn[:, 0]], -1)], -2)
        return axes @ torch.diag_embed(boxes[:, 2:4].square() / 12) @ axes.transpose(-1, -2)

    ours, theirs = covariance(one), covariance(other)
    mean, offset = (ours + theirs) / 2, (one - other)[:, :2, None]
    apart = (offset.transpose(-1, -2) @ torch.linalg.solve(mean, offset)).flatten() / 8
    shape = torch.logdet(mean) - (torch.logdet(ours) + torch.logdet(theirs)) / 2
    expected = 1 - (1 - torch.exp(-(apart + shape / 2))).clamp(min=0).sqrt()
    torch.testing.assert_close(prob_iou(one, other), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        prob_iou(one.float(), other.float()).double(), expected, atol=2e-3, rtol=0
    )


def test_gradients_are_those_of_the_function():
    one, other = (box[::10].double()[:40] % 100 + 1 for box in draw_pairs(400, seed=3))
    for measure in (rotated_iou, prob_iou, aligned_giou):
        one.requires_grad_()
        assert torch.autograd.gradcheck(measure, (one, other.requires_grad_()), atol=1e-4)


def test_gradients_are_finite_where_boxes_are_degenerate():
    one, other = draw_pairs(10_000, seed=4)
    for measure in (rotated_iou, prob_iou, aligned_iou, aligned_giou):
        first, second = one.clone().requires_grad_(), other.clone().requires_grad_()
        measure(first, second).sum().backward()
        assert first.grad is not None and second.grad is not None
        assert first.grad.isfinite().all() and second.grad.isfinite().all()


def test_half_types_are_computed_in_float32():
    one, other = (box[:100].half() for box in draw_pairs(100, seed=5))
    for measure in (rotated_iou, prob_iou, aligned_iou, aligned_giou):
        value = measure(one, other)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, measure(one.float(), other.float()))


def test_geometry_is_one_graph():
    one, other = draw_pairs(50, seed=6)

    def measure(first: Tensor, second: Tensor) -> Tensor:
        exact = rotated_iou(first[:, None], second[None])
        return exact + prob_iou(first[:, None], second[None]) + aligned_giou(first, second)

    compiled = torch.compile(measure, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(one, other), measure(one, other))


def test_corners_are_those_of_the_targets():
    boxes, _ = draw_pairs(100, seed=7)
    np.testing.assert_allclose(corners(boxes), rectangle_corners(boxes.numpy()), atol=1e-2)
    sides, around = hulls(boxes.double(), oriented=True), corners(boxes.double())
    torch.testing.assert_close(sides, torch.cat([around.amin(1), around.amax(1)], -1))
    torch.testing.assert_close(box_areas(boxes), boxes[:, 2] * boxes[:, 3])


def draw_detections(seed: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes that overlap, with equal scores and copies among them."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(number, 5, generator=generator) * torch.tensor([200, 200, 50, 20, 3])
    boxes[:, 2:4] += 2
    boxes[: number // 5] = boxes[number - number // 5 :]
    scores = (torch.rand(number, generator=generator) * 20).round() / 20
    return boxes, scores, torch.randint(0, 3, (number,), generator=generator)


def brute_force(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, *, oriented: bool
) -> list[int]:
    """Return what suppression keeps by its definition, ties by label and box."""
    table = box_iou(boxes.double()[:, None], boxes.double()[None], oriented=oriented)
    order = sorted(
        range(len(boxes)),
        key=lambda row: (-float(scores[row]), int(labels[row]), boxes[row].tolist()),
    )
    kept: list[int] = []
    for row in order:
        if all(labels[row] != labels[better] or table[better, row] <= iou for better in kept):
            kept.append(row)
    return kept


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 100), st.sampled_from([0.02, 0.1, 0.5]), st.booleans())
def test_nms_is_the_greedy_one_in_any_order(seed: int, number: int, iou: float, oriented: bool):
    boxes, scores, labels = draw_detections(seed, number)
    kept = nms(boxes, scores, labels, iou, oriented=oriented)
    assert kept.tolist() == brute_force(boxes, scores, labels, iou, oriented=oriented)
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    again = order[nms(boxes[order], scores[order], labels[order], iou, oriented=oriented)]
    for column in (boxes, scores, labels):
        assert torch.equal(column[kept], column[again])


def test_nms_does_not_depend_on_where_the_scene_lies():
    boxes, scores, labels = draw_detections(1, 2000)
    boxes = (boxes * torch.tensor([64, 64, 64, 64, 1])).round() / 64  # exact in float32 far away
    boxes[:, :2] *= 4
    kept = nms(boxes, scores, labels, 0.3, oriented=True)
    moved = boxes + torch.tensor([16384, 8192, 0, 0, 0])
    assert 100 < len(kept) < 1900
    assert torch.equal(nms(moved, scores, labels, 0.3, oriented=True), kept)


@pytest.mark.parametrize("chunk", [1, 100])
def test_nms_does_not_depend_on_how_many_pairs_are_held(
    chunk: int, monkeypatch: pytest.MonkeyPatch
):
    boxes, scores, labels = draw_detections(2, 500)
    kept = nms(boxes, scores, labels, 0.3, oriented=True)
    monkeypatch.setattr("rsdl.tasks.near_pairs.CHUNK", chunk)
    assert torch.equal(nms(boxes, scores, labels, 0.3, oriented=True), kept)


def test_nms_of_equal_boxes_needs_no_pairs(monkeypatch: pytest.MonkeyPatch):
    held: list[int] = []

    def count(hulls: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        held.append(len(hulls))
        yield from near_pairs(hulls, groups)

    monkeypatch.setattr("rsdl.tasks.boxes.near_pairs", count)
    boxes = torch.tensor([[50, 50, 20, 10, 0.3]]).repeat(3000, 1)
    scores, labels = torch.linspace(0, 1, 3000), torch.arange(3000) % 2
    assert nms(boxes, scores, labels, 0.3, oriented=True).tolist() == [2999, 2998]
    assert held == [2]


def test_a_box_that_is_not_finite_suppresses_nothing():
    boxes, scores, labels = draw_detections(3, 100)
    kept = nms(boxes, scores, labels, 0.3, oriented=True).tolist()
    boxes = torch.cat([boxes, torch.tensor([[math.inf, 0, 1, 1, 0], [0, 0, math.nan, 1, 0]])])
    scores, labels = torch.cat([scores, torch.zeros(2) - 1]), torch.cat([labels, labels[:2]])
    assert nms(boxes, scores, labels, 0.3, oriented=True).tolist()[: len(kept)] == kept
