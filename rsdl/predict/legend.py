"""How many pixels or objects of a map each class has, for legends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rsdl.data.targets.mask import IGNORE, class_colours


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A class of a map.

    Attributes:
        number: Value of its pixels.
        name: Its name.
        colour: Red, green and blue, as in the map's colour table.
        share: Its share of the pixels that have data, or of the objects, 0 to 1.
        amount: How much of the map it is, for people.
    """

    number: int
    name: str
    colour: tuple[int, int, int]
    share: float
    amount: str


class PixelCounts:
    """Counts the pixels of each class, rows by rows."""

    def __init__(self) -> None:
        self._counts = np.zeros(IGNORE + 1, np.int64)

    def add(self, classes: NDArray[np.uint8]) -> Self:
        """Add pixels, 255 without data."""
        self._counts += np.bincount(classes.reshape(-1), minlength=IGNORE + 1)
        return self

    def legend(self, classes: tuple[str, ...]) -> list[LegendEntry]:
        """Return all classes, those of most pixels first."""
        counts = self._counts[: len(classes)]
        return _legend(classes, counts, _percent)


def count_objects(labels: NDArray[np.int64], classes: tuple[str, ...]) -> list[LegendEntry]:
    """Return all classes with their number of objects, those of most objects first."""
    counts = np.bincount(labels, minlength=len(classes))
    return _legend(classes, counts, lambda count, share: f"{count:,}")


def _legend(
    classes: tuple[str, ...], counts: NDArray[np.int64], show: Callable[[int, float], str]
) -> list[LegendEntry]:
    colours, total = class_colours(len(classes)).tolist(), max(1, int(counts.sum()))
    entries = []
    for number in np.argsort(-counts, kind="stable").tolist():
        count = int(counts[number])
        name, colour, share = classes[number], tuple(colours[number]), count / total
        entries.append(LegendEntry(number, name, colour, share, show(count, share)))
    return entries


def _percent(count: int, share: float) -> str:
    """Return a share for people: "0%" means no pixel at all."""
    if 0 < share < 0.001:
        return "<0.1%"
    return f"{share:.1%}" if share else "0%"
