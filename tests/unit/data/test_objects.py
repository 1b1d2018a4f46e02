"""Objects: stored without loss, cropped and turned as their images are."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.data.dihedral import apply_dihedral, draw_dihedral
from rsdl.data.resize import resize_into
from rsdl.data.targets.base import Dihedral, Window
from rsdl.data.targets.corners import (
    areas,
    box_corners,
    rectangle_corners,
    smallest_rectangles,
    visible_shares,
)
from rsdl.data.targets.objects import (
    DIFFICULT,
    FLAGS,
    HULL,
    IGNORED,
    LABEL,
    RECTANGLE,
    WIDTH,
    ObjectList,
    Objects,
    make_objects,
)

KIND = ObjectList()
SIDE = 64


def scatter(seed: int, count: int = 6, side: float = SIDE) -> Objects:
    """Return rectangles of any angle, some of them partly outside of the image."""
    random = np.random.default_rng(seed)
    rectangles = np.stack(
        [*random.uniform(0, side, (2, count)), *random.uniform(4, side / 2, (2, count)),
         random.uniform(-np.pi, np.pi, count)], axis=1,
    )  # fmt: skip
    flags = random.integers(0, 4, count)
    corners = rectangle_corners(rectangles)
    return make_objects(corners, random.integers(0, 5, count), (int(side), int(side)), flags)


def paint(corners: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of filled polygons."""
    canvas = np.zeros((height, width), np.uint8)
    for each in corners:
        cv2.fillPoly(canvas, [np.round((each - 0.5) * 256).astype(np.int32)], 255, shift=8)
    return canvas


def differ(one: NDArray[np.uint8], other: NDArray[np.uint8], edge: int = 1) -> float:
    """Return the share of pixels that differ more than by an edge of some pixels."""
    kernel = np.ones((2 * edge + 1, 2 * edge + 1), np.uint8)
    low, high = cv2.erode(one, kernel), cv2.dilate(one, kernel)
    return float(((other < low) | (other > high)).mean())


@given(st.integers(0, 200))
def test_objects_are_stored_without_loss(seed: int):
    objects = scatter(seed)
    found = KIND.decode(KIND.encode(objects), "x")
    for name in ("corners", "labels", "flags", "shares"):
        assert np.array_equal(getattr(objects, name), getattr(found, name))
    assert found.size == objects.size
    counted = objects.labels[(objects.flags & IGNORED) == 0]
    assert KIND.count(found) == Counter(counted.tolist())


def test_a_box_is_stored_as_a_box_and_its_share_is_told():
    objects = make_objects(box_corners([(1, 2, 5, 9.5)]), [3], (20, 30), [DIFFICULT], [0.75])
    page = json.loads(KIND.encode(objects))
    assert page == {
        "size": [20, 30],
        "labels": [3],
        "boxes": [[1, 2, 5, 9.5]],
        "difficult": [True],
        "shares": [0.75],
    }


@given(seed=st.integers(0, 500), top=st.integers(-20, 40), left=st.integers(-20, 40))
def test_rows_of_a_crop_lie_on_the_cropped_pixels(seed: int, top: int, left: int):
    objects = scatter(seed)
    side = 40
    top, left = max(0, min(top, SIDE - side)), max(0, min(left, SIDE - side))
    rows = KIND.crop(objects, Window(top, left, side, side), (SIDE, SIDE), 80)
    pixels = paint(objects.corners, SIDE, SIDE)[top : top + side, left : left + side]
    scaled = np.empty((80, 80, 1), np.uint8)
    resize_into(np.ascontiguousarray(pixels[..., None]), scaled)
    drawn = paint(rectangle_corners(rows[:, RECTANGLE]), 80, 80)
    assert differ(scaled[..., 0], drawn, edge=2) < 0.03
    assert ((rows[:, HULL] >= 0) & (rows[:, HULL] <= 80)).all()


@given(seed=st.integers(0, 500))
def test_objects_turn_as_their_image(seed: int):
    """The drawing of the turned rows is the turned drawing, for both kinds of boxes."""
    random = np.random.default_rng(seed)
    objects = scatter(seed)
    rows = KIND.crop(objects, Window(0, 0, SIDE, SIDE), (SIDE, SIDE), SIDE)
    batch = torch.from_numpy(KIND.collate([rows] * 8))
    numbers = torch.from_numpy(random.random((8, 3)))
    turned = Dihedral(*draw_dihedral(numbers, flip=True, rotate90=True))
    moved = KIND.turn(batch, turned, SIDE).numpy()
    for kind in ("rectangle", "hull"):

        def draw(rows: NDArray[np.float32], kind: str = kind) -> NDArray[np.uint8]:
            real = rows[rows[:, LABEL] >= 0]
            is_hull = kind == "hull"
            corners = box_corners(real[:, HULL]) if is_hull else rectangle_corners(real[:, :5])
            return paint(corners, SIDE, SIDE)

        images = torch.from_numpy(np.stack([draw(row) for row in batch.numpy()]))[..., None]
        expected = apply_dihedral(images, *turned)[..., 0].numpy()
        for number in range(8):
            assert differ(expected[number], draw(moved[number])) < 0.01
    assert (moved[..., LABEL] == batch.numpy()[..., LABEL]).all()


def test_what_a_crop_cuts_is_ignored_and_what_it_leaves_out_is_gone():
    boxes = box_corners([(10, 10, 20, 20), (36, 10, 56, 20), (28, 30, 48, 40), (50, 50, 60, 60)])
    objects = make_objects(boxes, [0, 1, 2, 3], (64, 64), shares=[1, 1, 0.6, 1])
    rows = KIND.crop(objects, Window(0, 0, 40, 40), (64, 64), 40)
    assert rows[:, LABEL].tolist() == [0, 1, 2]
    # A fifth is seen of the second; of the third the 0.6 that a tile had left, and no less.
    assert rows[:, FLAGS].tolist() == [0, IGNORED, 0]
    assert rows[1, HULL].tolist() == [36, 10, 40, 20]
    assert rows[1, RECTANGLE][:2].tolist() == [46, 15]


@pytest.mark.parametrize(
    ("counts", "rows"), [([0], 16), ([3, 16], 16), ([17], 32), ([200, 1], 256)]
)
def test_a_batch_is_padded_to_a_power_of_two(counts: list[int], rows: int):
    targets = [np.full((count, WIDTH), 7, np.float32) for count in counts]
    batch = KIND.collate(targets)
    assert batch.shape == (len(counts), rows, WIDTH)
    for each, count in zip(batch, counts, strict=True):
        assert (each[:count] == 7).all() and (each[count:, LABEL] == -1).all()
        assert (each[count:, 2:4] == 1).all()


def test_the_window_with_an_object_is_taken():
    objects = make_objects(box_corners([(50, 50, 60, 60)]), [0], (64, 64))

    def choices(height: int, width: int) -> list[Window]:
        assert (height, width) == (64, 64)
        return [Window(0, 0, 30, 30), Window(0, 30, 30, 30), Window(34, 34, 30, 30)]

    assert KIND.aim(objects, choices) == 2
    assert KIND.aim(make_objects([], [], (64, 64)), choices) == 0


@given(st.integers(0, 300))
def test_rectangles_and_shares_are_those_of_opencv(seed: int):
    """Rectangles are read off their corners, others found; both overlap OpenCV's wholly."""
    random = np.random.default_rng(seed)
    corners = scatter(seed, 20).corners.copy()
    corners[::3] += random.normal(0, 4, (7, 4, 2)).astype(np.float32)  # no rectangles
    corners[1::3] = box_corners(corners[1::3, (0, 2)].reshape(-1, 4))
    corners[1::3] = np.sort(corners[1::3], axis=1)[:, [0, 0, 3, 3]]
    corners[1::3, [0, 3], 0] = corners[1::3, :1, 0]
    corners[1::3, [1, 2], 0] = corners[1::3, 2:3, 0]
    frame = np.array([(0, 0), (50, 0), (50, 40), (0, 40)], np.float32)
    for each, found, share in zip(
        corners, smallest_rectangles(corners), visible_shares(corners, 40, 50), strict=True
    ):
        (x, y), (width, height), _ = cv2.minAreaRect(each)
        assert np.allclose(found[:2], (x, y), atol=0.02)
        assert np.isclose(found[2] * found[3], width * height, rtol=1e-3, atol=0.05)
        hull = cv2.convexHull(each)
        area = cv2.contourArea(hull)
        common, _ = cv2.intersectConvexConvex(hull, frame)
        if area > 1:
            assert abs(share - common / area) < 1e-3


def test_shares_areas_and_rectangles_agree_with_geometry():
    corners = np.concatenate([box_corners([(-5, -5, 5, 5), (0, 0, 10, 4), (-9, 0, -1, 4)])])
    assert visible_shares(corners, 20, 20).tolist() == [0.25, 1, 0]
    assert areas(corners).tolist() == [100, 40, 32]
    found = smallest_rectangles(corners)
    assert np.allclose(found[:, 2] * found[:, 3], [100, 40, 32], atol=1e-3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[]", "fit each other"),
        (b'{"size": [8, 8], "labels": [0], "boxes": [[1, 2, 3]]}', "fit each other"),
        (b'{"size": [8, 8], "labels": [0, 1], "boxes": [[1, 2, 3, 4]]}', "fit each other"),
        (b'{"size": [8, 8], "boxes": [[1, 2, 3, 4]]}', "fit each other"),
        (b'{"size": [8, 8], "labels": [0], "boxes": [[1, 2, 3, 4]], "shares": [1, 1]}', "fit"),
        (b'{"size": [8, 8], "labels": [0], "boxes": [[1, 2, 3, 4]], "crowd": [1, 1]}', "fit"),
        (b'{"size": [8, 8], "labels": [0], "boxes": [[1, 2, NaN, 4]]}', "no finite number"),
        (b'{"size": [8, 8], "labels": [0], "boxes": [[1, 2, 3, 4]], "shares": [NaN]}', "finite"),
        (b'{"size": [1e999, 8], "labels": [], "boxes": []}', "fit each other"),
        (b'{"size": [8, 8], "labels": [99999999999999999999], "boxes": [[1, 2, 3, 4]]}', "fit"),
        (b'{"labels": [], "boxes": []}', "fit each other"),
    ],
)
def test_what_is_no_list_of_objects_is_refused(data: bytes, said: str):
    with pytest.raises(CorruptSampleError, match=said):
        KIND.decode(data, "a")


def test_labels_and_boxes_that_do_not_fit_are_told():
    objects = make_objects(box_corners([(0, 0, 2, 2), (1, 1, 1, 4)]), [0, 4], (8, 8))
    assert KIND.problem(objects, 5) == "its object 1 has no area"
    assert KIND.problem(objects, 4) == "one of its objects has label 4, which is no class"
    with pytest.raises(CorruptSampleError, match="of an image of 8 x 8, and it is 9 x 8"):
        KIND.crop(objects, Window(0, 0, 8, 8), (9, 8), 8)


@given(seed=st.integers(0, 10_000))
def test_visible_shares_of_any_outline_are_those_of_its_hull(seed: int):
    random = np.random.default_rng(seed)
    corners = random.uniform(-30, 80, (30, 4, 2)).astype(np.float32)  # any order, dented ones too
    frame = np.array([(0, 0), (50, 0), (50, 40), (0, 40)], np.float32)
    for outline, share in zip(corners, visible_shares(corners, 40, 50), strict=True):
        hull = cv2.convexHull(outline)
        common = cv2.intersectConvexConvex(hull, frame)[0]
        assert share == pytest.approx(common / cv2.contourArea(hull), abs=1e-3)
