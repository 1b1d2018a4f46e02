"""The grid of tiles over a scene."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsdl.core.errors import ConfigError
from rsdl.raster.tiles import Tile, Tiles, corners_hit, tile_corners


@st.composite
def grids(draw: st.DrawFn) -> tuple[int, int, int, int]:
    tile = draw(st.integers(1, 12))
    height = draw(st.integers(tile, 50))
    width = draw(st.integers(tile, 50))
    return height, width, tile, draw(st.integers(0, tile - 1))


@settings(deadline=None)
@given(grids())
def test_full_size_tiles_cover_every_pixel(grid: tuple[int, int, int, int]):
    height, width, tile, overlap = grid
    covered = np.zeros((height, width), int)
    corners = tile_corners(height, width, tile=tile, overlap=overlap)
    for row, col in corners:
        assert 0 <= row <= height - tile
        assert 0 <= col <= width - tile
        covered[row : row + tile, col : col + tile] += 1
    assert covered.min() >= 1
    assert corners == sorted(set(corners))


@settings(deadline=None)
@given(grids())
def test_no_tile_but_the_last_shares_more_than_the_overlap(grid: tuple[int, int, int, int]):
    height, _, tile, overlap = grid
    rows = [row for row, _ in tile_corners(height, tile, tile=tile, overlap=overlap)]
    steps = np.diff(rows)
    assert (steps[:-1] == tile - overlap).all()
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()


@settings(deadline=None)
@given(
    grids(),
    st.lists(st.tuples(*[st.floats(-20, 70, allow_subnormal=False)] * 4), max_size=4),
)
def test_tiles_hit_by_boxes_are_those_that_overlap_one(
    grid: tuple[int, int, int, int], raw: list[tuple[float, float, float, float]]
):
    height, width, tile, overlap = grid
    boxes = [
        (min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in raw if a != c and b != d
    ]
    hit = corners_hit(
        np.array(boxes, float).reshape(-1, 4), height, width, tile=tile, overlap=overlap
    )
    wanted = [
        [row, col]
        for row, col in tile_corners(height, width, tile=tile, overlap=overlap)
        if any(t < row + tile and b > row and x < col + tile and r > col for t, x, b, r in boxes)
    ]
    assert hit.tolist() == wanted


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (4, 4), (4, -1), (11, 0)])
def test_a_grid_that_cannot_be_is_refused(tile: int, overlap: int):
    with pytest.raises(ConfigError):
        tile_corners(10, 20, tile=tile, overlap=overlap)


def test_tiles_are_a_sequence_of_plain_numbers():
    tiles = Tiles(np.arange(12, dtype=np.int32).reshape(4, 3))
    assert list(tiles[1:3]) == [Tile(3, 4, 5), Tile(6, 7, 8)]
    assert tiles[-1] == (9, 10, 11)
    assert type(tiles[0].row) is int
    with pytest.raises(IndexError):
        tiles[4]
