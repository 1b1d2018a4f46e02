"""How many pixels of a map each class has, for legends."""

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
        share: Its share of the pixels that have data, 0 to 1.
    """

    number: int
    name: str
    colour: tuple[int, int, int]
    share: float

    @property
    def percent(self) -> str:
        """The share for people: "0%" means no pixel at all."""
        if 0 < self.share < 0.001:
            return "<0.1%"
        return f"{self.share:.1%}" if self.share else "0%"


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
        total = max(1, int(counts.sum()))
        colours = class_colours(len(classes)).tolist()
        entries = [
            LegendEntry(number, name, tuple(colours[number]), int(counts[number]) / total)
            for number, name in enumerate(classes)
        ]
        return sorted(entries, key=lambda entry: (-entry.share, entry.number))
