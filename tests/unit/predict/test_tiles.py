"""A tile is a rectangle of the pixels that its window has, with what the network said of it."""

from pathlib import Path

import numpy as np
import shapely

from rsdl.predict.scene import WindowRule, predict_scene
from rsdl.predict.tiles import TileCollector, TileTable
from rsdl.predict.windows import lay_windows
from rsdl.raster.scenes import Scene
from tests.unit.predict.scenes import describe, draw_scene


def collect(scene: Scene, rule: WindowRule, said: list[np.ndarray]) -> TileTable:
    """Return the tiles of a scene under a network whose answers are kept in ``said``."""

    def network(windows: np.ndarray) -> np.ndarray:
        logits = windows.astype(np.float32).mean((1, 2)) / 8
        raised = np.exp(logits - logits.max(1, keepdims=True))
        shares = raised / raised.sum(1, keepdims=True)
        said.extend(shares)
        return shares[:, :, None, None]

    tiles = TileCollector(*rule.lay(scene), (scene.height, scene.width))
    predict_scene(scene, network, rule, tiles.add, num_classes=3, batch_size=3)
    return tiles.table()


def test_tiles_cover_the_scene_once_with_class_and_probability_of_their_window(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (45, 70))
    for overlap in (0, 5):
        said: list[np.ndarray] = []
        rule = WindowRule((16, 16), overlap=overlap, blend=False)
        found = collect(describe(tmp_path / "a.tif"), rule, said)
        assert len(found.shapes) == len(said)
        assert shapely.area(found.shapes).sum() == 45 * 70
        assert shapely.union_all(found.shapes).equals(shapely.box(0, 0, 70, 45))
        assert found.classes.tolist() == [int(shares.argmax()) for shares in said]
        np.testing.assert_allclose(found.probabilities, [max(each) for each in said], atol=1e-6)


def test_a_tile_without_data_is_left_out(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (32, 48), nodata=0, hole=(slice(0, 16), slice(0, 20)))
    rule = WindowRule((16, 16), overlap=0, blend=False)
    found = collect(describe(tmp_path / "a.tif"), rule, [])
    corners = sorted(shape.bounds[:2] for shape in found.shapes)
    # The second tile has data in 12 of its 16 columns.
    assert corners == [(0, 16), (16, 0), (16, 16), (32, 0), (32, 16)]


def test_tiles_of_a_part_begin_where_the_part_does():
    rows, cols = (lay_windows(n, window=16, overlap=0, blend=False) for n in (48, 64))
    tiles = TileCollector(rows, cols, (30, 50), corner=(10, 14))
    shares = np.zeros((2, 30, 50), np.float32)
    shares[1, 6:22, 2:18] = 1  # the window at row 16, column 16
    tiles.add(0, shares, np.ones((30, 50), bool))
    found = tiles.table()
    assert shapely.area(found.shapes).sum() == 30 * 50
    (place,) = np.flatnonzero(found.classes == 1)
    assert found.shapes[place].bounds == (2, 6, 18, 22)


def test_a_scene_smaller_than_a_window_is_one_tile_of_its_size(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (10, 12))
    rule = WindowRule((16, 16), overlap=0, blend=False)
    (shape,) = collect(describe(tmp_path / "a.tif"), rule, []).shapes
    assert shape.bounds == (0, 0, 12, 10)
