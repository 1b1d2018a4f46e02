"""Class-balanced sampling: how often each sample is drawn in an epoch."""

import numpy as np
from numpy.typing import NDArray

from rsdl.core.rng import permutation

Int64s = NDArray[np.int64]


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


def repeated_shards(shard_samples: Int64s, repeats: Int64s) -> Int64s:
    """Return the number of draws that fall into each shard, ``[S]``."""
    edges = np.concatenate(([0], np.cumsum(shard_samples)))
    totals = np.concatenate(([0], np.cumsum(repeats)))
    return np.diff(totals[edges])
