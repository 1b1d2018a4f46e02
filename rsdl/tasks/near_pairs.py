"""Which boxes are near each other: a sweep whose memory is that of its answer.

The upright hulls of the boxes are cut into bands about as high as a box is, and each band is swept
from left to right. Two hulls that share bands are a pair of one of them alone: of the band in which
the upper edge of the lower one lies.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

# Pairs that are held at once.
CHUNK = 1 << 19


def near_pairs(
    hulls: NDArray[np.floating[Any]], groups: Numbers
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield every pair of hulls of the same group that share an area, once, some at a time.

    Args:
        hulls: Left, top, right and bottom of each, ``[N, 4]``; one that is not finite is near none.
        groups: Number of each hull's group, not negative, ``[N]``.

    Yields:
        Numbers of the hulls, the lower first, ``[P], [P]``.
    """
    chosen = np.flatnonzero(np.isfinite(hulls).all(axis=1))
    if not len(chosen):
        return
    left, top, right, bottom = hulls[chosen].astype(np.float64).T
    left, right = left - left.min(), right - left.min()
    top, bottom = top - top.min(), bottom - top.min()
    band_height = max(float((bottom - top).mean()), 1e-6)
    first_band = (top / band_height).astype(np.int64)
    num_bands = (bottom / band_height).astype(np.int64) - first_band + 1
    owner = np.repeat(np.arange(len(chosen)), num_bands)
    band = np.arange(len(owner)) - np.repeat(np.cumsum(num_bands) - num_bands, num_bands)
    band += first_band[owner]
    # One number line, on which each band of each group has a stretch as wide as all hulls together.
    stretch = groups[chosen][owner] * (band.max() + 1) + band
    line = stretch * (right.max() + 1)
    start, end = line + left[owner], line + right[owner]
    order = np.argsort(start, kind="stable")
    owner, band, start, end = owner[order], band[order], start[order], end[order]
    num_next = np.searchsorted(start, end, side="left") - np.arange(len(start)) - 1
    num_next = np.maximum(num_next, 0)
    for begin, stop in _chunks(num_next):
        counts = num_next[begin:stop]
        one = np.repeat(np.arange(begin, stop), counts)
        other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
        here, there = owner[one], owner[other]
        lower = np.maximum(first_band[here], first_band[there])
        near = (band[one] == lower) & (top[here] < bottom[there]) & (top[there] < bottom[here])
        here, there = chosen[here[near]], chosen[there[near]]
        yield np.minimum(here, there), np.maximum(here, there)


def _chunks(counts: Numbers) -> Iterator[tuple[int, int]]:
    """Yield the first and the last plus one of runs of rows with about ``CHUNK`` pairs each."""
    ends = np.cumsum(counts)
    begin, done = 0, 0
    while begin < len(counts):
        stop = max(int(np.searchsorted(ends, done + CHUNK, side="right")), begin + 1)
        yield begin, stop
        begin, done = stop, int(ends[stop - 1])
