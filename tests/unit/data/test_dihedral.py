import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rsdl.data.dihedral import apply_dihedral, dihedral, draw_dihedral


def symmetries(image: Tensor) -> list[Tensor]:
    turned = [torch.rot90(image, k, (0, 1)) for k in range(4)]
    return turned + [one.flip(1) for one in turned]


@pytest.mark.parametrize(
    ("flip", "rotate90", "reached"),
    [
        (True, True, {0, 1, 2, 3, 4, 5, 6, 7}),
        (False, True, {0, 1, 2, 3}),
        (True, False, {0, 2, 4, 6}),
        (False, False, {0}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_turning_reaches_the_symmetries_of_the_square_equally_often(
    flip: bool, rotate90: bool, reached: set[int], dtype: torch.dtype
):
    num = 1600
    image = torch.arange(3 * 25).reshape(1, 5, 5, 3).to(dtype)
    numbers = torch.rand((num, 12), generator=torch.Generator().manual_seed(1))

    turned = dihedral(image.expand(num, -1, -1, -1), numbers, flip=flip, rotate90=rotate90)

    counts = [int((turned == one).flatten(1).all(1).sum()) for one in symmetries(image[0])]
    assert sum(counts) == num, "each is exactly one of the eight"
    assert {place for place, count in enumerate(counts) if count} == reached
    expected = num / len(reached)
    assert all(abs(counts[place] - expected) < 5 * expected**0.5 for place in reached)


@given(
    size=st.integers(1, 4),
    side=st.integers(1, 9),
    bands=st.integers(1, 6),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    flip=st.booleans(),
    rotate90=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_images_turned_one_by_one_are_those_turned_at_once(
    size: int, side: int, bands: int, dtype: str, flip: bool, rotate90: bool, seed: int
):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size, side, side, bands)).astype(dtype)
    images, numbers = torch.from_numpy(pixels.copy()), torch.from_numpy(rng.random((size, 12)))
    one_by_one = dihedral(images, numbers, flip=flip, rotate90=rotate90)
    at_once = torch.from_numpy(pixels.astype("float32"))
    if flip or rotate90:
        at_once = apply_dihedral(at_once, *draw_dihedral(numbers, flip=flip, rotate90=rotate90))
    assert one_by_one.dtype == images.dtype
    assert torch.equal(one_by_one.to(torch.float32), at_once)
    assert np.array_equal(images.numpy(), pixels), "the caller's images are as they were"


def test_images_that_are_not_square_are_flipped():
    images = torch.arange(2 * 3 * 5 * 3).reshape(2, 3, 5, 3).to(torch.uint8)
    numbers = torch.tensor([[0.9, 0.1, 0.9], [0.9, 0.9, 0.1]])
    turned = dihedral(images, numbers, flip=True, rotate90=False)
    assert torch.equal(turned, torch.stack([images[0].flip(1), images[1].flip(0)]))
