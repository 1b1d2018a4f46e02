"""Polygons and scenes on disk -> tiles with the objects that they show."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.warp import transform_geom

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sample import SPLITS, Sample
from rsdl.data.sources.geotiff import GeotiffSource
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.data.sources.synthetic_objects import write_object_scenes
from rsdl.data.targets import KINDS
from rsdl.data.targets.objects import IGNORED, Objects, box_corners, rectangle_corners
from rsdl.raster.georef import apply

UTM = "EPSG:32618"
NORTH_UP = rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_500_000)
COS, SIN = 0.5 * np.cos(0.47), 0.5 * np.sin(0.47)
TURNED = rasterio.Affine(COS, SIN, 500_000, SIN, -COS, 4_500_000)
SIZE, TILE = 192, 64


def draw_rectangles(seed: int, number: int = 12) -> np.ndarray:
    """Return the corners of rectangles at any angle, in pixels of a scene; none overlaps."""
    random, found, shapes = np.random.default_rng(seed), [], []
    while len(found) < number:
        x, y = random.uniform(0, SIZE, 2)
        w, h, r = random.uniform(12, 40), random.uniform(8, 14), random.uniform(-np.pi, np.pi)
        corners = rectangle_corners(np.array([[x, y, w, h, r]]))[0]
        shape = shapely.Polygon(corners)
        if all(shape.distance(other) > 2 for other in shapes):
            found.append(corners)
            shapes.append(shape)
    return np.stack(found)


def write_scene(
    path: Path,
    corners: np.ndarray,
    transform: rasterio.Affine,
    **profile: Any,  # noqa: ANN401
) -> None:
    """Write a dark scene with bright objects."""
    pixels = np.full((SIZE, SIZE), 40, np.uint8)
    for each in corners:
        cv2.fillConvexPoly(pixels, np.round((each - 0.5) * 256).astype(np.int32), 200, shift=8)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIZE, width=SIZE, count=1, dtype="uint8", crs=UTM,
        transform=transform, **profile,
    ) as scene:  # fmt: skip
        scene.write(pixels, 1)


def feature(outline: Any, transform: rasterio.Affine, crs: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a feature for an outline in pixels."""
    ring = apply(transform, np.asarray(outline, np.float64)).tolist()
    plane = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    geometry = plane if crs == UTM else json.loads(json.dumps(transform_geom(UTM, crs, plane)))
    return {
        "type": "Feature", "properties": {"class": "ship"}, "geometry": geometry, **more,
    }  # fmt: skip


def write_labels(path: Path, features: list[dict[str, Any]], crs: str = UTM) -> Path:
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))
    return path


def open_source(scenes: Path, labels: Path, **options: Any) -> GeotiffSource:  # noqa: ANN401
    chosen: dict[str, Any] = {
        "tile": TILE,
        "split_by": "block",
        "fractions": (1.0, 0.0, 0.0),
        "empty": 1.0,
    }
    chosen |= {"task": "detection", **options}
    return GeotiffSource(GeotiffOptions(scenes=(str(scenes),), labels=str(labels), **chosen))


def read_all(source: GeotiffSource) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    for plan in source.shards(1 << 20):
        read = (source.read(item) for item in plan.items)
        found[plan.split] += [sample for sample in read if isinstance(sample, Sample)]
    return found


def stored(sample: Sample) -> Objects:
    """Return the objects as they come back from a shard."""
    kind = KINDS["objects"]
    objects: Objects = kind.decode(kind.encode(sample.target), sample.key)
    return objects


def paint(objects: Objects) -> np.ndarray:
    mask = np.zeros(objects.size, np.uint8)
    for corners in objects.corners:
        cv2.fillConvexPoly(mask, np.round((corners - 0.5) * 256).astype(np.int32), 1, shift=8)
    return mask > 0


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED], ids=["north-up", "turned"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("overlap", [0, 20])
def test_the_objects_of_a_tile_lie_on_its_pixels(
    transform: rasterio.Affine, crs: str, overlap: int, tmp_path: Path
):
    corners = draw_rectangles(overlap)
    write_scene(tmp_path / "a.tif", corners, transform)
    features = [feature(each, transform, crs) for each in corners]
    labels = write_labels(tmp_path / "l.geojson", features, crs)
    source = open_source(tmp_path / "a.tif", labels, overlap=overlap, drop=0.0)
    samples = read_all(source)["train"]
    assert len(samples) == (9 if overlap == 0 else 16)
    covered = 0
    for sample in samples:
        bright = sample.pixels[..., 0] > 100
        # Half a pixel off would be 0.01; OpenCV rounds edges that it clips.
        assert (bright != paint(stored(sample))).mean() < 0.004
        covered += bright.sum()
        assert sample.meta["crs"] == UTM and len(sample.meta["transform"]) == 6
    assert covered > 1000


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_corners_and_shares_are_those_of_geometry(crs: str, tmp_path: Path):
    corners = draw_rectangles(3)
    write_scene(tmp_path / "a.tif", corners, TURNED)
    labels = write_labels(
        tmp_path / "l.geojson", [feature(each, TURNED, crs) for each in corners], crs
    )
    seen = 0
    for sample in read_all(open_source(tmp_path / "a.tif", labels))["train"]:
        left, top = sample.meta["col"], sample.meta["row"]
        window = shapely.box(left, top, left + TILE, top + TILE)
        shapes = [shapely.Polygon(each) for each in corners]
        shares = [shape.intersection(window).area / shape.area for shape in shapes]
        objects = stored(sample)
        wanted = [number for number, share in enumerate(shares) if share >= 0.3]
        assert len(objects.labels) == len(wanted)
        for number, got, share, flags in zip(
            wanted, objects.corners, objects.shares, objects.flags, strict=True
        ):
            there = corners[number] - (left, top)
            assert np.abs(got - there).max() < 0.02
            assert share == pytest.approx(shares[number], abs=2e-3)
            assert bool(flags & IGNORED) == (shares[number] < 0.7)
            seen += 1
    assert seen > 10


def test_other_outlines_become_the_smallest_rectangle_and_repaired_ones_stay_one_object(
    tmp_path: Path,
):
    write_scene(tmp_path / "a.tif", draw_rectangles(0), TURNED)
    octagon = [(12, 10), (28, 10), (30, 12), (30, 18), (28, 20), (12, 20), (10, 18), (10, 12)]
    bow_tie = [(70, 10), (90, 20), (90, 10), (70, 20)]
    doubled = [(10, 40), (30, 45), (30, 45), (28, 55), (8, 50)]
    outlines = [octagon, bow_tie, doubled]
    features = [feature(each, TURNED, "EPSG:4326") for each in outlines]
    labels = write_labels(tmp_path / "l.geojson", features, "EPSG:4326")
    found = np.concatenate([
        stored(sample).corners + np.array((sample.meta["col"], sample.meta["row"]))
        for sample in read_all(open_source(tmp_path / "a.tif", labels))["train"]
    ])  # fmt: skip
    wanted = [*box_corners([[10, 10, 30, 20], [70, 10, 90, 20]]), np.delete(doubled, 1, axis=0)]
    assert len(found) == 3
    for corners in wanted:
        shape = shapely.Polygon(corners)
        best = max(
            shapely.Polygon(each).intersection(shape).area / shapely.Polygon(each).union(shape).area
            for each in found
        )
        assert best > 0.99


def test_train_keeps_a_share_of_the_empty_tiles_and_the_other_splits_all(tmp_path: Path):
    for number in range(6):
        place = rasterio.Affine(0.5, 0, 500_000 + 1000 * number, 0, -0.5, 4_500_000)
        write_scene(tmp_path / f"{number}.tif", np.zeros((0, 4, 2)), place)
    labels = write_labels(
        tmp_path / "l.geojson", [feature([(2, 2), (20, 4), (19, 12), (1, 10)], NORTH_UP, UTM)]
    )
    asked: dict[str, Any] = {
        "tile": 24,
        "split_by": "scene",
        "fractions": (0.5, 0.25, 0.25),
        "seed": 3,
    }
    counts = {}
    for empty in (0.0, 0.5, 1.0):
        source = open_source(tmp_path, labels, empty=empty, **asked)
        found = read_all(source)
        counts[empty] = {split: len(samples) for split, samples in found.items()}
        lost = source.left_out.get("train tiles without an object (--empty)", 0)
        assert lost + counts[empty]["train"] == counts[0.0]["train"] + 64 * 3 - 1
        assert [s.key for s in found["train"]] == [s.key for s in read_all(source)["train"]]
    assert counts[0.0]["train"] == 1
    assert 64 < counts[0.5]["train"] < 128
    assert counts[1.0]["train"] == 192
    assert {counts[empty]["val"] for empty in counts} == {counts[1.0]["val"]} != {0}


def test_an_object_without_data_is_no_object(tmp_path: Path):
    corners = box_corners([[10, 10, 30, 20], [10, 40, 30, 50]])
    write_scene(tmp_path / "a.tif", corners, NORTH_UP, nodata=200)
    dark = box_corners([[40, 10, 60, 20], [34, 40, 54, 50]])
    features = [feature(each, NORTH_UP, UTM) for each in (*corners, *dark)]
    labels = write_labels(tmp_path / "l.geojson", features)
    first = read_all(open_source(tmp_path / "a.tif", labels))["train"][0]
    assert stored(first).corners.tolist() == dark.tolist()


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ({"type": "Point", "coordinates": [500_010, 4_499_990]}, "feature 1: is a Point"),
        (
            {
                "type": "MultiPolygon",
                "coordinates": [
                    [[[x, 4_499_950], [x + 5, 4_499_950], [x + 5, 4_499_960], [x, 4_499_950]]]
                    for x in (500_010, 500_040)
                ],
            },
            "feature 1: has parts that lie apart",
        ),
    ],
)
def test_what_is_no_single_outline_is_refused(
    geometry: dict[str, Any], message: str, tmp_path: Path
):
    corners = draw_rectangles(1, 1)
    write_scene(tmp_path / "a.tif", corners, NORTH_UP)
    one = feature(corners[0], NORTH_UP, UTM)
    labels = write_labels(tmp_path / "l.geojson", [one, {**one, "geometry": geometry}])
    with pytest.raises(DataError, match=message):
        open_source(tmp_path / "a.tif", labels)


def test_a_class_raster_and_objects_elsewhere_are_refused(tmp_path: Path):
    corners = draw_rectangles(1, 1)
    write_scene(tmp_path / "a.tif", corners, NORTH_UP)
    with pytest.raises(DataError, match="is no vector file"):
        open_source(tmp_path / "a.tif", tmp_path / "classes.tif")
    far = write_labels(tmp_path / "l.geojson", [feature(corners[0] + 9000, NORTH_UP, UTM)])
    with pytest.raises(DataError, match="the labels cover"):
        open_source(tmp_path / "a.tif", far)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"keep": 0.2}, "drop"),
        ({"empty": 1.5}, "empty"),
        ({"task": "segmentation", "keep": 0.5}, "keep"),
        ({"task": "classification", "empty": 0.5}, "empty"),
        ({"background": "sea"}, "background"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], field: str):
    with pytest.raises(ConfigError, match=f"^{field}: "):
        GeotiffOptions(scenes=("a",), labels="b", **{"task": "detection", **options})


def test_generated_scenes_pack_with_all_their_classes(tmp_path: Path):
    boxes = write_object_scenes(tmp_path, num_scenes=1, size=512, seed=2)
    source = open_source(tmp_path, boxes, drop=0.0)
    assert source.classes == ("plane", "ship", "vehicle") and source.target == "objects"
    labels = np.concatenate([stored(s).labels for s in read_all(source)["train"]])
    assert len(labels) >= len(json.loads(boxes.read_text())["features"])
