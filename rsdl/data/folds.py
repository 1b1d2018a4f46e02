"""Cross-validation: the train and val splits as one pool, and the part of it that a fold holds out.

Samples of one group (the scene that a tile was cut from) never straddle the parts, and the folds
get equal shares of each class as far as the groups allow, as with scikit-learn's
``StratifiedGroupKFold``. The folds are a function of (seed, number of folds, groups and classes of
the pool), so they are the same on every machine. The trade-off: the pool and its parts are copies
of index rows in memory, about 120 bytes a sample in all, so that what reads a split reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsdl.config.fold import Fold
from rsdl.core.errors import ConfigError
from rsdl.core.rng import key_of, uniforms
from rsdl.data.index import Index, join_rows
from rsdl.raster.grouped_split import deal_groups

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FoldParts:
    """The pool, divided by one fold.

    Attributes:
        pool: Index of all samples.
        train: Index of the samples to train on.
        val: Index of the samples of the fold.
        num_groups: Groups of the pool; ``None`` if each sample is its own.
    """

    pool: Index
    train: Index
    val: Index
    num_groups: int | None


def divide(pool: Index, fold: Fold, seed: int) -> FoldParts:
    """Return the parts of a pool.

    Args:
        pool: Index of all samples.
        fold: The fold to hold out.
        seed: Seed of the run.

    Raises:
        ConfigError: If there are fewer groups than folds.
    """
    groups = pool.groups
    num_groups = None if groups is None else len(np.unique(groups))
    num = len(pool) if num_groups is None else num_groups
    if num < fold.num_folds:
        what = "samples" if num_groups is None else "groups (scenes that overlap or touch are one)"
        raise ConfigError(
            "data.fold",
            f"is {fold}, but there are only {num} {what} to train and validate on",
            f"use K/{num}" if num > 1 else "leave it out",
        )
    held = assign_folds(pool.labels, groups, fold.num_folds, seed) == fold.number - 1
    return FoldParts(pool, pool.take(~held), pool.take(held), num_groups)


def assign_folds(
    labels: NDArray[np.integer], groups: NDArray[np.uint64] | None, count: int, seed: int
) -> Int64s:
    """Return the fold of each sample, from 0, ``[N]``; none is empty.

    Groups of several samples are dealt first, the hardest to place before others; the samples that
    stand alone then fill up what each fold lacks of their class.

    Args:
        labels: Class index of each sample, ``[N]``; one value for all if targets are not one class.
        groups: Group of each sample, ``[N]``; ``None`` if each is its own.
        count: Number of folds, at most the number of groups.
        seed: Seed of the folds.
    """
    if groups is None:
        groups = np.arange(len(labels), dtype=np.uint64)
    names, group = np.unique(groups, return_inverse=True)
    keys = uniforms(key_of("folds", seed, count), names, 1)[:, 0]
    classes, label = np.unique(labels, return_inverse=True)
    folds = np.full(len(names), -1)
    large = np.bincount(group) > 1
    if large.any():
        place = np.cumsum(large) - 1
        inside = large[group]
        counts = np.zeros((int(large.sum()), len(classes)), np.int64)
        np.add.at(counts, (place[group[inside]], label[inside]), 1)
        folds[large] = deal_groups(counts, keys[large].tolist(), [1 / count] * count, cover=False)
    dealt = folds[group]
    have = np.zeros((count, len(classes)), np.int64)
    np.add.at(have, (dealt[dealt >= 0], label[dealt >= 0]), 1)
    alone = np.flatnonzero(dealt < 0)
    alone = alone[np.argsort(keys[group[alone]], kind="stable")]
    for number in range(len(classes)):
        mine = alone[label[alone] == number]
        dealt[mine] = _fill_up(have[:, number], have.sum(axis=1), len(mine))
        have[:, number] += np.bincount(dealt[mine], minlength=count)
    return dealt


def _fill_up(have: Int64s, total: Int64s, num: int) -> Int64s:
    """Return the folds that samples of a class go to, one by one to that which has the fewest.

    Args:
        have: Samples of the class in each fold, ``[count]``.
        total: All samples in each fold, ``[count]``: the smallest wins ties.
        num: Number of samples to place.
    """
    level = -(-(int(have.sum()) + num) // len(have))
    room = np.maximum(level - have, 0)
    folds = np.repeat(np.arange(len(have)), room)
    reached = np.concatenate(
        [np.arange(low, low + more) for low, more in zip(have, room, strict=True)]
    )
    rank = np.argsort(np.argsort(total, kind="stable"))
    return folds[np.lexsort((rank[folds], reached))[:num]]


def join_indexes(parts: Sequence[Index]) -> Index:
    """Return the index of several splits as of one, in memory; one is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    sha256s = [part.shard_sha256s or (None,) * len(part.shard_names) for part in parts]
    known = [sha256 for of_part in sha256s for sha256 in of_part if sha256 is not None]
    names = [name for part in parts for name in part.shard_names]
    return Index(
        join_rows([part.rows for part in parts]),
        np.concatenate([part.shard_samples for part in parts]),
        names,
        known if len(known) == len(names) else None,
    )


def describe(parts: FoldParts, fold: Fold, classes: Sequence[str]) -> list[str]:
    """Return a line about a fold, and one for each class that one part lacks.

    Args:
        parts: The parts of the pool.
        fold: The fold held out.
        classes: Class names; empty if targets are not one class.
    """
    of = "each its own group" if parts.num_groups is None else f"in {parts.num_groups:,} groups"
    lines = [
        f"fold {fold} of {len(parts.pool):,} images, {of}: {len(parts.train):,} to train, "
        f"{len(parts.val):,} to validate"
    ]
    for where, there, here in (
        ("train", parts.val, parts.train),
        ("validate", parts.train, parts.val),
    ):
        lacks = np.setdiff1d(there.labels, here.labels).tolist()
        if classes and lacks:
            names = ", ".join(classes[label] for label in lacks)
            lines.append(f"fold {fold} has no image to {where} of: {names}")
    return lines
