"""Spatial splits: tiles that touch on the ground never go to different splits.

Two rules. By scene: scenes that overlap or touch form one group, and a group goes into one split.
By block: the ground is cut into square blocks, a block goes into one split, and tiles near a block
of a split with higher priority (test before val before train) are left out. Blocks are anchored at
the origin of the CRS, so the same ground in another year falls into the same block. By scene loses
no tiles but needs many scenes apart from each other; by block works for one scene but loses the
tiles along the borders.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError
from rsdl.core.rng import key_of, uniforms
from rsdl.raster.grouped_split import deal_groups

Floats = NDArray[np.float64]
Splits = NDArray[np.int8]


def group_boxes(boxes: Floats) -> NDArray[np.int64]:
    """Return a group number for each box ``[N, 4]``; boxes that overlap or touch share one."""
    groups = np.arange(len(boxes))
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        near = (boxes[:, 0] <= x1) & (boxes[:, 2] >= x0) & (boxes[:, 1] <= y1) & (boxes[:, 3] >= y0)
        near[number] = True
        touched = np.unique(groups[near])
        groups[np.isin(groups, touched)] = touched[0]
    return np.unique(groups, return_inverse=True)[1]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of ground, each in one split.

    Attributes:
        tile_size: Width and height of the largest tile on the ground.
        block: Side of a block in tiles.
        gap: Least distance in tiles, at least 1, to a block of a split with higher priority.
        keys: Keys of the blocks that hold the centre of a tile, sorted, ``[B]``.
        splits: Split of each, ``[B]``.
    """

    tile_size: tuple[float, float]
    block: int
    gap: int
    keys: NDArray[np.int64]
    splits: Splits

    def assign(self, boxes: Floats) -> tuple[Splits, NDArray[np.bool_]]:
        """Return the split of each tile, and which tiles are far enough from other splits.

        Two kept tiles of different splits never touch: a tile extends at most half a tile beyond
        the block of its centre, and the tile of lower priority is ``gap >= 1`` tiles away.

        Args:
            boxes: Tiles on the ground, ``[N, 4]``.

        Returns:
            Number of the split ``[N]``, and whether the tile is kept ``[N]``.
        """
        splits = self._lookup(_cells(_centres(boxes), self._sides()))[0]
        margin = self.gap * np.array(self.tile_size)
        first = _cells(boxes[:, :2] - margin, self._sides())
        last = _cells(boxes[:, 2:] + margin, self._sides())
        kept = np.ones(len(boxes), bool)
        reach = (last - first).max(axis=0, initial=0)
        for step in np.ndindex(*(int(n) + 1 for n in reach)):
            other, known = self._lookup(np.minimum(first + step, last))
            kept &= ~(known & (other > splits))
        return splits, kept

    def _sides(self) -> Floats:
        return np.array(self.tile_size) * self.block

    def _lookup(self, cells: NDArray[np.int64]) -> tuple[Splits, NDArray[np.bool_]]:
        keys = _keys(cells)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.splits[places], self.keys[places] == keys


def deal_blocks(
    tiles: Iterable[tuple[Floats, NDArray[np.integer]]],
    *,
    tile_size: tuple[float, float],
    block: int,
    gap: int,
    fractions: Sequence[float],
    seed: int,
) -> Blocks:
    """Assign blocks of ground to splits, as a function of the seed, their position and classes.

    Args:
        tiles: For each scene, the boxes of its tiles on the ground ``[N, 4]`` and the class of each
            ``[N]``, from 0.
        tile_size: Width and height of the largest tile on the ground.
        block: Side of a block in tiles.
        gap: Tiles between splits, at least 1.
        fractions: Share of each of ``SPLITS``.
        seed: Seed of the split.

    Raises:
        ConfigError: If there are fewer blocks than splits.
    """
    keys, counts = np.empty(0, np.int64), np.zeros((0, 1), np.int64)
    for boxes, classes in tiles:
        cells = _keys(_cells(_centres(boxes), np.array(tile_size) * block))
        known, (keys, where) = counts, np.unique(np.concatenate([keys, cells]), return_inverse=True)
        counts = np.zeros((len(keys), max(known.shape[1], 1 + classes.max(initial=0))), np.int64)
        counts[where[: len(known)], : known.shape[1]] = known
        np.add.at(counts, (where[len(known) :], classes), 1)
    wanted = sum(fraction > 0 for fraction in fractions)
    if len(keys) < wanted:
        raise ConfigError(
            "block",
            f"the labelled ground fills {len(keys)} blocks of {block} x {block} tiles, but "
            f"{wanted} splits are wanted",
            "use a smaller block or tile, or set the fractions of val or test to 0",
        )
    draws = uniforms(key_of("blocks", seed), keys, 1)[:, 0].tolist()
    return Blocks(tile_size, block, gap, keys, deal_groups(counts, draws, fractions))


def _centres(boxes: Floats) -> Floats:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _cells(points: Floats, sides: Floats) -> NDArray[np.int64]:
    return np.floor(points / sides).astype(np.int64)


def _keys(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    return (cells[:, 0] << 32) + (cells[:, 1] + (1 << 31))
