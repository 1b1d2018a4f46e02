"""Scenes are read as those that the run was trained on were packed."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from rsdl.config.model import ModelConfig
from rsdl.config.task import SegmentationConfig
from rsdl.core.errors import ConfigError, DataError
from rsdl.predict.find import find_files
from rsdl.predict.folder import MapFolder
from rsdl.predict.inputs import (
    SceneOptions,
    choose_part,
    choose_scenes,
    find_scenes,
    find_tile,
    scene_rules,
)
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.read_tile import read_window
from rsdl.raster.scenes import SceneRules, describe_scenes
from rsdl.records.model_spec import ModelSpec
from rsdl.storage.connect import connect
from tests.unit.predict.scenes import PLACE, draw_scene

RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
PACKED = {"alpha": "band", "unscale": "on", "nodata": 7.0, "tile": 96}


def describe_network(**fields: Any) -> ModelSpec:  # noqa: ANN401 - of ModelSpec
    bands = fields.get("bands", ("red", "green", "blue"))
    return ModelSpec.model_validate(
        {
            "run": "r", "task": SegmentationConfig(name="segmentation"),
            "model": ModelConfig(name="test_resnet", weights="none"), "timm_model": "test_resnet",
            "classes": ("a", "b"), "bands": bands, "dtype": "uint8", "mean": (0.0,) * len(bands),
            "std": (1.0,) * len(bands), "image_size": 64, "eval_crop": 1.0, "decode_size": None,
            "dataset": "d", "provenance": {},
        }
        | fields
    )  # fmt: skip


def test_what_the_user_does_not_say_is_what_the_data_set_was_packed_with():
    spec = describe_network(provenance={"source": "geotiff", "options": PACKED})
    bands = ("red", "green", "blue")
    assert scene_rules(spec, SceneOptions()) == SceneRules("band", bands, "on", 7.0)
    given = SceneOptions(bands=("3", "2", "1"), alpha="mask", unscale="off", nodata=0.0)
    assert scene_rules(spec, given) == SceneRules("mask", ("3", "2", "1"), "off", 0.0)
    other = describe_network(provenance={"source": "folder", "options": PACKED})
    assert scene_rules(other, SceneOptions()) == SceneRules("auto", bands, "auto", None)
    images = {"source": "folder", "rules": {"nodata": 255.0, "unscale": True}}
    packed = describe_network(provenance=images)
    assert scene_rules(packed, SceneOptions()) == SceneRules("auto", bands, "on", 255.0)


@pytest.mark.parametrize("name", ["a_probabilities.tif", "prediction.tif"])
def test_scenes_whose_maps_would_have_one_name_are_refused(name: str, tmp_path: Path):
    for each in ("a.tif", name):
        draw_scene(tmp_path / each)
    scenes = describe_scenes([tmp_path / "a.tif", tmp_path / name], SceneRules())
    with pytest.raises(ConfigError, match=r"--out: .* would be of .*; rename the scene"):
        MapFolder(connect(str(tmp_path / "maps"))).check_apart(scenes)


def test_bands_are_found_by_name_in_the_order_of_the_run(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    spec = describe_network(bands=("blue", "red"))
    (scene,) = find_scenes(find_files([str(tmp_path)]), scene_rules(spec, SceneOptions()), spec)
    assert scene.indexes == (3, 1)


def test_bands_that_scenes_name_otherwise_are_asked_for_in_the_order_of_the_run(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    spec = describe_network(bands=("nir", "red"))
    files = [tmp_path / "a.tif"]
    with pytest.raises(ConfigError, match=r'no band "nir"; .*; pass those that are nir, red, in'):
        find_scenes(files, scene_rules(spec, SceneOptions()), spec)
    with pytest.raises(ConfigError, match=r'no band "7"; it has red, green, blue$'):
        find_scenes(files, scene_rules(spec, SceneOptions(bands=("7", "red"))), spec)


def test_bands_without_names_are_all_bands_of_a_scene(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    spec = describe_network(bands=("band_1", "band_2"))
    rules = scene_rules(spec, SceneOptions())
    with pytest.raises(DataError, match=r"has 3 bands .*, the run was trained on 2"):
        find_scenes(find_files([str(tmp_path)]), rules, spec)
    named = scene_rules(spec, SceneOptions(bands=("band_1", "band_2")))
    assert find_scenes(find_files([str(tmp_path)]), named, spec)[0].indexes == (1, 2)


def test_maps_are_no_scenes(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    (tmp_path / "maps").mkdir()
    draw_scene(tmp_path / "maps/a.tif")
    spec = describe_network()
    rules = scene_rules(spec, SceneOptions())
    found = find_scenes(find_files([str(tmp_path)], maps=str(tmp_path / "maps")), rules, spec)
    assert [scene.path for scene in found] == [tmp_path / "a.tif"]


def test_a_float_run_says_that_scale_may_be_missing(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as raster:
        raster.scales = (0.1,) * 3
    spec = describe_network(dtype="float32")
    rules = scene_rules(spec, SceneOptions())
    with pytest.raises(DataError, match=r"has pixels of uint8, .*--unscale on"):
        find_scenes(find_files([str(tmp_path)]), rules, spec)
    scaled = scene_rules(spec, SceneOptions(unscale="on"))
    assert find_scenes(find_files([str(tmp_path)]), scaled, spec)[0].dtype == "float32"


def test_bands_whose_order_cannot_be_compared_are_said(tmp_path: Path):
    spec = describe_network(bands=("band_1", "band_2", "band_3"))
    rules = scene_rules(spec, SceneOptions())
    said = {}
    for name, colours in {"usual": RGB, "turned": RGB[::-1]}.items():
        draw_scene(tmp_path / f"{name}.tif")
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as raster:
            raster.colorinterp = colours
        found = choose_scenes([tmp_path / f"{name}.tif"], rules, spec, SceneOptions())
        said[name] = " ".join(found.remarks)
    assert "taken as blue, green, red (--bands)" in said["turned"]
    assert "taken as" not in said["usual"]


def test_a_nodata_that_no_pixel_can_hold_is_refused_unless_an_old_data_set_says_it(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    given = SceneOptions(nodata=-9999.0)
    spec = describe_network(provenance={"source": "geotiff", "options": {"nodata": -9999.0}})
    rules, files = scene_rules(spec, given), [tmp_path / "a.tif"]
    with pytest.raises(ConfigError, match="--nodata: is -9999, which no pixel of uint8 can hold"):
        choose_scenes(files, rules, spec, given)
    assert choose_scenes(files, rules, spec, SceneOptions()).scenes[0].nodata == -9999


def test_a_scale_that_the_run_does_not_know_is_refused_by_its_option(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as raster:
        raster.scales = (0.1,) * 3
    spec = describe_network()
    rules = scene_rules(spec, SceneOptions(unscale="on"))
    with pytest.raises(ConfigError, match=r"--unscale on: makes pixels float32, .* leave it out"):
        find_scenes([tmp_path / "a.tif"], rules, spec)


def test_float64_is_read_as_float32_where_the_training_images_were(tmp_path: Path):
    pixels = np.random.default_rng(0).uniform(0, 1e4, (3, 8, 8))
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", dtype="float64", count=3, height=8, width=8,
        crs="EPSG:32633", transform=PLACE,
    ) as raster:  # fmt: skip
        raster.write(pixels)
    bands = ("band_1", "band_2", "band_3")
    packed = {"source": "burned", "rules": {"narrow": True}}
    spec = describe_network(bands=bands, dtype="float32", provenance=packed)
    rules = scene_rules(spec, SceneOptions())
    (scene,) = find_scenes([tmp_path / "a.tif"], rules, spec)
    found, _ = read_window(scene, Window(0, 0, 8, 8), DatasetPool())
    np.testing.assert_array_equal(found, np.moveaxis(pixels, 0, 2).astype(np.float32))
    assert found.dtype == np.float32
    other = spec.model_copy(update={"provenance": {}})
    with pytest.raises(
        DataError, match=r"has pixels of float64, .* with \"gdal_translate -ot Float32"
    ):
        find_scenes([tmp_path / "a.tif"], scene_rules(other, SceneOptions()), other)


@pytest.mark.parametrize(
    ("provenance", "tile"),
    [
        ({"source": "geotiff", "options": PACKED}, 96),
        ({"source": "roads", "masks": {"tile": 48}}, 48),
        ({"source": "roads", "masks": {"tile": None}}, 64),
        ({}, 64),
    ],
)
def test_windows_are_as_large_as_the_training_tiles(provenance: dict, tile: int):
    assert find_tile(describe_network(provenance=provenance))[0] == tile


def test_a_tile_that_nothing_tells_is_asked_for():
    with pytest.raises(ConfigError, match="--tile: is needed: the network sees 64 x 96 px"):
        find_tile(describe_network(image_size=(64, 96)))


def test_parts_are_all_items_each_once():
    items = list(range(10))
    parts = [choose_part(items, f"{number}/3") for number in (1, 2, 3)]
    assert parts[0] == [0, 3, 6, 9]
    assert sorted(chain(*parts)) == items
    for wrong in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3"):
        with pytest.raises(ConfigError, match="--part"):
            choose_part(items, wrong)
