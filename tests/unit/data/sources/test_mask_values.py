"""What the values of a mask mean, pixel by pixel."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsdl.core.errors import CorruptSampleError
from rsdl.data.sources.mask_palettes import PALETTES
from rsdl.data.sources.mask_values import MaskValues, find_colours
from rsdl.data.targets.mask import IGNORE

NUMBERS = st.one_of(st.integers(0, 300), st.integers(-(2**40), 2**40))


@given(st.lists(NUMBERS, min_size=1, max_size=24))
def test_every_pixel_gets_the_class_of_its_value_whatever_the_range(values: list[int]):
    codes = {value: place % 7 for place, value in enumerate(values)}
    pixels = np.array([values, values[::-1]], np.int64)
    mask = MaskValues(tuple("abcdefg"), codes).translate(pixels, "mask.tif")
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[codes[value] for value in row] for row in pixels.tolist()]


def pack(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array([[r << 16 | g << 8 | b for r, g, b in colours]], np.int32)


def test_the_nearest_colour_counts_where_asked_and_exact_ones_stay():
    exact = find_colours("isprs", ())
    near = replace(exact, nearest=True)
    known = pack(*PALETTES["isprs"])
    assert near.translate(known, "m").tolist() == exact.translate(known, "m").tolist()
    soft = pack((252, 255, 0), (9, 222, 221), (20, 3, 11))
    classes = [exact.classes.index(name) for name in ("car", "low_vegetation")]
    assert near.translate(soft, "m").tolist() == [[*classes, IGNORE]]
    with pytest.raises(CorruptSampleError, match=r"the colour \(9, 222, 221\), which is no class"):
        exact.translate(soft, "m")
