"""Which bands are red, green and blue, by their names."""

from collections.abc import Sequence

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
