"""The map of an area is that of the whole scene there, and nothing outside of it is predicted."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window

from rsdl.core.errors import ConfigError, DataError
from rsdl.predict.area import Area, find_area, parse_box, read_area
from rsdl.predict.scene import WindowRule, predict_scene
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.georef import apply, shift
from rsdl.raster.read_tile import read_window
from rsdl.raster.scenes import Scene
from tests.unit.predict.scenes import PLACE, by_place, describe, draw_scene, predict, write_map

SIZE = (120, 170)
BLENDED = WindowRule((32, 32), overlap=8, blend=True)
TILED = WindowRule((32, 32), overlap=0, blend=False)
SOUTH_UP = Affine(0.5, 0, 390_000, 0, 0.5, 5_700_000)
ROTATED = Affine(0.4, 0.3, 390_000, 0.3, -0.4, 5_700_000)


def area_of(scene: Scene, pixels: Sequence[Sequence[float]]) -> Area:
    """Return the polygon through (column, row) points of a scene, in its CRS."""
    shape = shapely.Polygon(apply(scene.transform, np.array(pixels, float)))
    return Area("--aoi", "digest", np.array([shape]), scene.crs)


def inside(scene: Scene, pixels: Sequence[Sequence[float]]) -> np.ndarray:
    """Return which centres of pixels lie in a polygon of (column, row) points."""
    rows, cols = np.indices((scene.height, scene.width)) + 0.5
    return np.asarray(shapely.contains_xy(shapely.Polygon(pixels), cols, rows))


@pytest.mark.parametrize("transform", [PLACE, SOUTH_UP, ROTATED])
@pytest.mark.parametrize("rule", [BLENDED, TILED])
@pytest.mark.parametrize(
    "pixels",
    [
        [(40.2, 30.3), (90.7, 41.4), (71.1, 88.8)],
        [(0, 0), (170, 0), (170, 120), (0, 120)],
        [(100, 60), (103, 60), (103, 62), (100, 62)],  # smaller than a window
        [(150.3, 100.2), (400, 90.1), (390.7, 500)],  # most of it beyond the scene
        [
            (10.2, 10.3),
            (160.1, 110.7),
            (160.1, 112.9),
            (8.3, 12.1),
        ],  # a strip
    ],
)
def test_the_map_of_an_area_is_that_of_the_scene_there(
    tmp_path: Path, transform: Affine, rule: WindowRule, pixels: list[tuple[float, float]]
):
    draw_scene(tmp_path / "a.tif", SIZE, transform=transform)
    scene = describe(tmp_path / "a.tif")
    whole, _ = predict(scene, by_place, rule)
    (clipped,) = area_of(scene, pixels).clip([scene])
    shares, valid = predict(clipped, by_place, rule)
    assert clipped.clip is not None
    top, left = clipped.clip.corner
    place = slice(top, top + clipped.height), slice(left, left + clipped.width)
    assert clipped.transform == shift(scene.transform, top, left)
    wanted = inside(scene, pixels)
    np.testing.assert_array_equal(valid, wanted[place])
    assert wanted[place].sum() == wanted.sum()
    np.testing.assert_array_equal(shares[:, valid], whole[:, *place][:, valid])


def test_windows_without_any_of_the_area_are_neither_read_nor_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draw_scene(tmp_path / "a.tif", SIZE)
    scene = describe(tmp_path / "a.tif")
    reads: list[object] = []
    diagonal = [(0, 0), (170, 119.2), (170, 120), (0, 1.3)]
    (clipped,) = area_of(scene, diagonal).clip([scene])
    assert (clipped.height, clipped.width) == SIZE
    asked = []

    def network(windows: np.ndarray) -> np.ndarray:
        asked.extend(windows)
        return by_place(windows)

    monkeypatch.setattr(
        "rsdl.predict.scene.read_window",
        lambda *args, **kwargs: reads.append(args) or read_window(*args, **kwargs),
    )
    predict_scene(
        clipped, network, TILED, lambda top, shares, valid: None, num_classes=3, batch_size=4
    )
    wanted, rows, cols = inside(scene, diagonal), (0, 32, 64, 88), (0, 32, 64, 96, 128, 138)
    met = [wanted[row : row + 32, col : col + 32].any() for row in rows for col in cols]
    assert len(asked) == len(reads) == sum(met) < 12


def test_a_map_of_an_area_lies_where_the_area_does(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", SIZE)
    scene = describe(tmp_path / "a.tif")
    (clipped,) = area_of(scene, [(20, 10), (60, 10), (60, 50), (20, 50)]).clip([scene])
    classes = write_map(clipped, by_place, BLENDED, tmp_path / "map.tif")
    whole = write_map(scene, by_place, BLENDED, tmp_path / "whole.tif")
    np.testing.assert_array_equal(classes, whole[10:50, 20:60])
    with rasterio.open(tmp_path / "map.tif") as found:
        assert found.transform == shift(PLACE, 10, 20)
        assert found.shape == (40, 40)


def test_a_clipped_scene_is_read_in_its_own_pixels(tmp_path: Path):
    pixels = draw_scene(tmp_path / "a.tif", SIZE)
    scene = describe(tmp_path / "a.tif")
    (clipped,) = area_of(scene, [(20, 10), (60, 10), (60, 50), (20, 50)]).clip([scene])
    found, _ = read_window(clipped, Window(5, 3, 30, 20), DatasetPool())
    np.testing.assert_array_equal(np.moveaxis(found, 2, 0), pixels[:, 13:33, 25:55])


def test_a_box_is_longitude_and_latitude_with_edges_that_follow_the_parallels(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", SIZE, transform=Affine(500, 0, 390_000, 0, -500, 5_700_000))
    scene = describe(tmp_path / "a.tif")
    west, south, east, north = 13.6, 51.1, 14.4, 51.3
    (clipped,) = parse_box(f"{west},{south},{east},{north}").clip([scene])
    _, valid = predict(clipped, by_place, BLENDED)
    rows, cols = np.indices(SIZE) + 0.5
    xs, ys = apply(scene.transform, np.stack([cols.ravel(), rows.ravel()], axis=1)).T
    lon, lat = map(np.array, transform(scene.crs, "EPSG:4326", xs, ys))
    wanted = ((lon > west) & (lon < east) & (lat > south) & (lat < north)).reshape(SIZE)
    top, left = clipped.clip.corner
    place = slice(top, top + clipped.height), slice(left, left + clipped.width)
    assert wanted[place].sum() == wanted.sum() > 4900
    # A quarter of a pixel is allowed; straight edges between the corners would miss 24.
    assert (valid != wanted[place]).sum() <= 5


def test_polygons_of_a_file_in_another_crs_need_no_class(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", SIZE)
    scene = describe(tmp_path / "a.tif")
    box = transform_bounds("EPSG:32633", "EPSG:4326", 390_010, 5_699_960, 390_030, 5_699_990)
    shape = shapely.box(*box)
    features = [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    for name in ("a.geojson", "b.geojson"):
        (tmp_path / name).write_text(text)
    area = read_area(tmp_path / "a.geojson")
    (clipped,) = area.clip([scene])
    assert 60 <= clipped.height <= 64
    assert 40 <= clipped.width <= 44  # the box is turned by half a degree
    assert area.record == read_area(tmp_path / "b.geojson").record
    names = ("a.gpkg", "a.shp", "a.fgb")
    for name in names:
        pyogrio.raw.write(
            tmp_path / name, shapely.to_wkb(np.array([shape])), [np.array(["x"])], ["name"],
            geometry_type="Polygon", crs="EPSG:4326",
        )  # fmt: skip
    assert {read_area(tmp_path / name).record for name in names} == {area.record}
    (tmp_path / "b.geojson").write_text(text.replace("13.4", "13.5", 1))
    assert area.record != read_area(tmp_path / "b.geojson").record


def test_scenes_that_the_area_does_not_touch_are_left_out(tmp_path: Path):
    for number, name in enumerate("ab"):
        place = shift(PLACE, 0, 1000 * number)
        draw_scene(tmp_path / f"{name}.tif", SIZE, transform=place)
    scenes = [describe(tmp_path / f"{name}.tif") for name in "ab"]
    # The box around this triangle meets the second scene, the triangle does not.
    triangle = area_of(scenes[0], [(0, 0), (1010, 5000), (0, 5000)])
    assert [clipped.path for clipped in triangle.clip(scenes)] == [scenes[0].path]
    assert triangle.touched(scenes) == (scenes[0],)
    beside = area_of(scenes[0], [(170, 0), (200, 0), (200, 50), (170, 50)])  # an edge in common
    with pytest.raises(DataError, match=r"--aoi: the polygons cover .*, but the scenes lie in"):
        beside.clip(scenes)


def test_a_box_with_swapped_axes_is_told_so(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", SIZE)
    with pytest.raises(DataError, match="their axes look swapped"):
        parse_box("51.43,13.41,51.44,13.42").clip([describe(tmp_path / "a.tif")])


@pytest.mark.parametrize(
    ("aoi", "bbox", "problem"),
    [
        (None, "1,2,3", '"1,2,3" is no box'),
        (None, "a,b,c,d", "is no box"),
        (None, "14,50,13,51", "has a west beyond its east; .*180th meridian"),
        (None, "13,51,13,52", "is empty"),
        (None, "nan,1,2,3", "is not in degrees"),
        (None, "390000,5699900,390100,5700000", "is not in degrees"),
        ("a.geojson", "1,2,3,4", "does not go with --aoi"),
        ("a.txt", None, r"a\.txt is no vector file that rsdl reads; give one of \.geojson"),
    ],
)
def test_what_is_no_area_is_refused(aoi: str | None, bbox: str | None, problem: str):
    with pytest.raises(ConfigError, match=problem):
        find_area(aoi, bbox)
    assert find_area(None, None) is None
