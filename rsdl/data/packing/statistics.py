"""Mean and standard deviation of each band, accumulated image by image.

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
        running = RunningStatistics(pixels.shape[2])
        running.add(pixels, valid)
        return running.total()

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
        """Return lists for :meth:`from_lists`; the round trip is exact, also through JSON."""
        return {
            "count": self.count.tolist(),
            "mean": self.mean.tolist(),
            "squares": self.squares.tolist(),
        }

    @classmethod
    def from_lists(cls, lists: dict[str, list[float]]) -> "BandStatistics":
        """Return the statistics that :meth:`to_lists` wrote."""
        return cls(*(np.array(lists[name]) for name in ("count", "mean", "squares")))


class RunningStatistics:
    """Statistics updated one image at a time.

    The update is :meth:`BandStatistics.merge` on Python floats: for the few bands of an image,
    array overhead is several times the cost of the arithmetic.

    Args:
        bands: Number of bands to measure.
    """

    def __init__(self, bands: int) -> None:
        self._count = 0.0
        self._bands = [(0.0, 0.0)] * bands  # mean and sum of squared deviations of each

    def add(self, pixels: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> None:
        """Add one image.

        Args:
            pixels: ``[H, W, C]``; bands after the measured ones are ignored.
            valid: Pixels to count, ``[H, W]``; ``None`` counts all.
        """
        num = pixels.shape[0] * pixels.shape[1] if valid is None else int(np.count_nonzero(valid))
        if num == 0:
            return
        mask = None if valid is None else valid.astype(np.uint8)
        count = self._count + num
        share, weight = num / count, self._count
        for first in range(0, len(self._bands), 4):
            # OpenCV sums at most four bands at a time.
            part = np.ascontiguousarray(pixels[:, :, first : first + 4])
            means, stds = (found.ravel().tolist() for found in cv2.meanStdDev(part, mask=mask))
            for band in range(first, min(first + 4, len(self._bands))):
                mean, squares = self._bands[band]
                delta, std = means[band - first] - mean, stds[band - first]
                squares = squares + std * std * num + delta * delta * weight * share
                self._bands[band] = mean + delta * share, squares
        self._count = count

    def total(self) -> BandStatistics:
        """Return the statistics of all images so far."""
        mean, squares = np.array(self._bands).reshape(-1, 2).T
        return BandStatistics(np.full(len(self._bands), self._count), mean, squares)


def merge_statistics(parts: Sequence[BandStatistics], bands: int) -> BandStatistics:
    """Merge partial statistics in order."""
    total = BandStatistics.empty(bands)
    for part in parts:
        total = total.merge(part)
    return total
