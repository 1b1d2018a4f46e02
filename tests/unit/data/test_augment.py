import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional

from rsdl.config.data import AugmentConfig
from rsdl.core.batch import Batch
from rsdl.core.errors import ConfigError
from rsdl.core.sample_counts import SampleCounts
from rsdl.data.augment import BRIGHTNESS, CONTRAST, HUE, SATURATION, Augment, jitter_colours
from rsdl.data.mixing import beta_quantiles, cut_box, interpolate

MEAN, STD = (100.0, 120.0, 90.0), (50.0, 40.0, 60.0)


def batch_of(images: Tensor, seed: int = 0, valid: Tensor | None = None) -> Batch:
    size = len(images)
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images=images,
        targets=torch.arange(size),
        valid=torch.ones(size, dtype=torch.bool) if valid is None else valid,
        samples=torch.arange(size),
        uniforms=torch.rand((size, 12), generator=generator),
        windows=torch.zeros(size, 4, dtype=torch.int32),
        sizes=torch.zeros(size, 2, dtype=torch.int32),
        num_planned=size,
        counts=SampleCounts(),
    )


def imagery(size: int, bands: int = 3, side: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size, side, side, bands), generator=generator).to(torch.uint8)


def augment_of(dtype: str = "uint8", **config: Any) -> Augment:  # noqa: ANN401
    return Augment(AugmentConfig(**config), MEAN, STD, dtype)


@pytest.mark.parametrize(
    ("field", "column", "reference"),
    [
        ("brightness", BRIGHTNESS, functional.adjust_brightness),
        ("contrast", CONTRAST, functional.adjust_contrast),
        ("saturation", SATURATION, functional.adjust_saturation),
    ],
)
def test_each_colour_step_is_torchvisions(field: str, column: int, reference: Any):  # noqa: ANN401
    images = imagery(16).permute(0, 3, 1, 2) / 255
    numbers = torch.rand((16, 12), generator=torch.Generator().manual_seed(2))

    jittered = jitter_colours(images, numbers, AugmentConfig(**{field: 0.6}))

    for row in range(16):
        factor = 1 + 0.6 * (2 * float(numbers[row, column]) - 1)
        assert torch.allclose(jittered[row], reference(images[row], factor), atol=1e-5)


def test_the_hue_step_is_torchvisions():
    images = imagery(32).permute(0, 3, 1, 2) / 255
    images[0] = 0.5  # grey has no hue
    images[1, :, 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    numbers = torch.rand((32, 12), generator=torch.Generator().manual_seed(3))

    shifted = jitter_colours(images, numbers, AugmentConfig(hue=0.5))

    for row in range(32):
        turns = 0.5 * (2 * float(numbers[row, HUE]) - 1)
        assert torch.allclose(shifted[row], functional.adjust_hue(images[row], turns), atol=1e-5), (
            row
        )


def test_steps_without_strength_change_nothing():
    images = imagery(4).permute(0, 3, 1, 2) / 255
    assert jitter_colours(images, torch.rand(4, 12), AugmentConfig()) is images


def test_normalisation_is_torchvisions():
    images = imagery(4)
    expected = functional.normalize(images.permute(0, 3, 1, 2).float(), list(MEAN), list(STD))
    quiet = augment_of(flip=False, rotate90=False)

    for training in (False, True):
        normal, mix = quiet(batch_of(images), training=training)
        assert torch.allclose(normal, expected, atol=1e-5)
        assert normal.is_contiguous(memory_format=torch.channels_last)
        assert mix is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_rows_are_normalised_as_bands_are(dtype: str, bands: int):
    images = imagery(4, bands, 9).to(getattr(torch, dtype)).permute(0, 3, 1, 2)
    kept = images.clone()
    augment = Augment(AugmentConfig(), range(bands), [band + 0.7 for band in range(bands)], dtype)
    normal = augment.normalize(images)
    planes = images.to(torch.float32).contiguous()  # for which there is no shorter way
    assert torch.equal(normal, augment.normalize(planes))
    assert torch.equal(images, kept)


def test_a_band_without_spread_is_only_centred():
    augment = Augment(AugmentConfig(), (7.0,), (0.0,), "uint8")
    normal, _ = augment(batch_of(torch.full((2, 4, 4, 1), 9, dtype=torch.uint8)), training=False)
    assert torch.equal(normal, torch.full((2, 1, 4, 4), 2.0))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 4, 13])
def test_any_bands_and_types_are_augmented(dtype: str, bands: int):
    config = AugmentConfig(brightness=0.5, mixup=0.2, cutmix=1.0)
    augment = Augment(config, [100.0] * bands, [50.0] * bands, dtype)
    images = imagery(4, bands).to(getattr(torch, dtype))
    normal, mix = augment(batch_of(images), training=True)
    assert normal.shape == (4, bands, 8, 8)
    assert normal.dtype == torch.float32
    assert normal.isfinite().all()
    assert mix is not None


def test_float_colours_of_unknown_range_are_left_alone():
    images = imagery(4).float() * 30
    quiet = augment_of("float32", flip=False, rotate90=False, brightness=0.5, hue=0.2)
    normal, _ = quiet(batch_of(images), training=True)
    assert torch.allclose(normal, quiet.normalize(images.permute(0, 3, 1, 2)))


def test_evaluation_changes_nothing_but_the_scale():
    loud = augment_of(brightness=0.9, contrast=0.9, hue=0.5, mixup=1.0, cutmix=1.0)
    images = imagery(3)
    normal, mix = loud(batch_of(images), training=False)
    assert torch.equal(normal, loud.normalize(images.permute(0, 3, 1, 2)))
    assert mix is None


@settings(deadline=None)
@given(
    pairs=st.permutations(range(4)),
    mixup=st.sampled_from([0.0, 0.4]),
    cutmix=st.sampled_from([0.0, 1.0]),
)
def test_a_row_depends_on_its_own_numbers_and_its_partner_alone(
    pairs: list[int], mixup: float, cutmix: float
):
    augment = augment_of(brightness=0.3, saturation=0.3, hue=0.1, mixup=mixup, cutmix=cutmix)
    whole = batch_of(imagery(8))
    order = torch.tensor([row for pair in pairs for row in (2 * pair, 2 * pair + 1)])
    shuffled = Batch(
        whole.images[order],
        whole.targets[order],
        whole.valid[order],
        whole.samples[order],
        whole.uniforms[order],
        whole.windows[order],
        whole.sizes[order],
        8,
        SampleCounts(),
    )

    images, mix = augment(whole, training=True)
    moved, moved_mix = augment(shuffled, training=True)

    assert torch.allclose(moved, images[order], atol=1e-6)
    if mix is not None:
        assert torch.equal(moved_mix.weight, mix.weight[order])


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_weights_are_the_shares_of_each_image(mixup: float, cutmix: float):
    # Each image is one number, so the mixed pixels tell the shares.
    size, side = 64, 32
    values = torch.arange(1, size + 1, dtype=torch.uint8)
    images = values[:, None, None, None].expand(size, side, side, 1).contiguous()
    augment = Augment(AugmentConfig(mixup=mixup, cutmix=cutmix), (0.0,), (1.0,), "uint8")

    mixed, mix = augment(batch_of(images), training=True)

    assert mix is not None
    assert mix.partner.tolist() == [row ^ 1 for row in range(size)]
    own, other = values.float(), values[mix.partner].float()
    share = (mixed.mean((1, 2, 3)) - other) / (own - other)
    assert torch.allclose(share, mix.weight, atol=1e-4)
    assert torch.equal(mix.weight, mix.weight[mix.partner])
    whole_pixels = [
        bool(((row == a) | (row == b)).all()) for row, a, b in zip(mixed, own, other, strict=True)
    ]
    if not mixup:
        assert all(whole_pixels)
    elif cutmix:
        assert 16 < sum(whole_pixels) < 48, "about half are cut"


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_rows_that_do_not_count_are_not_mixed_in(mixup: float, cutmix: float):
    valid = torch.tensor([True, True, False, True, True, False, False, False])
    augment = augment_of(flip=False, rotate90=False, mixup=mixup, cutmix=cutmix)
    batch = batch_of(imagery(8), valid=valid)

    mixed, mix = augment(batch, training=True)

    plain = augment.normalize(batch.images.permute(0, 3, 1, 2))
    assert mix is not None
    assert mix.weight[2:].tolist() == [1.0] * 6
    assert torch.allclose(mixed[2:], plain[2:])
    assert not torch.allclose(mixed[:2], plain[:2])


def test_an_odd_number_of_images_cannot_be_paired():
    with pytest.raises(ConfigError, match=r"data\.batch_size: .* 5 images at a time.* need pairs"):
        augment_of(mixup=0.2)(batch_of(imagery(5)), training=True)
    augment_of(mixup=0.2)(batch_of(imagery(5)), training=False)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.4, 1.0, 2.0, 8.0])
def test_quantiles_are_those_of_the_beta_distribution(alpha: float):
    drawn = np.random.default_rng(0).beta(alpha, alpha, 200_000)
    levels = torch.from_numpy(np.random.default_rng(1).random(200_000)).float()
    ours = interpolate(beta_quantiles(alpha), levels).numpy()

    assert ours.min() >= 0 and ours.max() <= 1
    # Kolmogorov-Smirnov: 200,000 against 200,000 differ by 0.0062 with a chance of 1e-3.
    edges = np.linspace(0, 1, 401)[1:-1]
    shares = [np.searchsorted(np.sort(x), edges) / len(x) for x in (ours, drawn)]
    assert np.abs(shares[0] - shares[1]).max() < 0.008
    assert ours.mean() == pytest.approx(0.5, abs=0.005)
    assert ours.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)


@given(
    weight=st.floats(0, 1),
    x=st.floats(0, 1, exclude_max=True),
    y=st.floats(0, 1, exclude_max=True),
)
def test_a_box_is_one_rectangle_of_about_its_share(weight: float, x: float, y: float):
    numbers = [torch.tensor([number]) for number in (weight, x, y)]
    box = cut_box(numbers[0], numbers[1], numbers[2], 40, 60)[0]
    rows, columns = box.any(1), box.any(0)
    assert torch.equal(box, rows[:, None] & columns[None, :])
    for line in (rows, columns):
        places = line.nonzero().flatten().tolist()
        assert places == list(range(places[0], places[-1] + 1)) if places else True
    side = (1 - weight) ** 0.5
    height = min(y + side / 2, 1) - max(y - side / 2, 0)
    width = min(x + side / 2, 1) - max(x - side / 2, 0)
    assert abs(int(rows.sum()) - 40 * height) <= 1.01
    assert abs(int(columns.sum()) - 60 * width) <= 1.01


def test_all_switches_can_be_combined():
    for flip, rotate90, jitter, mixup in itertools.product((False, True), repeat=4):
        augment = augment_of(flip=flip, rotate90=rotate90, contrast=0.5 * jitter, mixup=0.5 * mixup)
        normal, mix = augment(batch_of(imagery(4)), training=True)
        assert normal.isfinite().all()
        assert (mix is not None) == mixup
        assert not augment.state_dict(), "a checkpoint holds nothing of it"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"flip": False}, {"rotate90": False}, {"flip": False, "rotate90": False},
        {"mixup": 0.2}, {"cutmix": 1.0}, {"hue": 0.1}, {"contrast": 0.2, "saturation": 0.2},
        {"brightness": 0.2, "hue": 0.1, "mixup": 0.2, "cutmix": 1.0},
    ],
)  # fmt: skip
def test_images_lie_in_memory_as_convolutions_want_them(options: dict[str, Any], training: bool):
    """Otherwise the first convolution would turn them around in memory first."""
    images, _ = augment_of(**options)(batch_of(imagery(4)), training=training)
    assert images.is_contiguous(memory_format=torch.channels_last)
