"""Scenes of another pixel size than the training imagery are refused, or read at that size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.windows import Window

from rsdl.core.errors import ConfigError, DataError
from rsdl.predict.inputs import SceneOptions, choose_scenes, scene_rules
from rsdl.predict.resample import TrainingGsd, fit, pixel_size, resampled, training_gsd
from rsdl.predict.scene import WindowRule
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.read_tile import read_window
from rsdl.raster.scenes import SceneRules, describe_scenes
from tests.unit.predict.scenes import by_pixel, describe, draw_scene, write_map
from tests.unit.predict.test_inputs import describe_network

GSD = {"min": 0.5, "median": 0.6, "max": 0.7}


def metres(tmp_path: Path, transform: Affine, crs: str) -> float | None:
    draw_scene(tmp_path / "a.tif", (20, 30), transform=transform, crs=crs)
    return pixel_size(describe(tmp_path / "a.tif"))


def test_pixels_are_measured_on_the_ground_whatever_the_unit(tmp_path: Path):
    north = Affine(0.5, 0, 500_000, 0, -0.5, 5_700_000)
    assert metres(tmp_path, north, "EPSG:32633") == pytest.approx(0.5 / 0.9996, rel=1e-5)
    turned = Affine(0.4, 0.3, 500_000, 0.3, -0.4, 5_700_000)
    assert metres(tmp_path, turned, "EPSG:32633") == pytest.approx(0.5 / 0.9996, rel=1e-5)
    degrees = Affine(1e-5, 0, 13, 0, -1e-5, 60)
    # At 60 degrees north: 111,412 m a degree of latitude, 55,800 m one of longitude.
    assert metres(tmp_path, degrees, "EPSG:4326") == pytest.approx(
        1e-5 * np.sqrt(111_412 * 55_800), rel=1e-4
    )
    mercator = Affine(1, 0, 1_400_000, 0, -1, 8_399_738)  # 60 degrees north: twice too long
    assert metres(tmp_path, mercator, "EPSG:3857") == pytest.approx(0.5, rel=5e-3)
    feet = Affine(1, 0, 500_000, 0, -1, 1_000_000)
    assert metres(tmp_path, feet, "EPSG:2263") == pytest.approx(0.3048, rel=1e-2)
    meridian = Affine(1e-5, 0, 179.9999, 0, -1e-5, 0)
    assert metres(tmp_path, meridian, "EPSG:4326") == pytest.approx(1.11, rel=1e-2)


@pytest.mark.parametrize(
    ("size", "held"), [(0.45, False), (0.46, True), (0.76, True), (0.78, False)]
)
def test_a_tenth_beside_what_was_trained_on_is_allowed(size: float, held: bool):
    spec = describe_network(provenance={"gsd_m": GSD})
    gsd = training_gsd(spec, None)
    assert gsd is not None
    assert gsd.holds(size) == held
    assert str(gsd) == "0.5 to 0.7 m"


def test_what_the_user_says_goes_before_what_is_recorded():
    assert training_gsd(describe_network(provenance={"gsd_m": GSD}), 2.0) == TrainingGsd(2, 2, 2)
    assert str(TrainingGsd(2, 2, 2)) == "2 m"
    assert training_gsd(describe_network(), None) is None


def test_a_scene_of_another_pixel_size_is_refused_by_both_sizes(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", transform=Affine(2, 0, 390_000, 0, -2, 5_700_000))
    scene = describe(tmp_path / "a.tif")
    with pytest.raises(
        DataError, match=r"pixels of 2 m, .* on 0\.5 to 0\.7 m; pass --resample .*0\.6"
    ):
        fit([scene], TrainingGsd(0.5, 0.6, 0.7), resample=False)
    assert fit([scene], TrainingGsd(2, 2, 2), resample=True) == (scene,)


@pytest.mark.parametrize("factor", [0.4, 1.7, 3.0])
@pytest.mark.parametrize("turn", [1, -1])
def test_any_window_of_a_resampled_scene_is_that_of_the_whole(
    tmp_path: Path, factor: float, turn: int
):
    place = Affine(0.5, 0, 390_000, 0, 0.5 * turn, 5_700_000)
    draw_scene(tmp_path / "a.tif", (150, 200), transform=place, nodata=0,
               hole=(slice(30, 90), slice(50, 120)))  # fmt: skip
    scene = resampled(describe(tmp_path / "a.tif"), factor)
    assert (scene.height, scene.width) == (round(150 / factor), round(200 / factor))
    pool = DatasetPool()
    whole, there = read_window(scene, Window(0, 0, scene.width, scene.height), pool)
    for row, col, height, width in ((0, 0, 20, 20), (7, 13, 31, 17), (scene.height - 9, 3, 9, 40)):
        pixels, valid = read_window(scene, Window(col, row, width, height), pool)
        found = slice(row, row + height), slice(col, col + width)
        known = np.ones((height, width), bool) if valid is None else valid
        np.testing.assert_array_equal(known, there[found])
        difference = np.abs(pixels[known].astype(int) - whole[found][known])
        assert difference.max() <= 1
    # Nodata enters no mean: no pixel is darker than the darkest one.
    assert whole[there].min() >= 1
    assert there.mean() == pytest.approx(1 - 60 * 70 / 150 / 200, abs=0.02)


def test_a_scene_that_was_made_coarser_is_mapped_where_it_lies(tmp_path: Path):
    pixels = draw_scene(tmp_path / "a.tif", (60, 90))
    blocks = np.repeat(np.repeat(pixels, 3, axis=1), 3, axis=2)
    with rasterio.open(tmp_path / "a.tif") as source:
        profile = source.profile | {"height": 180, "width": 270, "blockysize": 1}
    profile["transform"] = Affine(0.5 / 3, 0, 390_000, 0, -0.5 / 3, 5_700_000)
    with rasterio.open(tmp_path / "fine.tif", "w", **profile) as fine:
        fine.write(blocks)
    (scene,) = fit([describe(tmp_path / "fine.tif")], TrainingGsd(0.5, 0.5, 0.5), resample=True)
    rule = WindowRule((16, 16), overlap=4, blend=True)
    found = write_map(scene, by_pixel, rule, tmp_path / "map.tif")
    expected = write_map(describe(tmp_path / "a.tif"), by_pixel, rule, tmp_path / "whole.tif")
    np.testing.assert_array_equal(found, expected)
    with (
        rasterio.open(tmp_path / "map.tif") as mapped,
        rasterio.open(tmp_path / "fine.tif") as fine,
    ):
        np.testing.assert_allclose(mapped.bounds, fine.bounds)


def test_a_value_that_the_user_alone_calls_nodata_is_not_mixed_in(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (90, 90), hole=(slice(0, 45), slice(None)))
    (scene,) = describe_scenes([tmp_path / "a.tif"], SceneRules(nodata=0.0))
    with rasterio.open(tmp_path / "a.tif") as source:
        nearest = source.read(out_shape=(3, 40, 40), resampling=Resampling.nearest)
    pixels, valid = read_window(resampled(scene, 90 / 40), Window(0, 0, 40, 40), DatasetPool())
    np.testing.assert_array_equal(np.moveaxis(pixels, 2, 0)[:, valid], nearest[:, valid])
    np.testing.assert_array_equal(valid, nearest.any(axis=0))


def test_the_choice_of_scenes_says_and_records_what_it_did(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", transform=Affine(2, 0, 390_000, 0, -2, 5_700_000))
    draw_scene(tmp_path / "b.tif", transform=Affine(0.6, 0, 490_000, 0, -0.6, 5_700_000))
    files = [tmp_path / "a.tif", tmp_path / "b.tif"]

    def choose(provenance: dict, **given: Any) -> tuple:  # noqa: ANN401
        spec, options = describe_network(provenance=provenance), SceneOptions(**given)
        chosen = choose_scenes(files, scene_rules(spec, options), spec, options)
        return [scene.path.name for scene in chosen.scenes], chosen.remarks, chosen.record

    names, remarks, record = choose({"gsd_m": GSD}, resample=True)
    assert (names, record) == (["a.tif", "b.tif"], {"area": None, "gsd_m": 0.6})
    assert remarks == ("1 of 2 scenes are read, and mapped, at 0.6 m",)
    # A scene that the area does not touch may have any size.
    box = "14.8,51.4,14.9,51.5"
    names, remarks, record = choose({"gsd_m": GSD}, bbox=box)
    assert (names, record) == (["b.tif"], {"area": box, "gsd_m": None})
    assert remarks == ("1 of 2 scenes lie outside of the area and are left out",)
    assert "nothing says the pixel size" in choose({})[1][0]
    with pytest.raises(ConfigError, match=r"--resample: needs the pixel size .* --gsd METRES"):
        choose({}, resample=True)
