"""Polygons in files: where they lie, how large they are, and that GDAL reads them."""

import json
import math
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform

from rsdl.core.errors import DataError, StorageError
from rsdl.predict.features import FewFeatures, Format, Ground, write_features
from rsdl.raster.georef import apply
from rsdl.raster.scenes import Scene
from tests.unit.predict.scenes import PLACE, describe, draw_scene

CLASSES = ("field", "</script>é")
# A square with a square hole, and what fills the hole, as (column, row).
SHAPES = np.array([shapely.box(2, 3, 12, 13) - shapely.box(4, 5, 8, 9), shapely.box(4, 5, 8, 9)])


def write(part: Path, scene: Scene, kind: Format, min_area_m2: float = 0.0) -> Path:
    with write_features(part, scene, CLASSES, kind, min_area_m2=min_area_m2) as add:
        for number, shape in enumerate(SHAPES):  # some at a time
            add(np.array([shape]), {"class": np.array([number])})
    return part


def make_scene(folder: Path, crs: str = "EPSG:32633", place: Affine = PLACE) -> Scene:
    draw_scene(folder / "a.tif", crs=crs, transform=place)
    return describe(folder / "a.tif")


def ellipsoid_area_m2(south: float, north: float, width: float) -> float:
    """Return the area between parallels of WGS 84 over degrees of longitude (Snyder 1987, 3-12)."""
    a, e = 6_378_137.0, math.sqrt(0.00669437999014)

    def q(lat: float) -> float:
        s = math.sin(math.radians(lat))
        flat = s / (1 - e**2 * s**2)
        return (1 - e**2) * (flat + math.atanh(e * s) / e)

    return math.radians(width) * a**2 / 2 * (q(north) - q(south))


def test_a_geopackage_has_the_polygons_in_the_crs_of_the_scene(tmp_path: Path):
    scene = make_scene(tmp_path)
    path = write(tmp_path / "polygons.gpkg", scene, "gpkg")
    meta, _, blobs, columns = pyogrio.raw.read(path)
    assert meta["crs"] == "EPSG:32633"
    assert meta["fields"].tolist() == ["class", "name", "area_m2"]
    found = dict(zip(meta["fields"], columns, strict=True))
    assert found["class"].tolist() == [0, 1]
    assert found["name"].tolist() == list(CLASSES)
    shapes = shapely.from_wkb(blobs)
    assert shapes[1].bounds == (390_002, 5_699_995.5, 390_004, 5_699_997.5)
    assert len(shapes[0].interiors) == 1
    # UTM is 0.9996 along its meridian; this is 111 km from it.
    np.testing.assert_allclose(found["area_m2"], shapely.area(shapes), rtol=1e-3)


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:2263", Affine(3, 0, 980_000, 0, -3, 200_000)),  # US survey feet
        ("EPSG:32633", Affine(0.5, 0, 390_000, 0, 0.5, 5_700_000)),  # south-up
        ("EPSG:32633", Affine(0.4, 0.3, 390_000, 0.3, -0.4, 5_700_000)),  # turned
        ("EPSG:3413", Affine(10, 0, -200, 0, -10, 200)),  # the pole lies within
    ],
)
def test_areas_are_square_metres_of_the_ground(tmp_path: Path, crs: str, place: Affine):
    scene = make_scene(tmp_path, crs, place)
    found = shapely.area(Ground(scene).project(SHAPES))
    unit = 1200 / 3937 if crs == "EPSG:2263" else 1.0
    pixel = abs(place.determinant) * unit**2
    # What the projection does to areas there: EPSG:3413 is true at 70 degrees, and not at the pole.
    scale = {"EPSG:3413": 0.9398}.get(crs, 1.0)
    np.testing.assert_allclose(found * scale, np.array([84, 16]) * pixel, rtol=3e-3)


def test_areas_of_degrees_are_those_of_the_ellipsoid(tmp_path: Path):
    place = Affine(0.1, 0, 20, 0, -0.1, 61)
    ground = Ground(make_scene(tmp_path, "EPSG:4326", place))
    found = shapely.area(ground.project(SHAPES[1:]))
    # Edges are straight on the equal-area map, parallels are not.
    assert found[0] == pytest.approx(ellipsoid_area_m2(60.1, 60.5, 0.4), rel=1e-5)


def test_geojson_is_that_of_rfc_7946(tmp_path: Path):
    for place in (PLACE, Affine(0.5, 0, 390_000, 0, 0.5, 5_700_000)):
        scene = make_scene(tmp_path, place=place)
        page = json.loads(write(tmp_path / "a.geojson", scene, "geojson").read_text())
        assert page["type"] == "FeatureCollection"
        assert "crs" not in page
        first, second = page["features"]
        assert second["properties"]["name"] == CLASSES[1]
        outer, inner = (shapely.LinearRing(ring) for ring in first["geometry"]["coordinates"])
        assert outer.is_ccw
        assert not inner.is_ccw
        corners = np.array([(4, 5), (8, 5), (8, 9), (4, 9)])
        lon, lat = transform(scene.crs, "EPSG:4326", *apply(place, corners).T)
        wanted = {(round(a, 6), round(b, 6)) for a, b in zip(lon, lat, strict=True)}
        (ring,) = second["geometry"]["coordinates"]
        assert {(round(a, 6), round(b, 6)) for a, b in ring} == wanted
    assert pyogrio.read_info(tmp_path / "a.geojson")["features"] == 2


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:4326"])
def test_geojson_is_cut_at_the_180th_meridian(tmp_path: Path, crs: str):
    x, y = transform("EPSG:4326", crs, [180], [10])
    side = 1000 if crs == "EPSG:32660" else 0.01
    scene = make_scene(tmp_path, crs, Affine(side, 0, x[0] - 7 * side, 0, -side, y[0]))
    page = json.loads(write(tmp_path / "a.geojson", scene, "geojson").read_text())
    outer = shapely.from_geojson(json.dumps(page["features"][0]["geometry"]))
    west, _, east, _ = outer.bounds
    assert (west, east) == (-180, 180)
    assert outer.geom_type == "MultiPolygon"
    assert outer.area < 1


def test_polygons_below_the_least_area_are_left_out(tmp_path: Path):
    scene = make_scene(tmp_path)
    path = write(tmp_path / "polygons.gpkg", scene, "gpkg", min_area_m2=10)
    assert pyogrio.raw.read(path)[3][0].tolist() == [0]  # 84 and 16 pixels of 0.25 square metres


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
def test_files_are_equal_byte_by_byte_and_leave_nothing_beside(tmp_path: Path, kind: Format):
    scene = make_scene(tmp_path)
    first, second = (write(tmp_path / name, scene, kind) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "one", "two"}


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
def test_a_map_without_polygons_has_a_file_that_says_so(tmp_path: Path, kind: Format):
    part = tmp_path / f"none.{kind}"
    with write_features(part, make_scene(tmp_path), CLASSES, kind) as add:
        add(np.empty(0, object), {"class": np.empty(0, np.int64)})
    assert pyogrio.read_info(part)["features"] == 0


def test_a_scene_that_lies_nowhere_on_earth_is_refused(tmp_path: Path):
    scene = make_scene(tmp_path, 'LOCAL_CS["building site",UNIT["metre",1]]')
    with pytest.raises(DataError, match="cannot be placed on Earth"):
        write(tmp_path / "polygons.gpkg", scene, "gpkg")


@pytest.mark.parametrize("kind", ["gpkg", "geojson"])
def test_what_cannot_be_written_is_an_error_of_the_store(tmp_path: Path, kind: Format):
    scene = make_scene(tmp_path)
    with pytest.raises((StorageError, OSError)) as caught:
        write(tmp_path / "absent" / "polygons", scene, kind)
    assert isinstance(caught.value, StorageError | FileNotFoundError)


def test_a_page_gets_few_features_and_no_crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scene, few = make_scene(tmp_path), FewFeatures()
    ground = Ground(scene)
    polygons = ground.project(SHAPES)
    few.add(polygons, {"class": np.array([0, 1])}, ground.crs)
    assert [each["properties"]["class"] for each in few.collection()["features"]] == [0, 1]
    monkeypatch.setattr("rsdl.predict.features.MAX_CORNERS", 20)
    few.add(polygons, {"class": np.array([0, 1])}, ground.crs)
    assert few.are_many
    assert few.collection() is None


def test_gdal_is_left_as_it_was(tmp_path: Path):
    write(tmp_path / "polygons.gpkg", make_scene(tmp_path), "gpkg")
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_rasterio_and_pyogrio_agree_on_the_place(tmp_path: Path):
    scene = make_scene(tmp_path)
    page = json.loads(write(tmp_path / "a.geojson", scene, "geojson").read_text())
    with rasterio.open(tmp_path / "a.tif") as raster:
        x, y = raster.xy(4.5, 3.5)  # the corner at column 4, row 5
    lon, lat = transform(scene.crs, "EPSG:4326", [x], [y])
    ring = page["features"][1]["geometry"]["coordinates"][0]
    assert min(math.dist((lon[0], lat[0]), point) for point in ring) < 1e-6
