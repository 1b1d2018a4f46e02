"""Assign the tiles of all scenes to splits by the rule that the user chose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError
from rsdl.core.rng import key_of
from rsdl.raster.blocks import Splits, deal_blocks, group_boxes
from rsdl.raster.georef import common_crs, footprint, tile_boxes
from rsdl.raster.grouped_split import deal_groups
from rsdl.raster.scenes import Scene

# With fewer groups, a split by scene misses the fractions by too much to be the default.
MIN_GROUPS = 5
Corners = NDArray[np.int32]
Classes = NDArray[np.int32]
Part = tuple[int, Splits, Corners]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How tiles are split; same fields as in ``GeotiffOptions``."""

    split_by: Literal["auto", "scene", "block"]
    fractions: tuple[float, float, float]
    seed: int
    block: int
    gap: int


def split_tiles(
    scenes: Sequence[Scene],
    corners: Sequence[Corners],
    classes: Sequence[Classes],
    tile: int,
    rule: SplitRule,
) -> Iterator[Part]:
    """Split tiles so that no two of different splits overlap or touch on the ground.

    Under this constraint, the share of each class in each split is as close to its fraction as
    possible.

    Args:
        scenes: The scenes.
        corners: (row, column) of the tiles of each scene, ``[N, 2]``; at least one scene has tiles.
        classes: Class of each tile, from 0, as far as it is known before the tile is read, ``[N]``.
        tile: Side of a tile in pixels.
        rule: How to split.

    Yields:
        For each scene with tiles: its number, the split of each kept tile ``[M]``, and the corners
        of these tiles ``[M, 2]``, in the given order.

    Raises:
        ConfigError: If there are fewer groups of scenes, or blocks, than splits.
        DataError: If scenes cannot be placed in one CRS.
    """
    crs, used = common_crs(scenes), _with_tiles(corners)
    wanted = sum(fraction > 0 for fraction in rule.fractions)
    if rule.split_by != "block":
        groups = _group(scenes, used, crs)
        num_groups = int(groups.max()) + 1
        if rule.split_by == "scene" and num_groups < wanted:
            raise ConfigError(
                "split_by",
                f"labelled scenes that overlap or touch form {num_groups} groups, but {wanted} "
                "splits are wanted",
                "use --split-by block, or add scenes of other places",
            )
        if rule.split_by == "scene" or num_groups >= max(MIN_GROUPS, wanted):
            dealt = _deal_scenes(
                groups,
                [scenes[number].name for number in used],
                [classes[number] for number in used],
                rule,
            )
            for number, split in zip(used, dealt.tolist(), strict=True):
                yield number, np.full(len(corners[number]), split, np.int8), corners[number]
            return
    placed = [(number, scenes[number], corners[number], classes[number]) for number in used]
    yield from _split_by_block(placed, tile, crs, rule)


def name_places(scenes: Sequence[Scene], corners: Sequence[Corners]) -> dict[int, str]:
    """Return a name for the place of each scene with tiles; scenes that overlap or touch share it.

    Args:
        scenes: The scenes.
        corners: (row, column) of the tiles of each scene, ``[N, 2]``.

    Raises:
        DataError: If scenes cannot be placed in one CRS.
    """
    crs, used = common_crs(scenes), _with_tiles(corners)
    groups = _group(scenes, used, crs).tolist()
    members: dict[int, list[str]] = {}
    for group, number in zip(groups, used, strict=True):
        members.setdefault(group, []).append(scenes[number].name)
    names = {group: key_of("place", *sorted(found)) for group, found in members.items()}
    return {number: f"{names[group]:032x}" for group, number in zip(groups, used, strict=True)}


def _with_tiles(corners: Sequence[Corners]) -> list[int]:
    return [number for number, tiles in enumerate(corners) if len(tiles)]


def _group(scenes: Sequence[Scene], used: Sequence[int], crs: rasterio.CRS) -> NDArray[np.integer]:
    """Return the group of each scene used ``[N]``: those that overlap or touch share one."""
    return group_boxes(np.stack([footprint(scenes[number], crs) for number in used]))


def _deal_scenes(
    groups: NDArray[np.integer], names: Sequence[str], classes: Sequence[Classes], rule: SplitRule
) -> Splits:
    """Return the split of each scene ``[N]``; all scenes of a group get the same."""
    num_groups = int(groups.max()) + 1
    counts = np.zeros((num_groups, 1 + max(int(each.max()) for each in classes)), np.int64)
    members: list[list[str]] = [[] for _ in range(num_groups)]
    for group, name, each in zip(groups.tolist(), names, classes, strict=True):
        np.add.at(counts[group], each, 1)
        members[group].append(name)
    keys = [key_of("scenes", rule.seed, *sorted(group)) for group in members]
    return np.asarray(deal_groups(counts, keys, rule.fractions)[groups])


def _split_by_block(
    placed: Sequence[tuple[int, Scene, Corners, Classes]],
    tile: int,
    crs: rasterio.CRS,
    rule: SplitRule,
) -> Iterator[Part]:
    # Recompute the boxes in each pass: all of them at once would dominate memory.
    largest = np.zeros(2)
    for _, scene, corners, _ in placed:
        boxes = tile_boxes(scene, corners, tile, crs)
        largest = np.maximum(largest, (boxes[:, 2:] - boxes[:, :2]).max(axis=0))
    blocks = deal_blocks(
        ((tile_boxes(scene, corners, tile, crs), each) for _, scene, corners, each in placed),
        tile_size=(float(largest[0]), float(largest[1])),
        block=rule.block,
        gap=rule.gap,
        fractions=rule.fractions,
        seed=rule.seed,
    )
    for number, scene, corners, _ in placed:
        splits, kept = blocks.assign(tile_boxes(scene, corners, tile, crs))
        yield number, splits[kept], corners[kept]
