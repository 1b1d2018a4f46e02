import json
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import shapely

from rsdl.core.errors import ConfigError
from rsdl.data.sources.synthetic_objects import write_object_scenes
from rsdl.synthetic.objects import SPECIES, Standing, paint_object

SIZE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    boxes = write_object_scenes(folder, num_scenes=3, size=SIZE, seed=5)
    assert boxes == folder / "boxes.geojson"
    return folder


def features_of(folder: Path, scene: str) -> list[dict]:
    page = json.loads((folder / "boxes.geojson").read_text())
    return [found for found in page["features"] if found["properties"]["scene"] == scene]


def test_the_same_seed_gives_the_same_files_and_more_scenes_change_none(
    tmp_path: Path, folder: Path
):
    write_object_scenes(tmp_path / "again", num_scenes=1, size=SIZE, seed=5)
    write_object_scenes(tmp_path / "other", num_scenes=1, size=SIZE, seed=6)
    first = (folder / "scene_000.tif").read_bytes()
    assert (tmp_path / "again" / "scene_000.tif").read_bytes() == first
    assert (tmp_path / "other" / "scene_000.tif").read_bytes() != first
    again = json.loads((tmp_path / "again" / "boxes.geojson").read_text())["features"]
    assert again == features_of(folder, "scene_000.tif")


def test_objects_lie_in_their_scene_and_none_on_another(folder: Path):
    seen, angles = set(), []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            whole = shapely.box(*scene.bounds)
        found = features_of(folder, path.name)
        shapes = [shapely.geometry.shape(each["geometry"]) for each in found]
        assert all(len(shape.exterior.coords) == 5 and shape.within(whole) for shape in shapes)
        assert all(not one.intersects(other) for one, other in combinations(shapes, 2))
        seen |= {each["properties"]["class"] for each in found}
        for shape in shapes:
            (x0, y0), (x1, y1) = shape.exterior.coords[:2]
            angles.append(np.arctan2(y1 - y0, x1 - x0))
    assert seen == {"plane", "ship", "vehicle"}
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 0


@pytest.mark.parametrize("label", SPECIES)
@pytest.mark.parametrize("seed", range(4))
def test_an_object_fills_its_rectangle_from_end_to_end(label: str, seed: int):
    random = np.random.default_rng(seed)
    length, share = random.uniform(60, 100), random.uniform(*SPECIES[label].slender)
    one = Standing(label, 80.3, 79.6, length, length * share, random.uniform(-np.pi, np.pi))
    albedo, height = np.zeros((160, 160, 3), np.float32), np.zeros((160, 160), np.float32)
    paint_object(one, albedo, height, 0.1, random)
    assert ((albedo.sum(axis=2) > 0) == (height > 0)).all()
    y, x = np.nonzero(height)
    right, down, cos, sin = x + 0.5 - one.x, y + 0.5 - one.y, np.cos(one.angle), np.sin(one.angle)
    along, across = right * cos + down * sin, down * cos - right * sin
    for reach, half in ((along, one.length / 2), (across, one.width / 2)):
        assert half - 2.5 < reach.max() <= half and half - 2.5 < -reach.min() <= half
    inside = np.zeros(height.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(one.corners()).astype(np.int32)], 1)
    cover = (height > 0).sum() / inside.sum()
    low, high = {"plane": (0.2, 0.5), "ship": (0.7, 0.97), "vehicle": (0.9, 1.1)}[label]
    assert low < cover < high


def test_impossible_scenes_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^size: "):
        write_object_scenes(tmp_path / "x", num_scenes=1, size=64, seed=0)
    assert not (tmp_path / "x").exists()
