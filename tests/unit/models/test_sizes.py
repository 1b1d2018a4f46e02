from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsdl.config.model import ModelConfig
from rsdl.core.errors import ConfigError
from rsdl.core.image_size import ImageSize
from rsdl.models.catalog import ARCHITECTURES, build_model
from rsdl.models.sizes import SizeRule

SIZES = (32, 64, 96, 100, 128, 192, 224, 225, 256, 288, 320, 384)
FIXED = {"vit_base", "swin_base", "maxvit_small"}  # built for one size
TOO_SMALL = (0, 1, 8, 15)


@cache
def build(name: str, image_size: ImageSize) -> torch.nn.Module:
    with torch.device("meta"):
        return build_model(
            ModelConfig(name=name), num_classes=3, in_chans=3, image_size=image_size
        ).eval()


def run(name: str, image_size: int) -> tuple[int, ...]:
    if name in ARCHITECTURES and name not in FIXED:
        ARCHITECTURES[name].sizes.check(image_size, name)
        model = build(name, 224)  # one network for all sizes
    else:
        model = build(name, image_size)
    with torch.no_grad():
        return tuple(model(torch.empty(1, 3, image_size, image_size, device="meta")).shape)


def near_sizes(error: ConfigError) -> list[int]:
    assert error.where == "data.image_size"
    assert error.remedy is not None
    return [int(word) for word in error.remedy.split() if word.isdigit()]


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_size_runs_or_is_refused_with_near_sizes_that_run(name: str):
    refused: dict[int, list[int]] = {}
    ran = set()
    for size in SIZES:
        try:
            assert run(name, size) == (1, 3)
            ran.add(size)
        except ConfigError as error:
            refused[size] = near_sizes(error)
    assert ran >= {size for size in SIZES if size % 32 == 0}
    for size, near in refused.items():
        assert near, size
        assert all(abs(other - size) < 32 for other in near)
        for other in set(near) - ran:
            assert run(name, other) == (1, 3)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("size", TOO_SMALL)
def test_a_size_below_the_smallest_is_refused_with_the_smallest(name: str, size: int):
    with pytest.raises(ConfigError) as caught:
        build(name, size)
    assert near_sizes(caught.value) == [ARCHITECTURES[name].sizes.minimum]


def test_the_message_says_field_rule_value_and_remedy():
    with pytest.raises(ConfigError) as caught:
        run("vit_base", 100)
    assert str(caught.value) == (
        "data.image_size: vit_base takes multiples of 16 from 16 up, not 100; use 96 or 112"
    )


@pytest.mark.parametrize("name", [*sorted(ARCHITECTURES), "test_vit"])
def test_images_need_not_be_square(name: str):
    model = build(name, (64, 96))
    with torch.no_grad():
        assert model(torch.empty(1, 3, 64, 96, device="meta")).shape == (1, 3)


@pytest.mark.parametrize(("name", "size"), [("vit_base", (224, 100)), ("test_vit", (100, 160))])
def test_each_side_is_checked(name: str, size: tuple[int, int]):
    with pytest.raises(ConfigError, match=r"data\.image_size: .* not 100"):
        build(name, size)


@given(
    step=st.integers(1, 64),
    smallest=st.integers(1, 8),
    size=st.integers(-10, 2000),
)
def test_near_sizes_are_taken_and_none_lies_between(step: int, smallest: int, size: int):
    rule = SizeRule(step, minimum=smallest * step)
    near = rule.near(size)
    assert near
    assert all(rule.takes(other) for other in near)
    closest = min(abs(other - size) for other in near)
    assert not any(
        rule.takes(other) for other in range(size - closest + 1, size + closest) if closest
    )


@pytest.mark.parametrize(
    ("name", "size", "near"),
    [("test_vit", 100, [160]), ("test_vit", 3, [160]), ("test_convnext", 5, [160])],
)
def test_of_a_size_that_another_timm_model_cannot_take_the_published_one_is_named(
    name: str, size: int, near: list[int]
):
    with pytest.raises(ConfigError) as caught:
        run(name, size)
    assert near_sizes(caught.value) == near
    for other in near:
        assert run(name, other) == (1, 3)


def test_a_size_is_tried_without_touching_the_random_numbers():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(ConfigError):
        run("test_vit", 33)
    assert torch.equal(torch.rand(3), expected)
