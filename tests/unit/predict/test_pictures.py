"""Pictures of scenes and maps lie where their grid says."""

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform

from rsdl.data.targets.mask import class_colours
from rsdl.predict.pictures import paint, read_classes, read_picture, scene_grid, web_grid
from rsdl.raster.georef import apply
from rsdl.raster.scenes import SceneRules, describe_scenes
from tests.unit.predict.maps import draw_map
from tests.unit.predict.scenes import PLACE, describe, draw_scene

PLACES = [
    ("EPSG:32633", PLACE),
    ("EPSG:32633", Affine(0.5, 0, 390_000, 0, 0.5, 5_700_000)),  # south-up
    ("EPSG:32633", Affine(0.4, 0.3, 390_000, 0.3, -0.4, 5_700_000)),
    ("EPSG:4326", Affine(1e-4, 0, 20, 0, -1e-4, 60)),
    ("EPSG:2263", Affine(3, 0, 980_000, 0, -3, 200_000)),
]


@pytest.mark.parametrize(("crs", "place"), PLACES)
def test_a_pixel_of_the_map_lies_at_its_longitude_and_latitude(
    tmp_path: Path, crs: str, place: Affine
):
    classes = np.zeros((200, 300), np.uint8)
    classes[40:60, 220:240] = 1
    path, scene, _ = draw_map(tmp_path, classes, ("a", "b"), crs=crs, place=place)
    web = web_grid(scene, 2048)
    south, west, north, east = web.bounds
    found = read_classes(path, scene, web.grid)
    rows, cols = np.nonzero(found == 1)
    # Web Mercator is linear in longitude, and over so few metres in latitude.
    lon = west + (cols.mean() + 0.5) / web.grid.width * (east - west)
    lat = north - (rows.mean() + 0.5) / web.grid.height * (north - south)
    x, y = apply(place, np.array([230, 50])).tolist()
    wanted = transform(scene.crs, "EPSG:4326", [x], [y])
    pixel = (north - south) / web.grid.height
    assert lat == pytest.approx(wanted[1][0], abs=pixel)
    assert lon == pytest.approx(wanted[0][0], abs=2 * pixel)


@pytest.mark.parametrize(("crs", "place"), PLACES)
def test_the_picture_of_a_scene_lies_under_its_map(tmp_path: Path, crs: str, place: Affine):
    classes = np.zeros((200, 300), np.uint8)
    classes[40:60, 220:240] = 1
    path, scene, _ = draw_map(tmp_path, classes, ("a", "b"), crs=crs, place=place)
    with rasterio.open(scene.path, "r+") as raster:
        raster.write(np.where(classes == 1, 255, 10)[None].repeat(3, axis=0).astype(np.uint8))
    for grid in (web_grid(scene, 2048).grid, web_grid(scene, 100).grid, scene_grid(scene, 100)):
        classes = read_classes(path, scene, grid)
        bright = read_picture(scene, grid, classes != 255)[..., 0] > 130
        marked = classes == 1
        assert marked.any()
        assert (bright & marked).sum() / (bright | marked).sum() > 0.75


def test_a_grid_has_no_more_pixels_than_asked_for_and_no_fewer_than_there_are(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (300, 900))
    scene = describe(tmp_path / "a.tif")
    assert (scene_grid(scene, 90).height, scene_grid(scene, 90).width) == (30, 90)
    assert (scene_grid(scene, 2048).height, scene_grid(scene, 2048).width) == (300, 900)
    assert max(web_grid(scene, 90).grid.width, web_grid(scene, 90).grid.height) == 90
    assert web_grid(scene, 2048).grid.width == pytest.approx(900, rel=0.05)


def test_a_scene_across_the_180th_meridian_is_whole(tmp_path: Path):
    x, y = transform("EPSG:4326", "EPSG:32660", [180], [10])
    place = Affine(1000, 0, x[0] - 35_000, 0, -1000, y[0])
    draw_scene(tmp_path / "a.tif", crs="EPSG:32660", transform=place)
    _, west, _, east = web_grid(describe(tmp_path / "a.tif"), 2048).bounds
    assert 0.6 < east - west < 0.7
    assert (west + east) / 2 % 360 == pytest.approx(180, abs=0.02)


def test_a_pole_and_a_building_site_have_no_place_on_the_web(tmp_path: Path):
    for crs in ("EPSG:3413", 'LOCAL_CS["building site",UNIT["metre",1]]'):
        draw_scene(tmp_path / "a.tif", crs=crs, transform=Affine(10, 0, -300, 0, -10, 200))
        assert web_grid(describe(tmp_path / "a.tif"), 2048) is None


def test_other_types_are_stretched_and_missing_data_is_not_seen(tmp_path: Path):
    pixels = np.random.default_rng(0).normal(1500, 100, (3, 40, 50)).astype(np.float32)
    pixels[:, :20] = -9999
    pixels[:, 20, :5] = np.nan
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", dtype="float32", count=3, height=40, width=50,
        crs="EPSG:32633", transform=PLACE, nodata=-9999,
    ) as raster:  # fmt: skip
        raster.write(pixels)
    scene = describe_scenes([tmp_path / "a.tif"], SceneRules())[0]
    known = np.zeros((40, 50), bool)
    known[20:] = True
    found = read_picture(scene, scene_grid(scene, 50), known)[21:]
    assert found.min() == 0
    assert found.max() == 255
    assert 110 < found.mean() < 145


@pytest.mark.parametrize("nodata", [-9999, math.nan, 300, 0])
def test_nodata_that_no_pixel_can_have_does_no_harm(tmp_path: Path, nodata: float):
    pixels = draw_scene(tmp_path / "a.tif")
    scene = describe_scenes([tmp_path / "a.tif"], SceneRules(nodata=nodata))[0]
    found = read_picture(scene, scene_grid(scene, 100), np.ones((45, 70), bool))
    np.testing.assert_array_equal(np.moveaxis(found, 2, 0), pixels)


def test_classes_have_the_colours_of_the_map():
    painted = paint(np.array([[0, 2, 255]], np.uint8), 3)
    assert painted[0].tolist() == [*class_colours(3)[[0, 2]].tolist(), [0, 0, 0]]
