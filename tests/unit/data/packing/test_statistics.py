import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsdl.data.packing.statistics import BandStatistics, RunningStatistics, merge_statistics

TOPS = {"uint8": 255, "uint16": 65535, "float32": 1.0}


def images(
    seed: int, dtype: str, bands: int, num: int
) -> tuple[list[NDArray[Any]], list[NDArray[np.bool_] | None]]:
    random = np.random.default_rng(seed)
    pixels, masks = [], []
    for number in range(num):
        shape = (int(random.integers(1, 12)), int(random.integers(1, 12)), bands)
        pixels.append((random.random(shape) * TOPS[dtype]).astype(dtype))
        masks.append(None if number % 3 == 0 else random.random(shape[:2]) < 0.7)
    return pixels, masks


@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(sorted(TOPS)),
    bands=st.integers(1, 13),
    num=st.integers(1, 8),
    data=st.data(),
)
def test_merged_statistics_are_those_of_all_valid_pixels_in_any_order(
    seed: int, dtype: str, bands: int, num: int, data: st.DataObject
):
    pixels, masks = images(seed, dtype, bands, num)
    parts = [BandStatistics.of(p, m) for p, m in zip(pixels, masks, strict=True)]
    valid = np.concatenate(
        [
            p[np.ones(p.shape[:2], bool) if m is None else m]
            for p, m in zip(pixels, masks, strict=True)
        ]
    ).astype(np.float64)
    order = data.draw(st.permutations(range(num)))

    total = merge_statistics(parts, bands)
    shuffled = merge_statistics([parts[place] for place in order], bands)

    assert total.count.tolist() == [len(valid)] * bands
    if len(valid):
        # Against the largest value: a spread near zero has no relative precision.
        assert total.mean == pytest.approx(valid.mean(0), rel=1e-9)
        assert total.std == pytest.approx(valid.std(0), rel=1e-6, abs=TOPS[dtype] * 1e-7)
    assert shuffled.mean == pytest.approx(total.mean, rel=1e-9)
    assert shuffled.std == pytest.approx(total.std, rel=1e-9, abs=TOPS[dtype] * 1e-9)


@given(
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(sorted(TOPS)),
    bands=st.integers(1, 13),
    num=st.integers(0, 8),
)
def test_running_statistics_are_to_the_bit_those_of_merged_arrays(
    seed: int, dtype: str, bands: int, num: int
):
    pixels, masks = images(seed, dtype, bands, num)
    masks = [None if m is None else m & bool(place % 4) for place, m in enumerate(masks)]
    running, merged = RunningStatistics(bands), BandStatistics.empty(bands)
    for image, mask in zip(pixels, masks, strict=True):
        running.add(image, mask)
        merged = merged.merge(BandStatistics.of(image, mask))
    for name in ("count", "mean", "squares"):
        assert np.array_equal(getattr(running.total(), name), getattr(merged, name))


@given(seed=st.integers(0, 2**32), side=st.integers(1, 70))
def test_a_fourth_band_that_means_nothing_changes_no_bit_of_the_others(seed: int, side: int):
    padded = np.random.default_rng(seed).integers(0, 256, (side, side + 3, 4)).astype(np.uint8)
    running = RunningStatistics(3)
    running.add(padded)
    plain = BandStatistics.of(np.ascontiguousarray(padded[:, :, :3]))
    for name in ("count", "mean", "squares"):
        assert np.array_equal(getattr(running.total(), name), getattr(plain, name))


def test_pixels_without_data_are_not_asked():
    pixels = np.full((4, 4, 6), np.nan, np.float32)
    pixels[0] = np.arange(24).reshape(4, 6)
    valid = np.zeros((4, 4), bool)
    valid[0] = True
    statistics = BandStatistics.of(pixels, valid)
    assert statistics.mean == pytest.approx(pixels[0].mean(0))
    assert statistics.std == pytest.approx(pixels[0].std(0))


def test_nothing_merged_with_nothing_is_nothing():
    empty = BandStatistics.of(np.ones((2, 2, 3), np.uint8), np.zeros((2, 2), bool))
    total = merge_statistics([empty, BandStatistics.empty(3)], 3)
    assert total.count.tolist() == total.mean.tolist() == total.std.tolist() == [0, 0, 0]


def test_a_large_mean_does_not_swallow_a_small_spread_between_images():
    parts = [
        BandStatistics.of(np.full((100, 100, 1), 60000 + number % 2, np.uint16))
        for number in range(1000)
    ]
    total = merge_statistics(parts, 1)
    assert total.mean[0] == pytest.approx(60000.5, rel=1e-12)
    assert total.std[0] == pytest.approx(0.5, rel=1e-9)


@given(seed=st.integers(0, 2**32), bands=st.integers(1, 5))
def test_lists_are_exact_through_json(seed: int, bands: int):
    statistics = BandStatistics.of(images(seed, "float32", bands, 1)[0][0])
    back = BandStatistics.from_lists(json.loads(json.dumps(statistics.to_lists())))
    for name in ("count", "mean", "squares"):
        assert np.array_equal(getattr(back, name), getattr(statistics, name))
