import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from rsdl.core.rng import key_of, uniforms
from rsdl.data.crop import CropRule, central_box, crop_box, random_box
from rsdl.data.resize import resize_into

SIDES = st.integers(1, 3000)
NUMBERS = st.lists(st.floats(0, 1, exclude_max=True), min_size=22, max_size=22)
SHARES = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair)))
RATIOS = st.tuples(st.floats(0.05, 20), st.floats(0.05, 20)).map(lambda pair: tuple(sorted(pair)))


@given(height=SIDES, width=SIDES, numbers=NUMBERS, scale=SHARES, ratio=RATIOS)
def test_boxes_lie_inside_the_image(
    height: int,
    width: int,
    numbers: list[float],
    scale: tuple[float, float],
    ratio: tuple[float, float],
):
    rule = CropRule(random=True, scale=scale, ratio=ratio)
    top, left, h, w = crop_box(rule, height, width, numbers)
    assert 0 <= top < top + h <= height
    assert 0 <= left < left + w <= width


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((256, 256), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((400, 150), (0.35, 1.0), (3 / 4, 4 / 3)),
        ((120, 200), (0.2, 0.5), (0.5, 2.0)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
):
    rule = CropRule(random=True, scale=scale, ratio=ratio)
    num = 4000
    numbers = uniforms(key_of("test"), np.arange(num), rule.num_uniforms)
    ours = np.array([crop_box(rule, *size, row) for row in numbers.tolist()])
    torch.manual_seed(0)
    image = torch.empty(1, *size)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(num)]
    )

    def measures(boxes: np.ndarray) -> np.ndarray:
        top, left, h, w = boxes.T
        return np.stack([h * w, np.log(w / h), top + h / 2, left + w / 2, h, w])

    one, other = measures(ours), measures(theirs)
    error = np.sqrt((one.var(1) + other.var(1)) / num)
    assert (np.abs(one.mean(1) - other.mean(1)) < 4.5 * error).all()
    assert one.std(1) == pytest.approx(other.std(1), rel=0.06)


@given(height=SIDES, width=SIDES)
def test_what_fits_no_shape_gets_the_largest_central_box(height: int, width: int):
    rule = CropRule(random=True, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    top, left, h, w = random_box(rule, height, width, [0.5] * 22)
    assert h == w == min(height, width)
    if round(math.sqrt(height * width)) > min(height, width):
        assert (top, left) == ((height - h) // 2, (width - w) // 2)


@given(height=SIDES, width=SIDES, share=st.floats(0.001, 1))
def test_the_central_square_is_central(height: int, width: int, share: float):
    top, left, h, w = central_box(CropRule(central=share), height, width)
    assert h == w == max(1, round(min(height, width) * share))
    assert abs(2 * top + h - height) <= 1
    assert abs(2 * left + w - width) <= 1


@given(height=SIDES, width=SIDES, aspect=st.floats(0.25, 4))
def test_the_central_box_is_the_largest_of_its_shape(height: int, width: int, aspect: float):
    top, left, h, w = central_box(CropRule(aspect=aspect), height, width)
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w
    assert h == height or w == width
    assert abs(w - aspect * h) <= 0.5 + aspect / 2 or h == 1 or w == 1


def test_the_whole_image_is_evaluated_on_request():
    assert crop_box(CropRule(central=None), 30, 50, []) == (0, 0, 30, 50)


@pytest.mark.parametrize("size", [(256, 256), (200, 300), (401, 333)])
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_evaluation_crops_as_torchvision_resizes_and_crops(size: tuple[int, int], share: float):
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    pixels = (127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 23))[:, :, None].astype(np.uint8)
    top, left, h, w = crop_box(CropRule(central=share), *size, [])
    out = np.zeros((112, 112, 1), np.uint8)

    resize_into(pixels[top : top + h, left : left + w], out)

    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    resized = functional.resize(tensor, [round(112 / share)], antialias=True)
    expected = functional.center_crop(resized, [112, 112])[0].numpy()
    difference = np.abs(out[:, :, 0].astype(int) - expected)
    assert difference.mean() < 2
    assert difference.max() <= 8


def test_only_random_crops_need_numbers():
    assert CropRule().num_uniforms == 0
    assert CropRule(random=True).num_uniforms == 22
