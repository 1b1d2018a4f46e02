"""Images turned by any angle, and targets that turn with them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from rsdl.config.data import AugmentConfig
from rsdl.data.augment import Augment
from rsdl.data.rotation import ANGLE, draw_angles, rotate
from rsdl.data.targets import KINDS
from rsdl.data.targets.base import Window
from rsdl.data.targets.corners import box_corners, rectangle_corners
from rsdl.data.targets.mask import IGNORE
from rsdl.data.targets.objects import FLAGS, HULL, IGNORED, LABEL, RECTANGLE, make_objects
from tests.unit.data.test_augment import batch_of
from tests.unit.data.test_objects import differ, paint, scatter

OBJECTS, MASK = KINDS["objects"], KINDS["mask"]


def rows_of(height: int, width: int, seed: int) -> Tensor:
    """Return the objects of an image as a batch of one."""
    objects = scatter(seed)._replace(size=(height, width))
    whole = Window(0, 0, height, width)
    cropped = OBJECTS.crop(objects, whole, (height, width), (height, width))
    return torch.from_numpy(OBJECTS.collate([cropped]))


def draw(rows: NDArray[np.float32], height: int, width: int) -> NDArray[np.uint8]:
    real = rows[rows[:, LABEL] >= 0]
    return paint(rectangle_corners(real[:, RECTANGLE]), height, width)


def test_half_of_the_images_turn_and_none_further_than_asked():
    numbers = torch.rand((4000, 12), generator=torch.Generator().manual_seed(0))
    angles = draw_angles(numbers, 30)
    turned = angles[angles != 0]
    assert 0.45 < len(turned) / len(angles) < 0.55
    assert turned.abs().max() <= math.radians(30) and turned.std() > math.radians(15)
    numbers[:, ANGLE] = 0.1
    assert (draw_angles(numbers, 30) == 0).all()


@pytest.mark.parametrize("quarters", range(4))
def test_quarter_turns_are_those_of_the_pixels(quarters: int):
    images = torch.rand(2, 3, 15, 15)
    angles = torch.tensor([quarters * math.pi / 2] * 2)
    expected = torch.rot90(images, -quarters, (2, 3))  # the y axis points down
    assert torch.allclose(rotate(images, angles), expected, atol=1e-4)
    masks = torch.randint(0, 9, (2, 15, 15)).to(torch.uint8)
    assert torch.equal(MASK.rotate(masks, angles, 15), torch.rot90(masks, -quarters, (1, 2)))


def test_an_image_that_is_not_turned_stays_to_the_bit():
    images = torch.rand(2, 3, 20, 30)
    turned = rotate(images, torch.tensor([0.0, 0.3]))
    assert torch.equal(turned[0], images[0]) and not torch.equal(turned[1], images[1])


def test_pixels_of_a_mask_from_outside_are_ignored():
    masks = torch.full((1, 40, 40), 3, dtype=torch.uint8)
    turned = MASK.rotate(masks, torch.tensor([math.pi / 4]), 40)
    assert turned.dtype == torch.uint8 and set(turned.unique().tolist()) == {3, IGNORE}
    assert turned[0, 0, 0] == IGNORE and turned[0, 20, 20] == 3


@given(
    seed=st.integers(0, 300),
    angle=st.floats(-math.pi, math.pi),
    size=st.sampled_from([(64, 64), (48, 80)]),
)
def test_objects_turn_as_their_image(seed: int, angle: float, size: tuple[int, int]):
    """The drawing of the turned rows is the turned drawing, where the turn shows the image."""
    rows, angles = rows_of(*size, seed), torch.tensor([angle])
    turned = OBJECTS.rotate(rows, angles, size)
    before = torch.from_numpy(np.stack([draw(rows[0].numpy(), *size), np.full(size, 255, "uint8")]))
    pixels, shown = rotate(before[None].float(), angles)[0].round().to(torch.uint8).numpy()
    found = draw(turned[0].numpy(), *size)
    found[shown < 255] = 0
    pixels[shown < 255] = 0
    assert differ(pixels, found) < 0.01
    limits = torch.tensor([size[1], size[0]] * 2)
    assert ((turned[..., HULL] >= 0) & (turned[..., HULL] <= limits)).all()


def test_objects_that_leave_the_image_are_ignored_and_then_gone():
    boxes = box_corners([(15, 15, 25, 25), (32, 0, 40, 8), (33, 18, 40, 22), (0, 0, 3, 3)])
    objects = make_objects(boxes, [0, 1, 2, 3], (40, 40))
    rows = OBJECTS.crop(objects, Window(0, 0, 40, 40), (40, 40), 40)
    batch = torch.from_numpy(OBJECTS.collate([rows]))
    turned = OBJECTS.rotate(batch, torch.tensor([math.pi / 4]), 40)[0]
    # The middle one and that at the right edge stay; of those at the corners little or nothing.
    assert turned[:4, LABEL].tolist() == [0, 1, 2, -1]
    assert (turned[:4, FLAGS].long() & IGNORED).tolist() == [0, IGNORED, 0, IGNORED]
    assert turned[0, RECTANGLE][:2].tolist() == [20, 20]
    assert torch.equal(turned[4:], batch[0, 4:])


@given(seed=st.integers(0, 100))
def test_a_training_batch_turns_as_one(seed: int):
    """Flips, quarter turns and any angle: rows of targets lie on the pixels of the network."""
    size = (64, 64)
    rows = torch.cat([rows_of(*size, seed + each) for each in range(6)])
    painted = np.stack([draw(row, *size) for row in rows.numpy()])
    images = torch.from_numpy(np.stack([painted, np.full_like(painted, 255)], -1))
    batch = replace(batch_of(images, seed), targets=rows)
    augment = Augment(AugmentConfig(rotate=180), (0.0, 0.0), (1.0, 1.0), "uint8")
    images, _ = augment(batch, training=True)
    targets = augment.turn_targets(batch, OBJECTS)
    for image, row in zip(images.round().to(torch.uint8).numpy(), targets.numpy(), strict=True):
        (pixels, shown), found = image, draw(row, *size)
        assert differ(np.where(shown < 255, 0, pixels), np.where(shown < 255, 0, found)) < 0.01
