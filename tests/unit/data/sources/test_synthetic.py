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
from rsdl.core.rng import key_of
from rsdl.data.sources.synthetic import CLASSES, draw_parcels, write_scenes
from rsdl.synthetic.landuse import PAINTERS
from rsdl.synthetic.relief import Site, light, noise

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


@pytest.mark.parametrize("number", [0, 1, 2])
def test_polygons_come_back_to_the_pixels_they_were_drawn_on(folder: Path, number: int):
    name = f"scene_{number:03}.tif"
    rng = np.random.Generator(np.random.Philox(key=key_of("scene", 5, number)))
    rng.uniform()  # The pixel size is drawn first.
    drawn = draw_parcels(SIZE, rng)
    features = features_of(folder, name)
    assert [found["properties"]["class"] for found in features] == [label for label, _ in drawn]
    with rasterio.open(folder / name) as scene:
        for found, (_, corners) in zip(features, drawn, strict=True):
            plane = transform_geom("EPSG:4326", scene.crs, found["geometry"])
            here = scene.transform
            east, north = np.array(plane["coordinates"][0]).T
            ring = np.stack([(east - here.c) / here.a, (north - here.f) / here.e], axis=1)
            assert np.array_equal(ring[0], ring[-1])
            away = np.linalg.norm(ring[:-1, None] - corners[None], axis=-1)
            assert away.min(axis=1).max() < 0.01
            assert sorted(away.argmin(axis=1)) == [0, 1, 2, 3]


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


@pytest.mark.parametrize("name", CLASSES)
def test_every_painter_fills_its_site(name: str):
    y, x = np.mgrid[:90, :120].astype(np.float32) * np.float32(0.3)
    site = Site(x - 18, y - 13.5, 0.3, 0.5, 0.3, rng_of(2))
    albedo, height = PAINTERS[name](site)
    assert albedo.shape == (90, 120, 3) and height.shape == (90, 120)
    assert np.isfinite(albedo).all() and np.isfinite(height).all()
    assert albedo.min() > -0.5 and albedo.max() < 1.5
    assert height.min() > -1 and height.max() < 20
    assert albedo.std() > 0.01


@pytest.mark.parametrize("seed", range(6))
def test_a_cone_casts_one_shadow_away_from_its_lit_side(seed: int):
    y, x = np.mgrid[:200, :200] - 100.0
    away_px = np.hypot(x, y)
    albedo = np.full((200, 200, 3), 0.5, np.float32)
    height = (10 * np.clip(1 - away_px / 8, 0, 1)).astype(np.float32)
    radiance = light(albedo, height, 0.5, rng_of(seed)).mean(axis=-1)
    ground = np.median(radiance)
    beside = away_px > 9
    dark, bright = (radiance < 0.8 * ground) & beside, (radiance > 1.05 * ground) & ~beside
    # The sun stands between 34 and 58 degrees; the very tip casts less than a pixel.
    away_m = 0.5 * away_px[dark].max()
    assert 9 / np.tan(np.deg2rad(58)) < away_m < 10.5 / np.tan(np.deg2rad(34))
    shadow, lit = (np.array([x[where].mean(), y[where].mean()]) for where in (dark, bright))
    assert shadow @ lit < -0.97 * np.linalg.norm(shadow) * np.linalg.norm(lit)


def test_noise_stays_in_its_range_and_is_smooth():
    field = noise((128, 128), 32, 3, rng_of(4))
    assert np.abs(field).max() < 1.5
    assert np.abs(np.diff(field, axis=0)).max() < 0.3
    assert field.std() > 0.1


@pytest.mark.parametrize(("num_scenes", "size", "where"), [(0, 512, "num_scenes"), (1, 64, "size")])
def test_impossible_scenes_are_refused(tmp_path: Path, num_scenes: int, size: int, where: str):
    with pytest.raises(ConfigError, match=f"^{where}: "):
        write_scenes(tmp_path / "x", num_scenes=num_scenes, size=size, seed=0)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        write_scenes(tmp_path / "file" / "x", num_scenes=1, size=SIZE, seed=0)
