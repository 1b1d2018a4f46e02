import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.features import rasterize
from rasterio.warp import transform_bounds, transform_geom

from rsdl.core.errors import ConfigError, StorageError
from rsdl.data.sources.synthetic import CLASSES, draw_parcels, write_scenes

SIZE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    assert write_scenes(folder, num_scenes=3, size=SIZE, seed=5) == folder / "labels.geojson"
    return folder


def rng_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def features_of(folder: Path, scene: str) -> list[dict]:
    page = json.loads((folder / "labels.geojson").read_text())
    return [found for found in page["features"] if found["properties"]["scene"] == scene]


def test_scenes_are_georeferenced_rgb(folder: Path):
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            assert (scene.count, scene.width, scene.height) == (3, SIZE, SIZE)
            assert set(scene.dtypes) == {"uint8"}
            assert scene.crs == "EPSG:32633"
            assert 0.5 <= scene.res[0] <= 1.0 and scene.res[0] == scene.res[1]
            assert set(scene.block_shapes) == {(256, 256)}
            assert scene.compression.value == "DEFLATE"
            pixels = scene.read()
        assert pixels.std() > 20
        assert (pixels == 0).mean() < 0.05 and (pixels == 255).mean() < 0.10


def test_polygons_cover_each_pixel_once(folder: Path):
    with rasterio.open(folder / "scene_000.tif") as scene:
        shapes = [
            transform_geom("EPSG:4326", scene.crs, found["geometry"])
            for found in features_of(folder, "scene_000.tif")
        ]
        masks = [rasterize([shape], scene.shape, transform=scene.transform) for shape in shapes]
    cover = np.sum(masks, axis=0)
    assert (cover != 1).mean() < 0.001


def test_rings_run_as_geojson_wants(folder: Path):
    for found in features_of(folder, "scene_001.tif"):
        longitude, latitude = np.array(found["geometry"]["coordinates"][0]).T
        steps = longitude[:-1] * latitude[1:] - longitude[1:] * latitude[:-1]
        assert steps.sum() > 0
        assert (longitude > 10).all() and (longitude < 20).all()


def test_labels_fall_on_what_they_say(folder: Path):
    # A river's middle is water, flat and without red; a forest is rough: known by their pixels.
    rough: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            grey = cv2.cvtColor(np.moveaxis(scene.read(), 0, 2).copy(), cv2.COLOR_RGB2GRAY)
            edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
            for found in features_of(folder, path.name):
                shape = transform_geom("EPSG:4326", scene.crs, found["geometry"])
                mask = rasterize([shape], scene.shape, transform=scene.transform) > 0
                inside = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0
                rough.setdefault(found["properties"]["class"], []).append(edges[inside].mean())
    calm = max(np.mean(rough["river"]), np.mean(rough["desert"]))
    for label in ("forest", "orchard", "parking", "dense_residential", "industrial"):
        assert np.mean(rough[label]) > 1.3 * calm, label


def test_every_class_is_in_every_scene(folder: Path):
    assert len(CLASSES) >= 8
    for number in range(3):
        found = Counter(
            feature["properties"]["class"]
            for feature in features_of(folder, f"scene_{number:03}.tif")
        )
        assert set(found) == set(CLASSES)
        assert max(found.values()) <= 2


def test_scenes_lie_apart_on_the_ground(tmp_path: Path, folder: Path):
    boxes = []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            boxes.append(scene.bounds)
            west, south, east, north = transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
            assert 10 < west < east < 20 and 45 < south < north < 55
    for one, other in combinations(boxes, 2):
        gap_x = max(one.left, other.left) - min(one.right, other.right)
        gap_y = max(one.bottom, other.bottom) - min(one.top, other.top)
        assert max(gap_x, gap_y) > 10


def test_the_same_seed_gives_the_same_files_and_more_scenes_change_none(
    tmp_path: Path, folder: Path
):
    write_scenes(tmp_path / "again", num_scenes=1, size=SIZE, seed=5)
    write_scenes(tmp_path / "other", num_scenes=1, size=SIZE, seed=6)
    first = (folder / "scene_000.tif").read_bytes()
    assert (tmp_path / "again" / "scene_000.tif").read_bytes() == first
    assert (tmp_path / "other" / "scene_000.tif").read_bytes() != first
    again = json.loads((tmp_path / "again" / "labels.geojson").read_text())["features"]
    assert again == features_of(folder, "scene_000.tif")


@pytest.mark.parametrize("size", [256, 300, 512, 640])
def test_parcels_are_large_enough_for_pure_tiles(size: int):
    for _, corners in draw_parcels(size, rng_of(1)):
        assert cv2.contourArea(corners.astype(np.float32)) > 0.6 * min(size / 4, 128) ** 2
        assert corners.min() >= 0 and corners.max() <= size


@pytest.mark.parametrize(("num_scenes", "size", "where"), [(0, 512, "num_scenes"), (1, 64, "size")])
def test_impossible_scenes_are_refused(tmp_path: Path, num_scenes: int, size: int, where: str):
    with pytest.raises(ConfigError, match=f"^{where}: "):
        write_scenes(tmp_path / "x", num_scenes=num_scenes, size=size, seed=0)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        write_scenes(tmp_path / "file" / "x", num_scenes=1, size=SIZE, seed=0)
