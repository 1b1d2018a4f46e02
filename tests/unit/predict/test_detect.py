"""Objects of a scene are found once, whatever the windows, their order and the batch."""

from pathlib import Path

import numpy as np
import pytest

from rsdl.data.targets.objects import rectangle_corners
from rsdl.predict.detect import MergeRule, Seen, detect_scene, merge_detections
from rsdl.predict.scene import WindowRule
from rsdl.raster.scenes import Scene, SceneRules, describe_scenes
from tests.unit.predict.objects import find_boxes, paint, scatter, write_scene

SIZE = (300, 410)
RULE = WindowRule((96, 96), 40, blend=True)
MERGE = MergeRule(0.5, oriented=True)


def describe(path: Path) -> Scene:
    return describe_scenes([path], SceneRules(georeferenced=False))[0]


def place_of(rows: np.ndarray) -> np.ndarray:
    """Return boxes with a canonical order and the angle in a quarter turn."""
    order = np.lexsort(rows[:, :2].round(1).T)
    return rows[order]


def outlines(boxes: np.ndarray) -> np.ndarray:
    """Return low and high corners, which no choice of width and height changes."""
    corners = rectangle_corners(boxes)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    boxes, labels = scatter(SIZE, 32, step=44, oriented=True)
    return describe(write_scene(tmp_path / "a.tif", paint(SIZE, boxes, labels)))


@pytest.mark.parametrize("oriented", [False, True])
def test_objects_of_windows_are_those_of_the_whole_image(tmp_path: Path, oriented: bool):
    boxes, labels = scatter(SIZE, 32, step=44, oriented=oriented)
    image = paint(SIZE, boxes, labels)
    scene = describe(write_scene(tmp_path / "a.tif", image))

    def detect(windows: np.ndarray) -> list[np.ndarray]:
        return find_boxes(windows, oriented=oriented)

    found = detect_scene(scene, detect, RULE, MergeRule(0.5, oriented), batch_size=4)
    wanted = find_boxes(image[None], oriented=oriented)[0]
    mine = np.column_stack([outlines(found.boxes), found.scores, found.labels])
    theirs = np.column_stack([outlines(wanted[:, :5]), wanted[:, 5:]])
    assert len(mine) == len(boxes)
    assert found.num_cut == 0
    np.testing.assert_allclose(place_of(mine), place_of(theirs), atol=1e-3)


@pytest.mark.parametrize("batch_size", [2, 7, 100])
def test_the_result_does_not_depend_on_the_batch(scene: Scene, batch_size: int):
    one = detect_scene(scene, find_boxes, RULE, MERGE, batch_size=1)
    other = detect_scene(scene, find_boxes, RULE, MERGE, batch_size=batch_size)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("oriented", [False, True])
def test_the_result_does_not_depend_on_the_order_of_detections(oriented: bool):
    rng = np.random.default_rng(3)
    found = np.column_stack(
        [
            rng.uniform(0, 60, (200, 2)), rng.uniform(4, 12, (200, 2)), rng.uniform(0, 3, 200),
            rng.integers(1, 5, 200) / 5, rng.integers(0, 2, 200), np.zeros(200),
        ]
    )  # fmt: skip
    found = np.concatenate([found, found[:20]])  # found by two windows alike
    rule = MergeRule(0.3, oriented)
    first = merge_detections(found, rule, Seen(9, 9))
    for _ in range(3):
        again = merge_detections(rng.permutation(found), rule, Seen(9, 9))
        np.testing.assert_array_equal(first.boxes, again.boxes)
        np.testing.assert_array_equal(first.scores, again.scores)


@pytest.mark.parametrize("shift", range(0, 60, 4))
def test_an_object_on_a_seam_is_found_once_and_whole(tmp_path: Path, shift: int):
    box = np.array([[60.5 + shift, 150, 36, 20, 0]])
    image = paint(SIZE, box, np.array([1]))
    scene = describe(write_scene(tmp_path / "a.tif", image))
    found = detect_scene(scene, find_boxes, RULE, MERGE, batch_size=8)
    whole = find_boxes(image[None])[0]
    np.testing.assert_allclose(outlines(found.boxes), outlines(whole[:, :5]), atol=1e-3)


def test_an_object_larger_than_the_overlap_is_counted_as_cut_and_one_at_the_border_is_not(
    tmp_path: Path,
):
    boxes = np.array([[200, 150, 250, 20, 0], [10, 250, 40, 20, 0]])
    scene = describe(write_scene(tmp_path / "a.tif", paint(SIZE, boxes, np.array([1, 2]))))
    found = detect_scene(scene, find_boxes, RULE, MERGE, batch_size=8)
    assert found.num_cut == (found.labels == 1).sum() > 1
    assert (found.labels == 2).sum() == 1


def test_windows_without_data_are_not_computed_and_objects_there_are_none(tmp_path: Path):
    boxes, labels = scatter(SIZE, 32, step=44, oriented=True)
    image = paint(SIZE, boxes, labels)
    image[:, 200:] = 0
    scene = describe(write_scene(tmp_path / "a.tif", image, nodata=0))
    seen = []

    def detect(windows: np.ndarray) -> list[np.ndarray]:
        seen.append(len(windows))
        # What lies in the nodata of a window is no object.
        more = [[90.0, 50, 5, 5, 0, 0.9, 0], [5.0, 50, 5, 5, 0, 0.9, 0]]
        return [np.concatenate([rows, more]) for rows in find_boxes(windows)]

    found = detect_scene(scene, detect, RULE, MERGE, batch_size=3)
    assert sum(seen) == 5 * 4  # of 5 x 7: those that begin before column 200
    assert found.boxes[:, 0].max() < 200
    assert found.seen[:, :200].all()
    assert not found.seen[:, 200:].any()


def test_a_scene_smaller_than_a_window_has_its_objects_and_not_their_mirror_images(
    tmp_path: Path,
):
    box = np.array([[30.5, 50.5, 20, 10, 0]])
    image = paint((70, 50), box, np.array([2]))
    scene = describe(write_scene(tmp_path / "a.tif", image))
    found = detect_scene(scene, find_boxes, RULE, MERGE, batch_size=1)
    np.testing.assert_allclose(
        outlines(found.boxes), outlines(find_boxes(image[None])[0][:, :5]), atol=1e-3
    )
