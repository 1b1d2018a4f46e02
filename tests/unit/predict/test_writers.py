"""A map is a COG on the scene's grid, with names and colours, and appears whole."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from rsdl.core.errors import FullDiskError, StorageError
from rsdl.data.targets.mask import class_colours
from rsdl.predict.scene import WindowRule
from rsdl.predict.writers import (
    check_room,
    class_layer,
    probability_layer,
    to_classes,
    to_levels,
    write_cog,
)
from tests.unit.predict.scenes import PLACE, by_pixel, describe, draw_scene, write_map

RULE = WindowRule((16, 16), overlap=4, blend=True)
SOUTH_UP = Affine(0.5, 0, 390_000, 0, 0.5, 5_700_000)
ROTATED = Affine(0.4, 0.3, 390_000, 0.3, -0.4, 5_700_000)


@pytest.mark.parametrize("transform", [PLACE, SOUTH_UP, ROTATED])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "+proj=laea +lat_0=52 +lon_0=10"])
def test_a_map_lies_on_the_grid_of_its_scene(tmp_path: Path, transform: Affine, crs: str):
    pixels = draw_scene(tmp_path / "a.tif", transform=transform, crs=crs)
    classes = write_map(describe(tmp_path / "a.tif"), by_pixel, RULE, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "a.tif") as scene, rasterio.open(tmp_path / "map.tif") as found:
        assert (found.crs, found.transform) == (scene.crs, scene.transform)
        assert (found.shape, found.dtypes, found.nodata) == (scene.shape, ("uint8",), 255)
    whole = by_pixel(np.moveaxis(pixels, 0, 2)[None])[0]
    np.testing.assert_array_equal(classes, whole.argmax(0))
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "map.tif"}


def test_a_map_is_a_cog_with_overviews_colours_and_class_names(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (600, 1100), nodata=0, hole=(slice(300), slice(500)))
    write_map(
        describe(tmp_path / "a.tif"), by_pixel, WindowRule((256, 256), 64, True),
        tmp_path / "map.tif",
    )  # fmt: skip
    with rasterio.open(tmp_path / "map.tif") as found:
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.overviews(1) == [2, 4]
        assert [found.tags()[f"CLASS_{n}"] for n in range(3)] == ["a", "b", "c"]
        colours = found.colormap(1)
        assert [colours[n][:3] for n in range(3)] == [tuple(rgb) for rgb in class_colours(3)]
        classes, smaller = found.read(1), found.read(1, out_shape=(300, 550))
        np.testing.assert_array_equal(found.read_masks(1) > 0, classes != 255)
    assert (classes[:300, :500] == 255).all()
    # An overview shows the class that most pixels have.
    cells = classes.reshape(300, 2, 550, 2).swapaxes(1, 2).reshape(300, 550, 4)
    for value in range(3):
        assert (smaller[(cells == value).sum(axis=2) > 2] == value).all()
    assert classes[300:].max() < 3


def test_probabilities_are_bytes_whose_scale_gdal_knows(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (20, 30))
    drawn = np.random.default_rng(0).dirichlet(np.ones(3), (20, 30))
    shares = np.moveaxis(drawn, 2, 0).astype(np.float32)
    valid = np.ones((20, 30), bool)
    valid[4] = False
    layer = probability_layer(("a", "b", "c"), {"RSDL_RUN": "r"})
    with write_cog(tmp_path / "p.tif", describe(tmp_path / "a.tif"), layer) as write:
        write(0, to_levels(shares[:, :7], valid[:7]))
        write(7, to_levels(shares[:, 7:], valid[7:]))
    with rasterio.open(tmp_path / "p.tif") as found:
        assert found.descriptions == ("a", "b", "c")
        assert found.tags()["PROBABILITY"] == "value / 254"
        values = found.read(masked=True) * np.array(found.scales)[:, None, None]
    np.testing.assert_array_equal(values.mask.any(0), ~valid)
    np.testing.assert_allclose(values[:, valid], shares[:, valid], atol=0.5 / 254 + 1e-6)


def test_without_data_a_class_and_a_probability_are_255():
    shares, valid = np.ones((2, 1, 2), np.float32), np.array([[True, False]])
    assert to_classes(shares, valid).tolist() == [[[0, 255]]]
    assert to_levels(shares, valid).tolist() == [[[254, 255]], [[254, 255]]]


def test_a_block_that_fails_leaves_nothing_behind(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    scene = describe(tmp_path / "a.tif")
    with (
        pytest.raises(ZeroDivisionError),
        write_cog(tmp_path / "map.tif", scene, class_layer(("a",), {})),
    ):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_disk_without_room_for_all_scratch_files_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draw_scene(tmp_path / "a.tif")
    scene, classes = describe(tmp_path / "a.tif"), class_layer(("a", "b"), {})
    layers = [classes, probability_layer(("a", "b"), {})]
    # Each layer has room, both have not.
    usage = shutil.disk_usage(tmp_path)._replace(free=scene.height * scene.width * 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for layer in layers:
        check_room(tmp_path, scene, [layer])
    with pytest.raises(FullDiskError, match="needs 0 MiB for scratch files"):
        check_room(tmp_path, scene, layers)


def test_what_gdal_cannot_write_is_an_error_of_the_store(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    part = tmp_path / "file" / "map.tif"
    (tmp_path / "file").mkdir()
    with (
        pytest.raises(StorageError, match="GDAL cannot write the map"),
        write_cog(part, describe(tmp_path / "a.tif"), class_layer(("a",), {})),
    ):
        part.mkdir()  # the COG cannot take its place
