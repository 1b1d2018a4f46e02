"""No neighbour leaks from one split into another."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster import spatial_split as spatial
from rsdl.raster.blocks import deal_blocks, group_boxes
from rsdl.raster.gate import BandTable
from rsdl.raster.georef import common_crs, footprint, tile_boxes
from rsdl.raster.scenes import Scene
from rsdl.raster.spatial_split import Part, SplitRule
from rsdl.raster.tiles import tile_corners

FRACTIONS = (0.7, 0.15, 0.15)


def make_scene(
    number: int,
    left: float,
    top: float,
    size: tuple[int, int] = (40, 40),
    pixel: float = 1.0,
    crs: str = "EPSG:32618",
    turned: float = 0.0,
) -> Scene:
    cos, sin = pixel * math.cos(math.radians(turned)), pixel * math.sin(math.radians(turned))
    transform = rasterio.Affine(cos, sin, left, sin, -cos, top)
    return Scene(
        path=Path(f"{number}.tif"), name=f"{number}.tif", slug=f"{number}",
        height=size[0], width=size[1], bands=("a",), indexes=(1,), alpha=None,
        table=BandTable((None,), (None,), (1.0,), (0.0,), (None,)), unscale=False, nodata=None,
        masked=False,
        dark_zero=False, dtype="uint8", crs=rasterio.CRS.from_string(crs), transform=transform,
    )  # fmt: skip


def corners_of(scenes: Sequence[Scene], tile: int, overlap: int) -> list[np.ndarray]:
    return [
        np.array(tile_corners(s.height, s.width, tile=tile, overlap=overlap), np.int32)
        for s in scenes
    ]


def split_tiles(
    scenes: Sequence[Scene], corners: Sequence[np.ndarray], tile: int, rule: SplitRule
) -> Iterator[Part]:
    """Split tiles that are all of one class."""
    alike = [np.zeros(len(each), np.int32) for each in corners]
    return spatial.split_tiles(scenes, corners, alike, tile, rule)


def assert_apart(scenes: Sequence[Scene], parts: Sequence[Part], tile: int) -> None:
    crs = common_crs(scenes)
    boxes = np.concatenate([tile_boxes(scenes[n], corners, tile, crs) for n, _, corners in parts])
    splits = np.concatenate([splits for _, splits, _ in parts])
    for split in range(3):
        mine, others = boxes[splits == split], boxes[splits > split]
        for x0, y0, x1, y1 in mine:
            touching = (
                (others[:, 0] <= x1) & (others[:, 2] >= x0)
                & (others[:, 1] <= y1) & (others[:, 3] >= y0)
            )  # fmt: skip
            assert not touching.any()


places = st.tuples(st.integers(-60, 60), st.integers(-60, 60))
scenes_on_one_ground = st.lists(
    st.tuples(
        places,
        st.tuples(st.integers(20, 90), st.integers(20, 90)),
        st.sampled_from([0.5, 1.0, 1.3]),
        st.sampled_from([0.0, 0.0, 30.0]),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    raw=scenes_on_one_ground,
    tile=st.integers(3, 9),
    overlap=st.integers(0, 2),
    block=st.integers(1, 5),
    gap=st.integers(1, 3),
    seed=st.integers(0, 99),
    mixed=st.booleans(),
)
def test_no_tile_touches_a_tile_of_another_split(
    raw: list, tile: int, overlap: int, block: int, gap: int, seed: int, mixed: bool
):
    scenes = [
        make_scene(
            number,
            left=500_000.0 + x,
            top=4_500_000.0 + y,
            size=size,
            pixel=pixel,
            crs="EPSG:32618" if number or not mixed else "EPSG:26918",
            turned=turned,
        )
        for number, ((x, y), size, pixel, turned) in enumerate(raw)
    ]
    rule = SplitRule("block", FRACTIONS, seed, block, gap)
    try:
        parts = list(split_tiles(scenes, corners_of(scenes, tile, overlap), tile, rule))
    except ConfigError:
        assume(False)
    assert_apart(scenes, parts, tile)


def test_the_same_ground_in_another_year_is_in_the_same_split():
    scenes = [make_scene(year, 500_000 + year, 4_500_000, size=(120, 120)) for year in range(3)]
    rule = SplitRule("block", FRACTIONS, 1, 4, 1)
    parts = list(split_tiles(scenes, corners_of(scenes, 5, 0), 5, rule))
    assert set(np.concatenate([splits for _, splits, _ in parts])) == {0, 1, 2}
    assert_apart(scenes, parts, 5)
    seen = [{tuple(c): s for s, c in zip(p[1], p[2], strict=True)} for p in parts]
    both = set(seen[0]) & set(seen[1])
    assert both
    assert all(seen[0][corner] == seen[1][corner] for corner in both)


def test_block_splits_come_near_the_fractions():
    scenes = [make_scene(0, 500_000, 4_500_000, size=(800, 800))]
    crs = common_crs(scenes)
    boxes = tile_boxes(scenes[0], corners_of(scenes, 4, 0)[0], 4, crs)
    tiles = [(boxes, np.zeros(len(boxes), np.int32))]
    blocks = deal_blocks(tiles, tile_size=(4.0, 4.0), block=5, gap=1, fractions=FRACTIONS, seed=3)
    share = np.bincount(blocks.assign(boxes)[0]) / len(boxes)
    assert np.abs(share - FRACTIONS).max() < 0.02


def test_block_splits_depend_on_seed_and_not_on_the_order_of_scenes():
    scenes = [make_scene(n, 500_000 + 37 * n, 4_500_000, size=(90, 90)) for n in range(3)]
    corners = corners_of(scenes, 5, 0)

    def split(order: list[int], seed: int) -> dict[str, list[int]]:
        rule = SplitRule("block", FRACTIONS, seed, 2, 1)
        chosen = [scenes[i] for i in order]
        parts = split_tiles(chosen, [corners[i] for i in order], 5, rule)
        return {chosen[n].name: splits.tolist() for n, splits, _ in parts}

    assert split([0, 1, 2], 1) == split([2, 0, 1], 1)
    assert split([0, 1, 2], 1) != split([0, 1, 2], 2)


@settings(max_examples=60, deadline=None)
@given(places=st.lists(places, min_size=3, max_size=14), seed=st.integers(0, 9))
def test_scenes_that_touch_share_a_split(places: list[tuple[int, int]], seed: int):
    scenes = [
        make_scene(n, 500_000 + 10.0 * x, 4_500_000 + 10.0 * y) for n, (x, y) in enumerate(places)
    ]
    rule = SplitRule("scene", FRACTIONS, seed, 8, 1)
    try:
        parts = list(split_tiles(scenes, corners_of(scenes, 10, 0), 10, rule))
    except ConfigError:
        assume(False)
    assert all(len(set(splits)) == 1 for _, splits, _ in parts)
    assert set(np.concatenate([splits for _, splits, _ in parts])) == {0, 1, 2}
    assert_apart(scenes, parts, 10)


def test_scenes_in_different_utm_zones_are_compared_on_the_ground():
    # The same spot, 6 km wide, as zones 18 and 17 see it on their common border; one far away.
    here = make_scene(0, 243_900, 4_433_000, size=(60, 60), pixel=100.0)
    same = make_scene(1, 756_100 - 6000, 4_433_000, (60, 60), 100.0, "EPSG:32617")
    away = make_scene(2, 243_900, 4_633_000, size=(60, 60), pixel=100.0)
    crs = common_crs([here, same, away])
    groups = group_boxes(np.stack([footprint(s, crs) for s in (here, same, away)]))
    assert groups[0] == groups[1] != groups[2]


def test_adjoining_scenes_are_one_group():
    scenes = [make_scene(n, 500_000 + 40 * n, 4_500_000) for n in range(3)]
    rule = SplitRule("scene", FRACTIONS, 0, 8, 1)
    with pytest.raises(ConfigError, match="form 1 groups, but 3 splits"):
        list(split_tiles(scenes, corners_of(scenes, 10, 0), 10, rule))


@pytest.mark.parametrize(("count", "by_scene"), [(4, False), (5, True)])
def test_auto_splits_by_scene_where_enough_lie_apart(count: int, by_scene: bool):
    scenes = [make_scene(n, 500_000 + 1000 * n, 4_500_000) for n in range(count)]
    rule = SplitRule("auto", FRACTIONS, 0, 1, 1)
    parts = list(split_tiles(scenes, corners_of(scenes, 5, 0), 5, rule))
    assert all(len(set(splits)) == 1 for _, splits, _ in parts) == by_scene


def test_too_few_blocks_are_an_error():
    scenes = [make_scene(0, 500_000, 4_500_000)]
    rule = SplitRule("auto", FRACTIONS, 0, 50, 1)
    with pytest.raises(ConfigError, match="use a smaller block"):
        list(split_tiles(scenes, corners_of(scenes, 10, 0), 10, rule))


def test_scenes_across_the_180th_meridian_need_one_crs():
    scenes = [
        make_scene(0, 500_000, 4_500_000),
        make_scene(1, 179.9, 10.0, (40, 40), 0.01, "EPSG:4326"),
    ]
    rule = SplitRule("block", FRACTIONS, 0, 1, 1)
    with pytest.raises(DataError, match="reproject all scenes to one CRS"):
        list(split_tiles(scenes, corners_of(scenes, 20, 0), 20, rule))


def test_blocks_and_scenes_give_each_class_its_share():
    random = np.random.default_rng(0)
    scenes = [make_scene(n, 500_000 + 1000 * n, 4_500_000, size=(90, 90)) for n in range(60)]
    corners = corners_of(scenes, 10, 0)
    # Of four classes two lie in every scene, and the third and fourth in few.
    shares = ([0.5, 0, 0, 0.5], [0.5, 0.4, 0.1, 0])
    classes = [
        random.choice(4, len(each), p=shares[n % 6 > 0]).astype(np.int32)
        for n, each in enumerate(corners)
    ]
    for split_by in ("scene", "block"):
        rule = SplitRule(split_by, FRACTIONS, 3, 3, 1)
        found = np.zeros((3, 4))
        for number, splits, kept in spatial.split_tiles(scenes, corners, classes, 10, rule):
            code = {tuple(c): k for c, k in zip(corners[number], classes[number], strict=True)}
            for split, corner in zip(splits, kept, strict=True):
                found[split, code[tuple(corner)]] += 1
        shares = found / found.sum(axis=0)
        # What the gap takes from a split it takes from all classes.
        assert np.ptp(shares, axis=1).max() < 0.12, split_by
