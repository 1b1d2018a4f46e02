"""Objects are written where they are, as large as they are, and the same after any kill."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from rasterio.warp import transform

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.targets.objects import rectangle_corners
from rsdl.predict.detect import MergeRule
from rsdl.predict.object_writer import ObjectWriter
from rsdl.predict.outputs import OutputOptions
from rsdl.predict.scene import WindowRule
from rsdl.raster.georef import apply
from rsdl.raster.scenes import Scene, SceneRules, describe_scenes
from rsdl.records.prediction import Prediction
from rsdl.storage.local import LocalStore
from tests.unit.predict.objects import find_boxes, paint, scatter, write_scene
from tests.unit.predict.scenes import PLACE

SIZE = (240, 320)
NAMES = ("ship", "plane", "car & lorry")
DEGREES = Affine(4.1e-6, 0, 11.5, 0, -3.3e-6, 52.4)
TURNED = Affine(0.4, 0.3, 390_000, 0.3, -0.4, 5_700_000)


def settings(**fields: Any) -> Prediction:  # noqa: ANN401 - of Prediction
    given = {
        "run": "r", "weights": "0" * 64, "classes": NAMES, "window": (96, 96), "overlap": 40,
        "tta": False, "probabilities": False, "bands": None, "alpha": "auto", "unscale": "auto",
        "nodata": None, "score": 0.05,
    }  # fmt: skip
    return Prediction.model_validate(given | fields)


def write(
    folder: Path,
    scene: Scene,
    *,
    oriented: bool = True,
    **fields: Any,  # noqa: ANN401
) -> str:
    merge, rule = MergeRule(0.5, oriented), WindowRule((96, 96), 40, blend=True)
    writer = ObjectWriter(LocalStore(folder), settings(**fields), rule, merge)
    writer.check([scene])
    return writer.write(
        scene,
        lambda windows: find_boxes(windows, oriented=oriented),
        batch_size=4,
        progress=lambda share: None,
    )


def describe(path: Path) -> Scene:
    return describe_scenes([path], SceneRules(georeferenced=False))[0]


def draw(path: Path, **where: Any) -> tuple[Scene, np.ndarray]:  # noqa: ANN401 - of write_scene
    """Write a scene of objects, and return it and what the detector finds in the whole image."""
    boxes, labels = scatter(SIZE, 28, step=44, oriented=True)
    image = paint(SIZE, boxes, labels)
    return describe(write_scene(path, image, **where)), find_boxes(image[None])[0]


def read_geojson(path: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the properties of features, and their corners, ``[N, 4, 2]``."""
    found = json.loads(path.read_text())["features"]
    rings = [each["geometry"]["coordinates"] for each in found]
    assert {(len(ring), len(ring[0])) for ring in rings} == {(1, 5)}
    return [each["properties"] for each in found], np.array(rings)[:, 0, :4]


@pytest.mark.parametrize(
    ("crs", "place"),
    [("EPSG:32633", PLACE), ("EPSG:4326", DEGREES), ("EPSG:3857", PLACE), ("EPSG:32633", TURNED)],
)
def test_corners_lie_on_earth_where_the_pixels_are(tmp_path: Path, crs: str, place: Affine):
    scene, whole = draw(tmp_path / "a.tif", crs=crs, place=place)
    said = write(tmp_path / "maps", scene)
    assert said == f"{len(whole)} objects"
    rows, corners = read_geojson(tmp_path / "maps/a.geojson")
    x, y = apply(place, rectangle_corners(whole[:, :5]).astype(float).reshape(-1, 2)).T
    wanted = np.stack(transform(crs, "EPSG:4326", x, y), axis=-1).reshape(-1, 4, 2)
    # The same box, whatever corner it begins at.
    for middle, box, row in zip(corners.mean(axis=1), corners, rows, strict=True):
        near = np.hypot(*(wanted.mean(axis=1) - middle).T).argmin()
        off = np.abs(box[:, None] - wanted[near]).max(axis=2).min(axis=1)
        assert off.max() < 1e-6
        assert NAMES[row["class"]] == row["name"] == NAMES[int(whole[near, 6])]
        assert row["score"] == pytest.approx(whole[near, 5], abs=1e-4)


@pytest.mark.parametrize(
    ("crs", "place"),
    [("EPSG:32633", PLACE), ("EPSG:4326", DEGREES), ("EPSG:3857", PLACE), ("EPSG:32633", TURNED)],
)
def test_sizes_are_metres_of_the_ground_and_angles_from_north(
    tmp_path: Path, crs: str, place: Affine
):
    scene, _ = draw(tmp_path / "a.tif", crs=crs, place=place)
    write(tmp_path / "maps", scene)
    rows, corners = read_geojson(tmp_path / "maps/a.geojson")
    for row, box in zip(rows, corners, strict=True):
        lon, lat = box.mean(axis=0)
        local = f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"
        points = np.stack(transform("EPSG:4326", local, *box.T), axis=-1)
        east, north = (np.roll(points, -1, axis=0) - points).T
        sides = np.hypot(east, north)
        assert row["length_m"] == pytest.approx(sides.max(), abs=0.03)
        assert row["width_m"] == pytest.approx(sides.min(), abs=0.03)
        assert row["area_m2"] == pytest.approx(shapely.Polygon(points).area, rel=0.01)
        turn = np.degrees(np.arctan2(east, north))[sides.argmax()]
        assert abs((row["angle_deg"] - turn + 90) % 180 - 90) < 0.4  # corners are of 1 cm


def test_a_ship_that_heads_north_east_is_at_45_degrees(tmp_path: Path):
    image = paint(SIZE, np.array([[160.5, 120.5, 60, 12, -np.pi / 4]]), np.array([0]))
    place = Affine(0.5, 0, 500_000, 0, -0.5, 5_700_000)  # on the central meridian
    write(tmp_path / "maps", describe(write_scene(tmp_path / "a.tif", image, place=place)))
    (row,), _ = read_geojson(tmp_path / "maps/a.geojson")
    assert row["angle_deg"] == pytest.approx(45, abs=1)
    assert (row["length_m"], row["width_m"]) == (
        pytest.approx(30, abs=1), pytest.approx(6, abs=1),
    )  # fmt: skip


def test_a_geopackage_holds_the_boxes_in_the_crs_of_the_scene(tmp_path: Path):
    scene, whole = draw(tmp_path / "a.tif")
    write(tmp_path / "maps", scene, polygons="gpkg")
    meta, _, shapes, columns = pyogrio.raw.read(tmp_path / "maps/a.gpkg", layer="objects")
    assert rasterio.CRS.from_string(meta["crs"]) == scene.crs
    assert list(meta["fields"]) == [
        "class", "name", "area_m2", "score", "length_m", "width_m", "angle_deg",
    ]  # fmt: skip
    assert (np.diff(columns[3]) <= 0).all()  # the best first
    wanted = apply(PLACE, rectangle_corners(whole[:, :5]).astype(float))
    mine = shapely.unary_union(shapely.from_wkb(shapes))
    theirs = shapely.unary_union(shapely.polygons(wanted))
    assert mine.symmetric_difference(theirs).area < 1e-2
    assert mine.area == pytest.approx(columns[2].sum(), rel=1e-2)


def test_aligned_boxes_have_no_angle(tmp_path: Path):
    scene, _ = draw(tmp_path / "a.tif")
    write(tmp_path / "maps", scene, oriented=False)
    rows, _ = read_geojson(tmp_path / "maps/a.geojson")
    assert "angle_deg" not in rows[0]
    assert rows[0]["length_m"] >= rows[0]["width_m"]


def test_a_picture_without_a_crs_has_its_objects_in_pixels(tmp_path: Path):
    scene, whole = draw(tmp_path / "a.png", crs=None)
    write(tmp_path / "maps", scene, quicklook=True, page=True)
    with (tmp_path / "maps/a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(whole)
    corners = np.array([[row[f"{a}{n}"] for n in range(1, 5) for a in "xy"] for row in rows], float)
    mine = shapely.unary_union(shapely.polygons(corners.reshape(-1, 4, 2)))
    theirs = shapely.unary_union(shapely.polygons(rectangle_corners(whole[:, :5])))
    assert mine.symmetric_difference(theirs).area < len(rows)
    assert float(rows[0]["length_px"]) > float(rows[0]["width_px"]) > 0
    assert (tmp_path / "maps/a.html").exists()
    with pytest.raises(DataError, match="no coordinate reference system"):
        write(tmp_path / "maps", scene, polygons="gpkg")


@pytest.mark.parametrize("kind", ["geojson", "gpkg"])
def test_a_scene_without_objects_has_a_file_without_features(tmp_path: Path, kind: str):
    scene = describe(write_scene(tmp_path / "a.tif", np.ones((*SIZE, 3), np.uint8)))
    said = write(tmp_path / "maps", scene, polygons=kind, quicklook=True, page=True)
    assert said == "0 objects"
    assert pyogrio.read_info(tmp_path / f"maps/a.{kind}")["features"] == 0


def test_a_quicklook_has_boxes_around_the_objects(tmp_path: Path):
    scene, whole = draw(tmp_path / "a.tif")
    write(tmp_path / "maps", scene, quicklook=True)
    data = np.frombuffer((tmp_path / "maps/a_quicklook.png").read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int)
    drawn = np.ptp(picture[: 12 + SIZE[0]], axis=2) > 60  # the scene is grey
    left, top = np.flatnonzero(drawn.any(axis=0))[0], np.flatnonzero(drawn.any(axis=1))[0]
    corners = rectangle_corners(whole[:, :5])
    assert (left, top) == (
        pytest.approx(12 + corners[..., 0].min(), abs=2.5),
        pytest.approx(12 + corners[..., 1].min(), abs=2.5),
    )


def test_options_of_other_maps_are_refused_in_one_line():
    for options in ({"probabilities": True}, {"simplify_px": 0.0}, {"min_area_m2": 3.0}):
        with pytest.raises(ConfigError, match="each object is a box with a score"):
            OutputOptions(**options).check_objects()
    with pytest.raises(ConfigError, match="is for objects"):
        OutputOptions(score=0.5).polygon_rules(is_dense=True)
