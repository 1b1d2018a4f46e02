"""Label files as people have them: which pixel gets which class, or the one line that refuses."""

import json
import logging
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import transform

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.geotiff import GeotiffSource
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.raster.georef import apply
from rsdl.raster.rasterize import LabelRules, PolygonLabels

SIDE = 64
LEFT, TOP = 500_000.0, 5_000_000.0
PLACE = rasterio.Affine(10, 0, LEFT, 0, -10, TOP)
UTM = "EPSG:32633"
SCENE: Any = SimpleNamespace(
    transform=PLACE, crs=rasterio.CRS.from_string(UTM), height=SIDE, width=SIDE
)
HALF = SIDE // 2
QUARTERS = {
    "a": (0, 0, HALF, HALF), "b": (HALF, 0, SIDE, HALF),
    "c": (0, HALF, HALF, SIDE), "d": (HALF, HALF, SIDE, SIDE),
}  # fmt: skip


def ring(x0: float, y0: float, x1: float, y1: float, *z: float) -> list[list[float]]:
    """Return a box given in pixels, in metres."""
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
    return [[LEFT + 10 * x, TOP - 10 * y, *z] for x, y in corners]


def quarter(name: str, *z: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring(*QUARTERS[name], *z)]}


def degrees(rings: list[list[list[float]]]) -> list[list[list[float]]]:
    """Return rings in longitude and latitude, their heights kept."""
    moved = []
    for positions in rings:
        lon, lat = transform(UTM, "EPSG:4326", [p[0] for p in positions], [p[1] for p in positions])
        moved.append([[x, y, *p[2:]] for x, y, p in zip(lon, lat, positions, strict=True)])
    return moved


def feature(name: Any, geometry: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "Feature", "properties": {"class": name}, "geometry": geometry}


def write(path: Path, *features: Any, crs: str | None = UTM) -> Path:  # noqa: ANN401
    page: dict[str, Any] = {"type": "FeatureCollection", "features": list(features)}
    if crs:
        page["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(page))
    return path


def paint(path: Path, scene: Any = SCENE, **rules: Any) -> tuple[PolygonLabels, np.ndarray]:  # noqa: ANN401
    """Return the labels, and the name of each pixel of a scene, "" where there is none."""
    labels = PolygonLabels(path, LabelRules(**rules), [scene])
    painted = np.broadcast_to(labels.paint(0, 0, 0, SIDE), (SIDE, SIDE))
    return labels, np.array(["", *labels.classes])[painted]


def expect(names: dict[str, str]) -> np.ndarray:
    """Return the name of each pixel where whole quarters have one."""
    wanted = np.full((SIDE, SIDE), "", object)
    for key, name in names.items():
        x0, y0, x1, y1 = QUARTERS[key]
        wanted[y0:y1, x0:x1] = name
    return wanted


def refusal(path: Path, **rules: Any) -> str:  # noqa: ANN401
    with pytest.raises((DataError, ConfigError)) as caught:
        PolygonLabels(path, LabelRules(**rules), [SCENE])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_is_one_however_it_is_written(tmp_path: Path):
    values = {"a": 1, "b": 1.0, "c": "1", "d": 2}
    path = write(tmp_path / "l.geojson", *(feature(v, quarter(k)) for k, v in values.items()))
    labels, painted = paint(path)
    assert labels.classes == ("1", "2")
    np.testing.assert_array_equal(painted, expect({"a": "1", "b": "1", "c": "1", "d": "2"}))
    floats = write(tmp_path / "f.geojson", feature(1.5, quarter("a")), feature(2.0, quarter("b")))
    np.testing.assert_array_equal(paint(floats)[1], expect({"a": "1.5", "b": "2"}))


@pytest.mark.parametrize("value", [None, float("nan"), "", " ", "None"])
@pytest.mark.parametrize("other", ["x", 3])
def test_a_class_that_says_nothing_is_refused_by_number(tmp_path: Path, value: Any, other: Any):  # noqa: ANN401
    path = write(tmp_path / "l.json", feature(other, quarter("a")), feature(value, quarter("b")))
    text = refusal(path)
    assert text.startswith(f'{path}: feature 1: its "class" is ')
    assert text.endswith("; give it a class, or remove it")


def test_what_has_no_place_is_counted(tmp_path: Path):
    flat = {"type": "Polygon", "coordinates": [ring(0, 0, 5, 0)]}
    empty = {"type": "Polygon", "coordinates": []}
    path = write(
        tmp_path / "l.geojson",
        feature("x", quarter("a")), feature("y", None), feature(None, None), feature("y", empty),
        feature("z", flat),
    )  # fmt: skip
    labels, painted = paint(path)
    assert labels.left_out == {"without geometry": 3, "without area": 1}
    np.testing.assert_array_equal(painted, expect({"a": "x"}))


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Point", "coordinates": [LEFT, TOP]},
        {"type": "LineString", "coordinates": ring(0, 0, 9, 9)},
        {"type": "MultiPoint", "coordinates": ring(0, 0, 9, 9)},
        {
            "type": "GeometryCollection",
            "geometries": [quarter("a"), {"type": "Point", "coordinates": [LEFT, TOP]}],
        },
    ],
)
def test_points_and_lines_are_refused_by_number(tmp_path: Path, geometry: dict[str, Any]):
    path = write(tmp_path / "l.geojson", feature("x", quarter("a")), feature("y", geometry))
    kind = geometry["type"].replace("GeometryCollection", "Point")
    assert refusal(path).startswith(f"{path}: feature 1: is a {kind}, not a Polygon")


def test_collections_and_many_polygons_are_taken_apart(tmp_path: Path):
    inner = {"type": "GeometryCollection", "geometries": [quarter("c")]}
    nested = {"type": "GeometryCollection", "geometries": [quarter("b"), inner]}
    many = {"type": "MultiPolygon", "coordinates": [[ring(*QUARTERS[k])] for k in "ad"]}
    path = write(tmp_path / "l.geojson", feature("x", nested), feature("y", many))
    wanted = expect({"a": "y", "b": "x", "c": "x", "d": "y"})
    np.testing.assert_array_equal(paint(path)[1], wanted)


def test_a_hole_shows_what_lies_below(tmp_path: Path):
    hole = {"type": "Polygon", "coordinates": [ring(0, 0, 32, 32), ring(8, 8, 24, 24)]}
    path = write(tmp_path / "l.geojson", feature("below", quarter("a")), feature("above", hole))
    wanted = expect({"a": "above"})
    wanted[8:24, 8:24] = "below"
    np.testing.assert_array_equal(paint(path)[1], wanted)


def test_a_ring_walked_twice_is_filled_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    twice = ring(*QUARTERS["a"])[:-1] + ring(*QUARTERS["a"])
    path = write(
        tmp_path / "l.geojson",
        feature("y", quarter("b")), feature("x", {"type": "Polygon", "coordinates": [twice]}),
    )  # fmt: skip
    np.testing.assert_array_equal(paint(path)[1], expect({"a": "x", "b": "y"}))
    assert f"{path}: feature 1 is no valid polygon (Ring Self-intersection" in caplog.text


def test_a_bow_tie_has_two_wings(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    far = 10 * SIDE
    tie = [[0, 0], [far, -far], [far, 0], [0, -far], [0, 0]]
    moved = [[LEFT + x, TOP + y] for x, y in tie]
    path = write(tmp_path / "l.json", feature("x", {"type": "Polygon", "coordinates": [moved]}))
    painted = paint(path)[1]
    row, col = np.indices((SIDE, SIDE))
    off = np.abs(col - SIDE / 2 + 0.5) - np.abs(row - SIDE / 2 + 0.5)
    assert set(painted[off > 0]) == {"x"}
    assert set(painted[off < 0]) == {""}
    assert "feature 0 is no valid polygon" in caplog.text


def test_an_open_ring_is_closed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    opened = {"type": "Polygon", "coordinates": [ring(*QUARTERS["a"])[:-1]]}
    path = write(tmp_path / "l.geojson", feature("x", opened))
    np.testing.assert_array_equal(paint(path)[1], expect({"a": "x"}))
    assert caplog.messages == [f"{path}: feature 0 has a ring that is not closed: closed"]


@pytest.mark.parametrize("z", [(), (12.5,)])
@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("crs", [None, "urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"])
def test_longitude_and_latitude_with_height_bom_or_crs84(
    tmp_path: Path, z: tuple[float, ...], bom: bool, crs: str | None
):
    def geometry(key: str) -> dict[str, Any]:
        return {"type": "Polygon", "coordinates": degrees([ring(*QUARTERS[key], *z)])}

    path = write(
        tmp_path / "l.geojson", feature("x", geometry("a")), feature("y", geometry("d")), crs=crs
    )
    path.write_text(path.read_text(), encoding="utf-8-sig" if bom else "utf-8")
    np.testing.assert_array_equal(paint(path)[1], expect({"a": "x", "d": "y"}))


@pytest.mark.parametrize("suffix", [".geojson", ".json", ".geojsonl", ".ndjson", ".jsonl"])
@pytest.mark.parametrize("mark", ["", "\x1e"])
def test_features_may_stand_a_line_each(tmp_path: Path, suffix: str, mark: str):
    lines = [
        json.dumps(feature(n, {"type": "Polygon", "coordinates": degrees([ring(*QUARTERS[k])])}))
        for k, n in (("a", "x"), ("b", "y"))
    ]
    path = tmp_path / f"l{suffix}"
    path.write_text("".join(f"{mark}{line}\n" for line in lines))
    np.testing.assert_array_equal(paint(path)[1], expect({"a": "x", "b": "y"}))
    path.write_text("\n".join([lines[0], lines[1][:70], lines[1]]))
    assert refusal(path).startswith(f"{path}: line 2: is not JSON")


def test_what_gdal_passes_over_is_refused(tmp_path: Path):
    path = tmp_path / "l.geojson"
    write(path, feature("x", quarter("a")), 5)
    assert "feature 1: is no GeoJSON Feature" in refusal(path)
    write(path, feature("x", quarter("a")), feature("x", {"type": "Polygo", "coordinates": []}))
    assert "feature 1: has broken coordinates" in refusal(path)
    write(path, feature("x", {"type": "Polygon", "coordinates": [[[0, 0], [1e999, 0], [1, 1]]]}))
    assert "feature 0: has broken coordinates" in refusal(path)
    write(path, feature("x", quarter("a")), crs="EPSG:0")
    assert 'unknown "crs"' in refusal(path)
    write(path, feature("x", quarter("a")))
    path.write_text(path.read_text()[:-70])
    assert "is not JSON" in refusal(path)


def store(path: Path, keys: dict[str, str], layer: str | None = None) -> Path:
    shapes = np.array([shapely.geometry.shape(quarter(key)) for key in keys], object)
    pyogrio.raw.write(
        path, shapely.to_wkb(shapes), [np.array(list(keys.values()), object)], ["class"],
        geometry_type="Polygon", crs=UTM, **({"layer": layer} if layer else {}),
    )  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["l.shp", "l.gpkg", "l.fgb"])
def test_shapefile_geopackage_and_flatgeobuf(tmp_path: Path, name: str):
    path = store(tmp_path / name, {"a": "Wald", "d": "Fläche"})
    labels, painted = paint(path)
    np.testing.assert_array_equal(painted, expect({"a": "Wald", "d": "Fläche"}))
    assert path in labels.files
    if name == "l.shp":
        suffixes = {file.suffix for file in labels.files}
        assert suffixes == {".shp", ".shx", ".dbf", ".prj", ".cpg"}
    assert 'has no property "kind" (it has class)' in refusal(path, field="kind")


def test_a_zipped_shapefile(tmp_path: Path):
    path = store(tmp_path / "l.shp", {"a": "x", "c": "y"})
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as file:
        for part in tmp_path.glob("l.*"):
            if part.suffix != ".zip":
                file.write(part, part.name)
    np.testing.assert_array_equal(paint(tmp_path / "l.zip")[1], paint(path)[1])


def test_a_layer_is_chosen_by_name(tmp_path: Path):
    path = store(tmp_path / "l.gpkg", {"a": "x"}, "towns")
    np.testing.assert_array_equal(paint(path)[1], expect({"a": "x"}))
    # A table without places is no choice.
    pyogrio.raw.write(path, None, [np.array(["s"], object)], ["style"], layer="styles", append=True)
    np.testing.assert_array_equal(paint(path)[1], expect({"a": "x"}))
    store(path, {"d": "y"}, "woods")
    assert "label_layer: " in refusal(path)
    assert "has 2 layers; name one with --label-layer: towns, woods" in refusal(path)
    np.testing.assert_array_equal(paint(path, layer="woods")[1], expect({"d": "y"}))
    assert 'has no layer "water"; use towns, woods' in refusal(path, layer="water")
    geojson = write(tmp_path / "l.geojson", feature("x", quarter("a")))
    assert "has no layers" in refusal(geojson, layer="towns")


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path):
    (tmp_path / "l.shp").write_bytes(bytes(100))
    assert "l.shp: cannot be read" in refusal(tmp_path / "l.shp")
    (tmp_path / "l.gpkg").write_bytes(b"SQLite format 3\0")
    assert "l.gpkg: cannot be read" in refusal(tmp_path / "l.gpkg")
    (tmp_path / "l.zip").write_bytes(b"PK")
    assert "l.zip: cannot be read" in refusal(tmp_path / "l.zip")
    path = store(tmp_path / "bare.shp", {"a": "x"})
    path.with_suffix(".prj").unlink()
    assert "bare.shp: has no coordinate reference system; set it" in refusal(path)


def test_ignored_classes_hide_what_lies_below(tmp_path: Path):
    path = write(
        tmp_path / "l.geojson",
        feature("x", quarter("a")), feature("y", quarter("b")),
        feature("cloud", {"type": "Polygon", "coordinates": [ring(16, 0, 48, 32)]}),
    )  # fmt: skip
    labels, painted = paint(path, ignore=("cloud",))
    assert labels.classes == ("x", "y")
    wanted = expect({"a": "x", "b": "y"})
    wanted[:32, 16:48] = ""
    np.testing.assert_array_equal(painted, wanted)
    assert labels.paint(0, 4, 24, 8) == 0
    assert 'ignore: no polygon of' in refusal(path, ignore=("fog",))  # fmt: skip
    assert "among the classes, too" in refusal(path, ignore=("x",), classes=("x", "y"))
    assert "leaves no class" in refusal(path, ignore=("x", "y", "cloud"))


def write_scene(path: Path) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8", crs=UTM,
        transform=PLACE,
    ) as target:  # fmt: skip
        target.write(np.full((1, SIDE, SIDE), 7, np.uint8))
    return path


def open_source(scene: Path, labels: Path, **options: Any) -> GeotiffSource:  # noqa: ANN401
    chosen = {"tile": 16, "fractions": (1.0, 0.0, 0.0), **options}
    return GeotiffSource(GeotiffOptions(scenes=(str(scene),), labels=str(labels), **chosen))


def test_latitude_before_longitude_is_recognised(tmp_path: Path):
    scene = write_scene(tmp_path / "a.tif")
    turned = [[[y, x] for x, y in part] for part in degrees([ring(*QUARTERS["a"])])]
    geometry = {"type": "Polygon", "coordinates": turned}
    labels = write(tmp_path / "l.geojson", feature("x", geometry), crs=None)
    with pytest.raises(DataError, match=r"cover \(45\..* the scenes lie in .*axes look swapped"):
        open_source(scene, labels)
    away = [[[x + 1, y] for x, y in part] for part in degrees([ring(*QUARTERS["a"])])]
    geometry = {"type": "Polygon", "coordinates": away}
    labels = write(tmp_path / "l.geojson", feature("x", geometry), crs=None)
    with pytest.raises(DataError, match="give labels of this area"):
        open_source(scene, labels)


def test_the_source_says_what_was_left_out(tmp_path: Path):
    scene = write_scene(tmp_path / "a.tif")
    labels = write(tmp_path / "l.geojson", feature("x", quarter("a")), feature("x", None))
    source = open_source(scene, labels)
    assert source.left_out == {"without geometry": 1}
    assert sum(len(plan.items) for plan in source.shards(1 << 20)) == 4


# Edges in another CRS.


def centres(place: rasterio.Affine, side: int) -> np.ndarray:
    row, col = np.indices((side, side)) + 0.5
    return apply(place, np.stack([col.ravel(), row.ravel()], axis=1))


@pytest.mark.parametrize("centre", [(15.0, 60.0), (16.9, 60.0), (15.0, -33.0)])
def test_a_long_edge_follows_the_ground(tmp_path: Path, centre: tuple[float, float]):
    # Along a parallel from 12 to 18 degrees the straight line in UTM is 10 km off at 60 degrees.
    lon, lat = centre
    world = [[[0, lat - 9], [30, lat - 9], [30, lat], [0, lat], [0, lat - 9]]]
    path = write(
        tmp_path / "l.geojson", feature("x", {"type": "Polygon", "coordinates": world}), crs=None
    )
    (x,), (y,) = transform("EPSG:4326", UTM, [lon], [lat])
    place = rasterio.Affine(10, 0, x - 320, 0, -10, y + 320)
    scene: Any = SimpleNamespace(transform=place, crs=SCENE.crs, height=SIDE, width=SIDE)
    painted = paint(path, scene)[1].ravel()
    points = centres(place, SIDE)
    _, north = transform(UTM, "EPSG:4326", points[:, 0], points[:, 1])
    pixels = (np.array(north) - lat) * 111_000 / 10
    assert set(painted[pixels < -0.5]) == {"x"}
    assert set(painted[pixels > 0.5]) == {""}
    assert 0.3 < (painted == "x").mean() < 0.7


def test_polygons_around_the_world_and_at_the_pole_do_no_harm(tmp_path: Path):
    world = [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]
    pole = [[[-170, 89.99], [-169, 89.99], [-169, 90], [-170, 89.99]]]
    path = write(
        tmp_path / "l.geojson",
        feature("w", {"type": "Polygon", "coordinates": world}),
        feature("p", {"type": "Polygon", "coordinates": pole}),
        crs=None,
    )
    labels, painted = paint(path)
    assert labels.classes == ("p", "w")
    assert set(painted.ravel()) == {"w"}


COORDINATES = st.floats(-20, SIDE + 20).map(lambda value: round(value, 3))
POINT = st.tuples(COORDINATES, COORDINATES)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(POINT, min_size=3, max_size=8), min_size=1, max_size=4))
def test_a_pixel_is_inside_where_its_centre_is(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[tuple[float, float]]]
):
    """Against shapely's own test of points, on hulls, a pixel's width from edges left out."""
    hulls = [shapely.convex_hull(shapely.MultiPoint(points)) for points in shapes]
    hulls = [hull for hull in hulls if hull.geom_type == "Polygon" and hull.area > 1]
    path = tmp_path_factory.mktemp("labels") / "l.geojson"
    features = [
        feature(
            f"n{number}",
            shapely.geometry.mapping(
                shapely.transform(hull, lambda xy: apply(PLACE, np.asarray(xy)))
            ),
        )
        for number, hull in enumerate(hulls)
    ]
    if not features:
        return
    _, painted = paint(write(path, *features))
    row, col = np.indices((SIDE, SIDE)) + 0.5
    wanted, near = np.full((SIDE, SIDE), "", object), np.zeros((SIDE, SIDE), bool)
    for number, hull in enumerate(hulls):
        wanted[shapely.contains_xy(hull, col, row)] = f"n{number}"
        edge = shapely.boundary(hull)
        near |= shapely.distance(edge, shapely.points(col, row)) < 1e-6
    np.testing.assert_array_equal(painted[~near], wanted[~near])


def test_a_quiet_file_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write(tmp_path / "l.geojson", *(feature(k, quarter(k)) for k in QUARTERS))
    with caplog.at_level(logging.INFO):
        paint(path)
    assert not caplog.messages
