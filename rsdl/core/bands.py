"""Bands: which are red, green and blue by their names, and what their pixels are divided by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]

# Colours, and the bands of Sentinel-2.
RGB_NAMES = (("red", "green", "blue"), ("b04", "b03", "b02"), ("b4", "b3", "b2"))


def find_rgb(bands: Sequence[str]) -> Rgb | None:
    """Return the numbers of the red, green and blue band, from 0; ``None`` if not all are named."""
    names = [name.lower() for name in bands]
    for wanted in RGB_NAMES:
        if all(name in names for name in wanted):
            return names.index(wanted[0]), names.index(wanted[1]), names.index(wanted[2])
    return None


def divisors(std: Sequence[float]) -> NDArray[np.float64]:
    """Return what centred pixels are divided by: the standard deviation of each band, ``[C]``.

    It is 1 for a band of deviation 0, which is constant: that band becomes 0 and not NaN.
    """
    values = np.asarray(std, np.float64)
    return np.where(values > 0, values, 1.0)
