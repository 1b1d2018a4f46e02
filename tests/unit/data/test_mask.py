"""Masks: stored, cropped and turned as their images are; 255 counts for nothing."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import CorruptSampleError
from rsdl.data.dihedral import dihedral, draw_dihedral
from rsdl.data.resize import resize_into
from rsdl.data.targets.base import Dihedral, Window
from rsdl.data.targets.mask import IGNORE, Classes, Mask, class_colours, overlay

KIND = Mask()
SIDES = st.integers(1, 40)


def draw_mask(height: int, width: int, seed: int = 0) -> Classes:
    values = np.array([0, 1, 2, 3, IGNORE], np.uint8)
    return np.random.default_rng(seed).choice(values, (height, width))


@given(height=SIDES, width=SIDES, seed=st.integers(0, 9))
def test_a_mask_is_stored_without_loss(height: int, width: int, seed: int):
    mask = draw_mask(height, width, seed)
    assert (KIND.decode(KIND.encode(mask), "x") == mask).all()
    assert KIND.count(mask) == Counter(mask[mask != IGNORE].tolist())
    assert KIND.label(mask) == -1 and KIND.problem(mask, 4) is None


def test_a_value_that_is_no_class_is_named():
    assert KIND.problem(np.array([[1, 7, 9, IGNORE]], np.uint8), 3) == (
        "its mask holds 7, which is no class"
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is damaged"),
        (b"\x89PNG\r\n\x1a\nrest", "is damaged"),
        (Mask().encode(np.zeros((2, 3, 3), np.uint8)), r"has shape \(2, 3, 3\) of uint8"),
        (Mask().encode(np.zeros((2, 3), np.uint16)), r"has shape \(2, 3\) of uint16"),
    ],
)
def test_what_is_no_mask_is_refused(data: bytes, problem: str):
    with pytest.raises(CorruptSampleError, match=rf"^key\.mask\.png: {problem}; a mask is a PNG"):
        KIND.decode(data, "key")


def test_a_mask_of_another_size_than_its_image_is_refused():
    with pytest.raises(CorruptSampleError, match="its mask is 4 x 6 px and its image 6 x 4 px"):
        KIND.crop(draw_mask(4, 6), Window(0, 0, 2, 2), (6, 4), 8)


@given(height=st.integers(8, 40), width=st.integers(8, 40), data=st.data())
def test_a_crop_of_its_own_size_moves_pixels_and_mask_as_one(
    height: int, width: int, data: st.DataObject
):
    side = data.draw(st.integers(8, min(height, width)))
    top = data.draw(st.integers(0, height - side))
    left = data.draw(st.integers(0, width - side))
    mask = draw_mask(height, width)
    window = Window(top, left, side, side)
    cropped = KIND.crop(mask, window, (height, width), side)
    pixels = np.empty((side, side, 1), np.uint8)
    resize_into(mask[top : top + side, left : left + side, None], pixels)
    assert (cropped == pixels[..., 0]).all()


@given(factor=st.integers(2, 5), rows=st.integers(1, 8), cols=st.integers(1, 8))
def test_a_resized_object_stays_where_its_pixels_are(factor: int, rows: int, cols: int):
    """Blocks that are enlarged and shrunk again: each class keeps its place."""
    small = draw_mask(rows, cols)
    large = small.repeat(factor, axis=0).repeat(factor, axis=1)
    whole = Window(0, 0, *large.shape)
    assert (KIND.crop(large, whole, large.shape, (rows, cols)) == small).all()
    whole = Window(0, 0, rows, cols)
    assert (KIND.crop(small, whole, (rows, cols), large.shape) == large).all()


@pytest.mark.parametrize(("flip", "rotate90"), [(True, False), (False, True), (True, True)])
def test_a_mask_turns_as_its_image(flip: bool, rotate90: bool):
    masks = torch.from_numpy(np.stack([draw_mask(9, 9, seed) for seed in range(32)]))
    numbers = torch.rand((32, 3), generator=torch.Generator().manual_seed(0))
    images = dihedral(masks[..., None], numbers, flip=flip, rotate90=rotate90)
    drawn = Dihedral(*draw_dihedral(numbers, flip=flip, rotate90=rotate90))
    turned = KIND.turn(masks, drawn, 9)
    assert torch.equal(turned, images[..., 0])
    assert not torch.equal(turned, masks)


def test_rows_of_a_batch_that_are_not_filled_count_for_nothing():
    assert (KIND.allocate(2, (3, 4)) == np.full((2, 3, 4), IGNORE)).all()


def test_an_overlay_colours_classes_and_leaves_ignored_pixels():
    picture = np.full((2, 2, 3), 100, np.uint8)
    drawn = overlay(picture, np.array([[0, 1], [IGNORE, 0]], np.uint8), 2)
    assert (drawn[1, 0] == 100).all() and (drawn[0, 0] == drawn[1, 1]).all()
    assert not (drawn[0, 0] == drawn[0, 1]).all()
    assert len(np.unique(class_colours(40), axis=0)) == 40
