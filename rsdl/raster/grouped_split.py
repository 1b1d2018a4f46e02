"""Assign whole groups of samples to splits, so that each split gets its share of each class.

Samples that belong together (tiles of one scene or of one block of ground) go to one split, so
classes are split as evenly as the groups allow. As in iterative stratification (Sechidis et al.
2011), a group goes to the split that lacks the most of its classes relative to the split's share,
so that a class of three groups has one in each. As in scikit-learn's ``StratifiedGroupKFold``, the
groups that are hardest to place are assigned first. Two rules take precedence: train gets a group
of every class, and no requested split stays empty. Folds of cross-validation are equal splits
without the first rule.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GROUPED_RULE = "groups, stratified by class"


def deal_groups(
    counts: NDArray[np.integer],
    keys: Sequence[float],
    fractions: Sequence[float],
    *,
    cover: bool = True,
) -> NDArray[np.int8]:
    """Assign groups to splits, as a function of their counts and keys and not of their order.

    Args:
        counts: Samples of each class in each group, ``[G, C]``.
        keys: Random number of each group, ``[G]``; orders groups of similar size.
        fractions: Share of each split; at most ``G`` of them are above 0 if ``cover``.
        cover: Whether the first split, train, gets a group of every class before others.

    Returns:
        Number of each group's split, as in ``fractions``, ``[G]``.
    """
    wanted = [split for split in range(len(fractions)) if fractions[split] > 0]
    assert not cover or len(counts) >= len(wanted), "more splits than groups"
    # With shares, rare classes weigh as much as common ones; fsum is exact on every machine.
    shares = (counts / np.maximum(counts.sum(axis=0), 1)).tolist()
    sizes = [math.frexp(math.fsum(group))[1] for group in shares]  # powers of two
    order = sorted(range(len(counts)), key=lambda group: (-sizes[group], keys[group]))
    lacks = [[fractions[split]] * counts.shape[1] for split in range(len(fractions))]
    splits = np.full(len(counts), -1, np.int8)

    def give(group: int, split: int) -> None:
        splits[group] = split
        lacks[split] = [lack - got for lack, got in zip(lacks[split], shares[group], strict=True)]

    def need(group: int, split: int) -> float:
        lack = math.fsum(a * b for a, b in zip(lacks[split], shares[group], strict=True))
        return lack / fractions[split]

    if cover and 0 in wanted:
        for group in _cover(counts > 0, order)[: len(counts) - len(wanted) + 1]:
            give(group, 0)
    rest = [group for group in order if splits[group] < 0]
    empty = [split for split in wanted if split or not (splits == 0).any()]
    for left, group in zip(range(len(rest), 0, -1), rest, strict=True):
        open_to = empty if left <= len(empty) else wanted
        best = max(open_to, key=lambda split: (need(group, split), -split))
        give(group, best)
        if best in empty:
            empty.remove(best)
    return splits


def _cover(holds: NDArray[np.bool_], order: Sequence[int]) -> list[int]:
    """Return a small set of groups that covers every class, those of the rarest classes first.

    Args:
        holds: Whether a group holds a class, ``[G, C]``.
        order: Groups by decreasing preference.
    """
    chosen: list[int] = []
    missing = set(np.flatnonzero(holds.any(axis=0)).tolist())
    classes = [set(np.flatnonzero(row).tolist()) for row in holds]
    for label in np.argsort(holds.sum(axis=0), kind="stable").tolist():
        if label in missing:
            able = [group for group in order if label in classes[group]]
            chosen.append(max(able, key=lambda group: len(classes[group] & missing)))
            missing -= classes[chosen[-1]]
    return chosen
