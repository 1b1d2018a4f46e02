"""Bands of sensors by their names, and what their pixels are divided by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]

# Sentinel-2's bands by the common names of STAC's extension eo
# (https://github.com/stac-extensions/eo#common-band-names).
COMMON_NAMES = {
    "b1": "coastal", "b2": "blue", "b3": "green", "b4": "red", "b5": "rededge071",
    "b6": "rededge075", "b7": "rededge078", "b8": "nir", "b8a": "nir08", "b9": "nir09",
    "b10": "cirrus", "b11": "swir16", "b12": "swir22",
}  # fmt: skip
RGB_BANDS = ("red", "green", "blue")


def common_name(band: str) -> str:
    """Return the common name of a band: ``red`` for ``B04``, ``b4`` and ``Red``."""
    name = band.lower()
    return COMMON_NAMES.get(name.replace("b0", "b", 1) if name.startswith("b0") else name, name)


def match_bands(bands: Sequence[str], known: Sequence[str]) -> tuple[int | None, ...]:
    """Return for each of ``bands`` the index of the same band in ``known``, or ``None``."""
    names = [common_name(band) for band in known]
    return tuple(
        names.index(name) if (name := common_name(band)) in names else None for band in bands
    )


def find_rgb(bands: Sequence[str]) -> Rgb | None:
    """Return the numbers of the red, green and blue band, from 0; ``None`` if not all are named."""
    red, green, blue = match_bands(RGB_BANDS, bands)
    if red is None or green is None or blue is None:
        return None
    return red, green, blue


def divisors(std: Sequence[float]) -> NDArray[np.float64]:
    """Return what centred pixels are divided by: the standard deviation of each band, ``[C]``.

    It is 1 for a band of deviation 0, which is constant: that band becomes 0 and not NaN.
    """
    values = np.asarray(std, np.float64)
    return np.where(values > 0, values, 1.0)
