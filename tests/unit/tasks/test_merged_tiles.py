"""Tiles of an image are merged to the detections and objects of the image."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rsdl.data.targets.objects import (
    IGNORED,
    Objects,
    make_objects,
    rectangle_corners,
    visible_shares,
)
from rsdl.tasks.base import Place
from rsdl.tasks.merged_tiles import merge_detections, merge_objects, score_merged
from tests.unit.tasks.detections import draw_split, evaluate_split

TILE, OVERLAP, SCENE = 256, 100, 568
STARTS = (0, 156, 312)
CLASSES = 3
NETWORK = 128  # px that the network sees a tile as


def draw_scene(seed: int, *, oriented: bool) -> Objects:
    """Objects that do not touch each other, and some that the scene's edge cuts."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(7), np.arange(7)), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([
        place * 80 + 42, rng.uniform(16, 56, (49, 2)),
        rng.uniform(-1.5, 1.5, (49, 1)) * oriented,
    ], axis=1)  # fmt: skip
    labels = rng.integers(0, CLASSES, 49)
    return make_objects(rectangle_corners(boxes), labels, (SCENE, SCENE))


def cut(scene: Objects, row: int, col: int) -> Objects:
    corners = scene.corners - np.array((col, row), np.float32)
    shares = visible_shares(corners, TILE, TILE)
    flags = np.where(shares < 0.7, IGNORED, 0)
    seen = shares >= 0.3
    return make_objects(corners[seen], scene.labels[seen], (TILE, TILE), flags[seen], shares[seen])


def tiles_of(scene: Objects, name: str) -> list[Place]:
    scale = (TILE / NETWORK, TILE / NETWORK)
    return [
        Place(name, (row, col), scale, cut(scene, row, col)) for row in STARTS for col in STARTS
    ]


def detect(scene: Objects, place: Place, *, oriented: bool) -> NDArray[np.float32]:
    """Return what a detector sees in a tile: the part of each object that is in it."""
    found = np.zeros((100, 7), np.float32)
    found[:, 6] = -1
    tile = cut(scene, *place.corner)
    boxes = merge_objects([place._replace(corner=(0, 0), target=tile)])
    if oriented:
        found[: len(boxes), :5] = boxes[:, :5]
    else:
        low, high = boxes[:, 5:7].clip(0, TILE), boxes[:, 7:9].clip(0, TILE)
        found[: len(boxes), :4] = np.concatenate([(low + high) / 2, high - low], axis=1)
    found[: len(boxes), :4] /= place.scale[0]
    found[: len(boxes), 5], found[: len(boxes), 6] = 0.9, boxes[:, 9]
    return found


@pytest.mark.parametrize("oriented", [True, False])
def test_a_detector_that_is_given_the_truth_is_perfect_after_merging(oriented: bool):
    scenes = {name: draw_scene(seed, oriented=oriented) for seed, name in enumerate("ab")}
    places = [place for name, scene in scenes.items() for place in tiles_of(scene, name)]
    found = np.stack([detect(scenes[p.image], p, oriented=oriented) for p in places])
    merged = score_merged(found, places, CLASSES, nms_iou=0.3, oriented=oriented)
    assert merged is not None and (merged.num_images, merged.num_objects) == (2, 98)
    assert {name: value for name, value in merged.metrics.items() if "large" not in name} == {
        name: 1 for name in merged.metrics if "large" not in name
    }
    order = np.random.default_rng(0).permutation(len(places))
    shuffled = score_merged(
        found[order], [places[k] for k in order], CLASSES, nms_iou=0.3, oriented=oriented
    )
    assert shuffled == merged


def test_every_object_of_an_image_is_there_once_as_it_was():
    scene = draw_scene(3, oriented=True)
    rows = merge_objects(tiles_of(scene, "a"))
    assert len(rows) == len(scene.labels)
    centres = scene.corners.mean(axis=1)
    nearest = np.abs(rows[:, None, :2] - centres[None]).sum(axis=2).argmin(axis=1)
    assert sorted(nearest) == list(range(len(rows)))
    assert np.abs(rows[:, :2] - centres[nearest]).max() < 0.01
    assert (rows[:, 9] == scene.labels[nearest]).all() and not rows[:, 10].any()


def test_what_an_edge_cuts_is_left_to_the_tile_that_sees_all_of_it():
    scene = make_objects(rectangle_corners(np.array([[250, 100, 40, 20, 0]])), [0], (256, 412))
    places = tiles_of(scene, "a")[:2]  # the first shows it to column 256
    found = np.stack([detect(scene, place, oriented=False) for place in places])
    (row,) = merge_detections(found, places, nms_iou=0.9, oriented=False)
    assert row[:4].tolist() == [250, 100, 40, 20]
    (alone,) = merge_detections(found[:1], places[:1], nms_iou=0.9, oriented=False)
    assert alone[:4].tolist() == [243, 100, 26, 20]


def test_an_evaluation_has_scores_of_whole_images_if_samples_are_tiles():
    split = draw_split(2, 4)
    assert evaluate_split(split).merged is None
    corners = torch.from_numpy(split.targets)
    places = []
    for number, rows in enumerate(corners.numpy()):
        rows = rows[rows[:, 9] >= 0]
        objects = make_objects(rectangle_corners(rows[:, :5]), rows[:, 9].astype(int), (256, 256))
        corner = (0, 256 * (number % 2))
        places.append(Place(f"scene{number // 2}", corner, (1.0, 1.0), objects))
    evaluation = evaluate_split(split, places)
    alone = [place._replace(image=str(number)) for number, place in enumerate(places)]
    assert evaluate_split(split, alone).merged is None  # whole images are no tiles
    assert evaluation.merged is not None and evaluation.merged.num_images == 2
    assert evaluation.merged.metrics["ap50"] == pytest.approx(evaluation.metrics["ap50"], abs=0.02)
