"""The colours of procedural scenes: soils, leaves of all seasons, roofs, cars and cloth."""

import numpy as np

from rsdl.synthetic.relief import Colour, Field, Site

ASPHALT = (0.30, 0.30, 0.31)
CONCRETE = (0.56, 0.55, 0.52)
SAND = (0.74, 0.64, 0.47)
CARS: tuple[Colour, ...] = (
    (0.85, 0.85, 0.86), (0.85, 0.85, 0.86), (0.10, 0.10, 0.12), (0.48, 0.50, 0.53),
    (0.62, 0.13, 0.11), (0.13, 0.22, 0.45), (0.70, 0.68, 0.62), (0.22, 0.23, 0.25),
)  # fmt: skip
TILES: tuple[Colour, ...] = (
    (0.58, 0.27, 0.19), (0.50, 0.24, 0.18), (0.64, 0.35, 0.24), (0.40, 0.29, 0.25),
    (0.34, 0.34, 0.37), (0.47, 0.41, 0.37),
)  # fmt: skip
SHEETS: tuple[Colour, ...] = (
    (0.80, 0.81, 0.82), (0.66, 0.68, 0.70), (0.50, 0.53, 0.57), (0.36, 0.47, 0.60),
    (0.60, 0.50, 0.44), (0.72, 0.73, 0.68),
)  # fmt: skip
CLOTHS: tuple[Colour, ...] = (
    (0.86, 0.20, 0.16), (0.15, 0.38, 0.76), (0.93, 0.80, 0.20), (0.93, 0.93, 0.92),
    (0.16, 0.58, 0.42),
)  # fmt: skip
CROPS: tuple[Colour, ...] = (
    (0.24, 0.42, 0.15), (0.36, 0.48, 0.18), (0.72, 0.63, 0.32), (0.45, 0.34, 0.24),
    (0.62, 0.60, 0.20), (0.17, 0.33, 0.15),
)  # fmt: skip


def leaves(site: Site, number: Field) -> Field:
    """Return the albedo of leaves, with one tone for each number in ``[0, 1)``, ``[h, w, 3]``."""
    dark, bright = np.array([0.13, 0.24, 0.10]), np.array([0.32, 0.43, 0.17])
    rust, straw = np.array([0.55, 0.29, 0.11]), np.array([0.66, 0.52, 0.18])
    tone = number[..., None]
    green = dark + (bright - dark) * tone
    turned = rust + (straw - rust) * tone
    share = np.clip(site.autumn * (0.4 + 1.2 * np.mod(number * 7, 1))[..., None], 0, 1)
    grain = 1 + 0.10 * site.noise(1.0, 2)[..., None]
    return np.asarray((green + (turned - green) * share) * grain, np.float32)


def pick(colours: tuple[Colour, ...], number: Field) -> Field:
    """Return one of the colours for each number in ``[0, 1)``, ``[h, w, 3]``."""
    index = np.clip((number * len(colours)).astype(np.int32), 0, len(colours) - 1)
    return np.asarray(colours, np.float32)[index]
