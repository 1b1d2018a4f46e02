"""Mean and standard deviation of each band, gathered image by image.

Partial sums are merged with the pairwise update of Chan et al. (1979), so that a billion pixels
lose no precision and the order of merging is fixed by the order of the shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Count, mean and sum of squared deviations of each band, ``[C]`` each."""

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def empty(cls, bands: int) -> "BandStatistics":
        """Return the statistics of no pixels."""
        return cls(np.zeros(bands), np.zeros(bands), np.zeros(bands))

    @classmethod
    def of(cls, pixels: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> "BandStatistics":
        """Return the statistics of one image.

        Args:
            pixels: ``[H, W, C]``.
            valid: Pixels to count, ``[H, W]``; ``None`` counts all.
        """
        bands = pixels.shape[2]
        num = pixels.shape[0] * pixels.shape[1] if valid is None else int(np.count_nonzero(valid))
        if num == 0:
            return cls.empty(bands)
        mask = None if valid is None else valid.astype(np.uint8)
        means, stds = [], []
        # OpenCV sums at most four bands at a time.
        for band in range(0, bands, 4):
            part = np.ascontiguousarray(pixels[:, :, band : band + 4])
            mean, std = cv2.meanStdDev(part, mask=mask)
            means.append(mean.ravel())
            stds.append(std.ravel())
        return cls(
            np.full(bands, float(num)), np.concatenate(means), np.concatenate(stds) ** 2 * num
        )

    def merge(self, other: "BandStatistics") -> "BandStatistics":
        """Return the statistics of both sets of pixels together."""
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)
        delta = other.mean - self.mean
        mean = self.mean + delta * share
        squares = self.squares + other.squares + delta**2 * self.count * share
        return BandStatistics(count, mean, squares)

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation of each band, ``[C]``."""
        return np.sqrt(
            np.divide(self.squares, self.count, out=np.zeros_like(self.count), where=self.count > 0)
        )

    def to_lists(self) -> dict[str, list[float]]:
        """Return what :meth:`from_lists` reads; exact, through JSON too."""
        return {
            "count": self.count.tolist(),
            "mean": self.mean.tolist(),
            "squares": self.squares.tolist(),
        }

    @classmethod
    def from_lists(cls, lists: dict[str, list[float]]) -> "BandStatistics":
        """Return the statistics that :meth:`to_lists` wrote."""
        return cls(*(np.array(lists[name]) for name in ("count", "mean", "squares")))


def merge_statistics(parts: Sequence[BandStatistics], bands: int) -> BandStatistics:
    """Merge partial statistics in order."""
    total = BandStatistics.empty(bands)
    for part in parts:
        total = total.merge(part)
    return total
