"""Class-balanced sampling: how often each sample is drawn in an epoch."""

import numpy as np
from numpy.typing import NDArray

from rsdl.core.rng import key_of, permutation

Int64s = NDArray[np.int64]

# Draws are rounded to whole units, whose sums are exact: floating point adds up otherwise on other
# machines, and then ranks would read different samples.
UNITS = 1 << 24


def class_balanced_counts(labels: NDArray[np.integer], *, seed: int, epoch: int) -> Int64s:
    """Return how often to draw each sample so that every class is drawn equally often.

    An epoch keeps the length of the split. Each class present gets the same number of draws (counts
    differ by one if it does not divide), spread over its samples as evenly as possible; the samples
    with one extra draw change with the epoch.

    Args:
        labels: Class index of each sample, ``[N]``.
        seed: Seed of the run.
        epoch: Epoch, from 0.

    Returns:
        Draws of each sample, ``[N]``, adding up to ``N``.
    """
    repeats = np.zeros(len(labels), dtype=np.int64)
    classes = np.unique(labels)
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        # Spread the remainder over classes, rotating with the epoch.
        turn = (place + epoch) % len(classes)
        draws = (len(labels) + turn) // len(classes)
        repeats[members] = draws // len(members)
        extra = permutation(len(members), seed, epoch, "balance", int(label))
        repeats[members[extra[: draws % len(members)]]] += 1
    return repeats


def pixel_balanced_counts(pixels: NDArray[np.integer], *, seed: int, epoch: int) -> Int64s:
    """Return how often to draw each sample so that every class has an equal part in the draws.

    Class-aware sampling (Shen et al. 2016) by pixels: each of the ``C`` classes present gets
    ``N / C`` draws, and those of a class go to samples in proportion to its pixels in each. A
    sample is drawn the sum of that over its classes, rounded down or up, which changes with the
    epoch. Samples of one class only are then drawn as by :func:`class_balanced_counts`. Others
    bring along their other classes, so that the drawn pixels come nearer to equal shares than
    those of the split, but do not reach them; to go on until they do, draws would gather on a few
    samples. A sample without a labelled pixel is not drawn.

    Args:
        pixels: Pixels of each class in each sample, without ignored ones, ``[N, C]``.
        seed: Seed of the run.
        epoch: Epoch, from 0.

    Returns:
        Draws of each sample, ``[N]``, adding up to ``N``.
    """
    num = len(pixels)
    totals = pixels.sum(axis=0, dtype=np.int64)
    present = np.flatnonzero(totals).tolist()
    if not present:
        return np.ones(num, np.int64)
    draws = np.zeros(num)
    for label in present:
        draws += pixels[:, label] / totals[label] * (num / len(present))
    order = permutation(num, seed, epoch, "balance")
    # Systematic sampling: an even comb over the draws laid end to end, in the epoch's order.
    ends = np.cumsum(np.rint(draws[order] * UNITS).astype(np.int64))
    offset = key_of("comb", seed, epoch) % UNITS / UNITS
    teeth = np.minimum(np.floor(ends / ends[-1] * num + offset), num)
    repeats = np.zeros(num, np.int64)
    repeats[order] = np.diff(teeth, prepend=0)
    return repeats


def repeated_shards(shard_samples: Int64s, repeats: Int64s) -> Int64s:
    """Return the number of draws that fall into each shard, ``[S]``."""
    edges = np.concatenate(([0], np.cumsum(shard_samples)))
    totals = np.concatenate(([0], np.cumsum(repeats)))
    return np.diff(totals[edges])
