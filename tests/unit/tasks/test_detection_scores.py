"""Which detections are right, and what is wrong with the others."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rsdl.data.targets.objects import DIFFICULT, IGNORED, WIDTH
from rsdl.tasks.detection_scores import (
    ERRORS,
    MAX_OBJECTS,
    UNCOUNTED,
    DetectionCounts,
    best_scores,
    count_errors,
    detection_columns,
    match_image,
    object_rows,
)

CLASSES = 3
SHIP, PLANE = 0, 1
Rows = NDArray[np.float32]


def rows(*each: tuple[float, ...]) -> Rows:
    return np.array(each, np.float32).reshape(-1, 7)


def draw_objects(seed: int, number: int) -> Rows:
    """Objects on a grid of 100 px, so that none touches another."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(400)[:number]
    return np.stack([
        100 * (places % 20) + 50, 100 * (places // 20) + 50, *rng.uniform(15, 60, (2, number)),
        rng.uniform(-2, 2, number), rng.integers(0, CLASSES, number), np.zeros(number),
    ], axis=1).astype(np.float32)  # fmt: skip


def detect(objects: Rows, scores: float | NDArray[Any]) -> Rows:
    """Return the detections of a detector that sees the objects as they are."""
    return np.insert(objects[:, :6], 5, scores, axis=1).astype(np.float32)


def count(detections: Rows, objects: Rows, at: float = 0.0) -> DetectionCounts:
    image = match_image(detections, objects, oriented=True)
    return count_errors([image], np.full(CLASSES, at), CLASSES)


def kinds_of(counts: DetectionCounts) -> dict[str, int]:
    named = dict(zip(ERRORS, counts.errors.sum(0).tolist(), strict=True))
    every = named | {"missed": int(counts.missed.sum())}
    return {kind: number for kind, number in every.items() if number}


@pytest.mark.parametrize("oriented", [True, False])
def test_a_detector_that_is_given_the_truth_makes_no_error(oriented: bool):
    images = []
    for seed in range(4):
        objects = draw_objects(seed, 30)
        scores = np.random.default_rng(seed).uniform(0.1, 1, 30)
        images.append(match_image(detect(objects, scores), objects, oriented=oriented))
    best = best_scores(images, CLASSES)
    assert (best.f1 == 1).all() and (best.precision == 1).all() and (best.recall == 1).all()
    counts = count_errors(images, best.score, CLASSES)
    assert kinds_of(counts) == {} and counts.confusion.sum() == 120
    assert (counts.confusion == np.diag(np.diag(counts.confusion))).all()
    assert not counts.unmatched_objects.any() and not counts.unmatched_detections.any()
    assert (counts.images == [[30, 0, 0]] * 4).all()
    assert (counts.objects == counts.found).all() and counts.objects.sum() == 120


SHIP_AT = (100.0, 100.0, 40.0, 20.0, 0.5)
MOVED = (110.0, 110.0, 40.0, 20.0, 0.5)  # an IoU of about 0.4
AWAY = (500.0, 500.0, 40.0, 20.0, 0.5)
ONE_SHIP = rows((*SHIP_AT, SHIP, 0))


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ([(*SHIP_AT, 0.9, SHIP)], {}),
        ([], {"missed": 1}),
        ([(*AWAY, 0.9, SHIP)], {"background": 1, "missed": 1}),
        ([(*SHIP_AT, 0.9, PLANE)], {"label": 1}),
        ([(*MOVED, 0.9, SHIP)], {"place": 1}),
        ([(*MOVED, 0.9, PLANE)], {"both": 1, "missed": 1}),
        ([(*SHIP_AT, 0.9, SHIP), (*SHIP_AT, 0.8, SHIP)], {"duplicate": 1}),
        ([(*SHIP_AT, 0.9, SHIP), (*SHIP_AT, 0.8, PLANE)], {"label": 1}),
    ],
)
def test_every_kind_of_error_is_told(detections: list[tuple[float, ...]], expected: dict[str, int]):
    assert kinds_of(count(rows(*detections), ONE_SHIP)) == expected


def test_every_object_and_every_detection_is_once_in_the_matrix():
    rng = np.random.default_rng(0)
    objects = draw_objects(1, 200)
    detections = detect(objects, rng.uniform(0.01, 1, 200))
    detections[:, :2] += rng.normal(0, 12, (200, 2))
    detections[rng.random(200) < 0.3, 6] = PLANE
    detections = np.concatenate([detections, detections[:50]])
    for at in (0.0, 0.5):
        counts = count(detections, objects, at)
        true = np.bincount(objects[:, 5].astype(int), minlength=CLASSES)
        said = np.bincount(detections[detections[:, 5] >= at, 6].astype(int), minlength=CLASSES)
        assert (counts.confusion.sum(1) + counts.unmatched_objects == true).all()
        assert (counts.confusion.sum(0) + counts.unmatched_detections == said).all()
        found, wrong, missed = counts.images[0]
        assert found == np.trace(counts.confusion) == counts.found.sum()
        assert wrong == counts.errors.sum() == said.sum() - found
        assert found + missed == 200 == counts.objects.sum()


def test_the_order_of_detections_changes_nothing():
    objects = draw_objects(2, 60)
    detections = np.concatenate([detect(objects, np.linspace(0.1, 0.5, 60))] * 2)
    detections[60:, 5] += 0.4
    shuffled = detections[np.random.default_rng(0).permutation(120)]
    one, other = count(detections, objects), count(shuffled, objects)
    assert (one.errors == other.errors).all() and one.errors.sum() == 60


@pytest.mark.parametrize("mark", [DIFFICULT, IGNORED])
def test_what_is_difficult_or_ignored_is_neither_right_nor_wrong(mark: int):
    objects = rows((*SHIP_AT, SHIP, mark))
    detections = rows((*SHIP_AT, 0.9, SHIP), (*SHIP_AT, 0.8, SHIP))
    assert (match_image(detections, objects, oriented=True).matches == UNCOUNTED).all()
    for found in (detections, rows()):
        counts = count(found, objects)
        assert kinds_of(counts) == {} and not counts.unmatched_objects.any()
        assert counts.images.tolist() == [[0, 0, 0]]


def test_a_detection_inside_of_an_ignored_region_does_not_count():
    objects = rows((500, 500, 1000, 1000, 0, SHIP, IGNORED), (*SHIP_AT, SHIP, 0))
    detections = rows((*SHIP_AT, 0.9, SHIP), (400, 400, 10, 10, 0.3, 0.8, SHIP))
    assert match_image(detections, objects, oriented=True).matches.tolist() == [1, UNCOUNTED]


def test_the_score_of_best_f1_leaves_out_what_is_worse():
    objects = draw_objects(3, 20)
    objects[:, 5] = SHIP
    right, wrong = detect(objects, 0.7), detect(objects, 0.2)
    wrong[:, :2] += 5000
    image = match_image(np.concatenate([right, wrong]), objects, oriented=True)
    best = best_scores([image], CLASSES)
    assert best.score[SHIP] == pytest.approx(0.7) and best.f1[SHIP] == 1
    # A class of which nothing is right takes the score over all classes.
    assert best.score[PLANE] == best.score[SHIP] and np.isnan(best.precision[PLANE])


def test_nothing_at_all_is_counted_as_nothing():
    image = match_image(rows(), rows(), oriented=True)
    best = best_scores([image], CLASSES)
    assert np.isnan(best.f1).all()
    assert kinds_of(count_errors([image], best.score, CLASSES)) == {}
    assert kinds_of(count_errors([], best.score, CLASSES)) == {}


def test_sizes_are_those_of_the_box():
    objects = rows(
        (100, 100, 20, 20, 0, SHIP, 0),
        (300, 300, 60, 60, 1, SHIP, 0),
        (700, 700, 200, 99, 2, SHIP, 0),
    )
    counts = count(detect(objects[1:], 0.5), objects)
    assert counts.objects[SHIP].tolist() == [1, 1, 1] and counts.found[SHIP].tolist() == [0, 1, 1]


def test_columns_have_one_size_and_keep_what_a_task_learns():
    targets = torch.zeros(2, 16, WIDTH)
    targets[..., 9] = -1
    targets[0, 0] = torch.tensor([50, 50, 40, 20, 0.5, 30, 40, 70, 62, 2, DIFFICULT])
    columns = detection_columns(torch.zeros(2, 5, 7), targets, oriented=False)
    assert columns["objects"].shape == (2, MAX_OBJECTS, 7)
    assert columns["objects"][0, 0].tolist() == [50, 51, 40, 22, 0, 2, DIFFICULT]
    assert (columns["objects"][1, :, 5] == -1).all() and (columns["objects"][0, 1:, 5] == -1).all()
    oriented = object_rows(targets, oriented=True)
    assert oriented[0, 0].tolist() == [50, 50, 40, 20, 0.5, 2, DIFFICULT]
