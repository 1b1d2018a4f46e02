"""A quick look shows scene, map and legend in at most 1,024 px a side."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from rsdl.data.targets.mask import class_colours
from rsdl.predict.legend import PixelCounts
from rsdl.predict.quicklook import GAP, draw_quicklook
from tests.unit.predict.maps import draw_map


@pytest.mark.parametrize("size", [(30, 40), (1500, 40), (40, 1500), (1100, 1200), (1, 1)])
@pytest.mark.parametrize("num_classes", [1, 9, 200])
def test_a_quick_look_is_small_and_has_the_colours_of_the_classes(
    tmp_path: Path, size: tuple[int, int], num_classes: int
):
    classes = np.full(size, num_classes - 1, np.uint8)
    names = tuple(f"a class with quite a long name {n}" for n in range(num_classes))
    found = draw_quicklook(*draw_map(tmp_path, classes, names))
    drawn = cv2.imdecode(np.frombuffer(found, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert max(drawn.shape) <= 1024
    colour = class_colours(num_classes)[-1]
    seen = (drawn == colour).all(axis=2).sum()
    assert seen > 14 * 14 + min(size[0] * size[1], 1000) // 3


def test_map_and_scene_are_side_by_side_on_the_same_grid(tmp_path: Path):
    classes = np.zeros((600, 400), np.uint8)
    classes[100:200, 50:250] = 1
    classes[400:] = 255
    found = draw_quicklook(*draw_map(tmp_path, classes, ("a", "b")))
    drawn = cv2.imdecode(np.frombuffer(found, np.uint8), cv2.IMREAD_COLOR_RGB)
    left, right = drawn[GAP : GAP + 600, GAP : GAP + 400], drawn[GAP:, 2 * GAP + 400 :]
    right = right[:600, :400]
    np.testing.assert_array_equal((right == class_colours(2)[1]).all(2), classes == 1)
    assert (right[400:] == 216).all()
    assert (left[400:] == 216).all()
    assert len(np.unique(left[:400])) > 200  # the scene, as it is


def test_names_that_opencv_cannot_draw_do_no_harm(tmp_path: Path):
    classes = np.zeros((30, 40), np.uint8)
    names = ("Wälder", "森林\n\x00", "x" * 500)
    assert draw_quicklook(*draw_map(tmp_path, classes, names)).startswith(b"\x89PNG")


def test_shares_are_of_pixels_with_data_and_tell_few_from_none():
    counts = PixelCounts()
    counts.add(np.array([[0] * 4999 + [2] + [255] * 3000], np.uint8))
    first, second, third = counts.legend(("a", "b", "c"))
    assert (first.name, first.share) == ("a", 0.9998)
    assert (second.name, second.amount) == ("c", "<0.1%")
    assert (third.name, third.amount) == ("b", "0%")
    assert PixelCounts().legend(("a",))[0].amount == "0%"
