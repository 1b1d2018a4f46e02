"""SpaceNet: footprints of buildings become masks, and blocks of ground become splits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.warp import transform_geom

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.sources.footprints import burn_footprints
from rsdl.data.sources.mask_folder import MaskSource
from rsdl.data.sources.published import PublishedChoice
from rsdl.data.sources.split_files import read_split_files
from rsdl.data.targets.mask import IGNORE
from rsdl.raster.vectors import read_polygons
from tests.unit.data.sources.published_files import keys_of, prepare, samples_of

SIDE, PIXEL = 20, 0.5
UTM = "EPSG:32611"
WGS84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
ORIGIN = (664_000.0, 4_005_000.0)  # Las Vegas


def place(east_m: float = 0, north_m: float = 0) -> Affine:
    return Affine(PIXEL, 0, ORIGIN[0] + east_m, 0, -PIXEL, ORIGIN[1] + north_m)


def write_image(
    path: Path, where: Affine | None = None, *, dtype: str = "uint16", black: int = 0
) -> Path:
    """Write an image of noise, of which the first columns may be black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(path.name.encode())
    pixels = np.random.default_rng(seed).integers(1, 250, (3, SIDE, SIDE)).astype(dtype)
    pixels[:, :, :black] = 0
    profile: dict[str, Any] = {"photometric": "RGB", "count": 3, "dtype": dtype}
    if where is not None:
        profile |= {"crs": UTM, "transform": where}
    with rasterio.open(path, "w", "GTiff", SIDE, SIDE, **profile) as file:
        file.write(pixels)
    return path


def building(where: Affine, top: int, left: int, bottom: int, right: int) -> shapely.Geometry:
    """Return a rectangle of whole pixels, in the image's CRS."""
    corners = [where @ (col, row) for col, row in ((left, top), (right, bottom))]
    return shapely.box(*corners[0], *corners[1])


def write_buildings(path: Path, shapes: list[shapely.Geometry]) -> Path:
    """Write shapes of the UTM zone in longitude and latitude, with heights of 0, as published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [
        {
            "type": "Feature",
            "properties": {"partialBuilding": 0.0},
            "geometry": transform_geom(
                UTM, "EPSG:4326", shapely.geometry.mapping(shapely.force_3d(shape))
            ),
        }
        for shape in shapes
    ]
    content = {"type": "FeatureCollection", "crs": WGS84, "features": features}
    path.write_text(json.dumps(content))
    return path


def drawn(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def write_vegas(root: Path, number: int, *, east_m: float = 0, black: int = 0) -> Affine:
    """Write a tile of SpaceNet 2 with one building."""
    where = place(east_m)
    city = root / "AOI_2_Vegas_Train"
    name = f"AOI_2_Vegas_img{number}"
    write_image(city / f"RGB-PanSharpen/RGB-PanSharpen_{name}.tif", where, black=black)
    shape = building(where, 4, 5, 9, 15)
    write_buildings(city / f"geojson/buildings/buildings_{name}.geojson", [shape])
    return where


ONE_SPLIT = PublishedChoice(fractions=(1.0, 0.0, 0.0))


def train_of(origin: Path) -> MaskSource:
    return prepare("spacenet", origin, ONE_SPLIT)


def test_footprints_are_burnt_where_they_lie_and_black_borders_count_for_nothing(tmp_path: Path):
    write_vegas(tmp_path / "data", 1)
    write_vegas(tmp_path / "data", 2, black=7)
    source = train_of(tmp_path / "data")
    assert (source.classes, source.dtype) == (("background", "building"), "uint16")
    samples = samples_of(source)
    assert (samples["2_Vegas_1"].target == drawn((4, 5, 9, 15))).all()
    bordered = drawn((4, 5, 9, 15))
    bordered[:, :7] = IGNORE
    assert (samples["2_Vegas_2"].target == bordered).all()
    assert samples["2_Vegas_1"].meta["crs"] == UTM


@pytest.mark.parametrize(
    ("image", "mask", "key"),
    [
        (
            "train/3band/3band_AOI_1_RIO_img7.tif",
            "train/geojson/Geo_AOI_1_RIO_img7.geojson",
            "1_RIO_7",
        ),
        (
            "AOI_3_Paris_Train/RGB-PanSharpen/RGB-PanSharpen_AOI_3_Paris_img7.tif",
            "AOI_3_Paris_Train/geojson/buildings/buildings_AOI_3_Paris_img7.geojson",
            "3_Paris_7",
        ),
        (
            "AOI_3_Paris/PS-RGB/SN2_buildings_train_AOI_3_Paris_PS-RGB_img7.tif",
            "AOI_3_Paris/geojson_buildings/SN2_buildings_train_AOI_3_Paris_geojson_buildings_img7.geojson",
            "3_Paris_7",
        ),
        (
            "train/AOI_11_Rotterdam/PS-RGB/SN6_Train_AOI_11_Rotterdam_PS-RGB_2019_2020_tile_7.tif",
            "train/AOI_11_Rotterdam/geojson_buildings/SN6_Train_AOI_11_Rotterdam_Buildings_2019_2020_tile_7.geojson",
            "11_Rotterdam_2019_2020_7",
        ),
        (
            "train/L15-1/images_masked/global_monthly_2018_01_mosaic_L15-1.tif",
            "train/L15-1/labels/global_monthly_2018_01_mosaic_L15-1_Buildings.geojson",
            "2018_01_L15-1",
        ),
    ],
)  # fmt: skip
def test_images_are_paired_by_the_paths_of_archives_and_bucket(
    image: str, mask: str, key: str, tmp_path: Path
):
    write_image(tmp_path / image, place(), dtype="uint8")
    write_buildings(tmp_path / mask, [building(place(), 0, 0, 3, 4)])
    write_image(tmp_path / "train/PAN" / f"PAN_{Path(image).name}", place(), dtype="uint8")
    source = train_of(tmp_path)
    assert keys_of(source) == {"train": [key]}
    assert (samples_of(source)[key].target == drawn((0, 0, 3, 4))).all()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train/3band/3band_AOI_1_RIO_img1.tif", "test/3band/3band_AOI_1_RIO_img1.tif"),
        (
            "AOI_2_Vegas_Train/RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img1.tif",
            "AOI_2_Vegas_Test_public/RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img1.tif",
        ),
    ],
)
def test_tiles_of_test_have_no_labels_and_numbers_of_their_own(
    train: str, test: str, tmp_path: Path
):
    for path in (train, test):
        write_image(tmp_path / path, place(), dtype="uint8")
    name = Path(train).stem.partition("_")[2]
    for folder, prefix in (("geojson", "Geo"), ("geojson/buildings", "buildings")):
        labels = tmp_path / "train" / folder / f"{prefix}_{name}.geojson"
        write_buildings(labels, [building(place(), 0, 0, 3, 4)])
    (sample,) = samples_of(train_of(tmp_path)).values()
    assert sample.meta["source"] == train


@pytest.mark.parametrize("content", ["", "\n", None])
def test_a_tile_without_buildings_is_background(content: str | None, tmp_path: Path):
    path = write_buildings(tmp_path / "a.geojson", [])
    if content is not None:
        path.write_text(content)
    profile = {"crs": rasterio.CRS.from_user_input(UTM), "transform": place()}
    burnt = burn_footprints(path, profile, (SIDE, SIDE))
    assert burnt.dtype == np.uint8 and not burnt.any()


def test_parts_holes_and_what_clipping_leaves_are_read(tmp_path: Path):
    court = building(place(), 2, 2, 10, 10).difference(building(place(), 4, 4, 6, 6))
    both = shapely.MultiPolygon([building(place(), 12, 0, 14, 3), building(place(), 12, 5, 14, 8)])
    edge = shapely.LineString([place() @ (0, 0), place() @ (0, 5)])
    clipped = shapely.GeometryCollection([building(place(), 16, 16, 19, 19), edge])
    path = write_buildings(tmp_path / "a.geojson", [court, both, edge, clipped])
    page = json.loads(path.read_text())
    page["features"].append({"type": "Feature", "properties": {}, "geometry": None})
    path.write_text(json.dumps(page))
    profile = {"crs": rasterio.CRS.from_user_input(UTM), "transform": place()}
    wanted = drawn((2, 2, 10, 10), (12, 0, 14, 3), (12, 5, 14, 8), (16, 16, 19, 19))
    wanted[4:6, 4:6] = 0
    assert (burn_footprints(path, profile, (SIDE, SIDE)) == wanted).all()


def test_a_file_of_lines_alone_is_refused(tmp_path: Path):
    road = shapely.LineString([place() @ (0, 0), place() @ (9, 9)])
    path = write_buildings(tmp_path / "a.geojson", [road])
    with pytest.raises(DataError, match=r"feature 0: is a LineString, not a Polygon"):
        read_polygons(path, None)
    profile = {"crs": rasterio.CRS.from_user_input(UTM), "transform": place()}
    with pytest.raises(CorruptSampleError, match=r"a\.geojson: is a LineString"):
        burn_footprints(path, profile, (SIDE, SIDE))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("east", "has polygons that lie elsewhere than its image; pair the files"),
        ("north", "has polygons that lie elsewhere than its image; pair the files"),
        ("west", "has polygons that lie elsewhere than its image; pair the files"),
        ("damaged", "is not JSON.*; replace it"),
        ("plain", "has polygons, and its image no georeferencing to lay them on"),
    ],
)
def test_footprints_that_do_not_fit_their_image_are_refused(
    change: str, problem: str, tmp_path: Path
):
    path = write_buildings(tmp_path / "a.geojson", [building(place(), 4, 5, 9, 15)])
    if change == "damaged":
        path.write_text(path.read_text()[:-20])
    moves = {"east": (5000.0, 0.0), "north": (0.0, 5000.0), "west": (-5000.0, 0.0)}
    where = place(*moves.get(change, (0.0, 0.0)))
    profile = {"crs": rasterio.CRS.from_user_input(UTM), "transform": where}
    with pytest.raises(CorruptSampleError, match=problem) as caught:
        burn_footprints(path, None if change == "plain" else profile, (SIDE, SIDE))
    assert "a.geojson" in str(caught.value) and "\n" not in str(caught.value)


def test_tiles_of_a_block_of_ground_go_to_one_split_and_one_group(tmp_path: Path):
    for number in range(40):  # ten towns of four tiles beside each other
        write_vegas(
            tmp_path / "data", number, east_m=number // 4 * 6000 + number % 4 * SIDE * PIXEL
        )
    source = prepare("spacenet", tmp_path / "data", PublishedChoice(seed=1))
    splits = keys_of(source)
    assert {split: len(keys) for split, keys in splits.items()} == {
        "train": 32, "val": 4, "test": 4,
    }  # fmt: skip
    for keys in splits.values():
        towns = [int(key.rpartition("_")[2]) // 4 for key in keys]
        assert all(towns.count(town) == 4 for town in towns)
    groups = {key: sample.group for key, sample in samples_of(source).items()}
    assert len(set(groups.values())) == 10
    assert len({groups[f"2_Vegas_{number}"] for number in range(4)}) == 1
    assert source.provenance["split_rule"] == "blocks of 2000 m"
    assert source.provenance["blocks"] == 10 and "group" in source.provenance[INDEX_COLUMNS]
    assert keys_of(prepare("spacenet", tmp_path / "data", PublishedChoice(seed=1))) == splits
    assert keys_of(prepare("spacenet", tmp_path / "data", PublishedChoice(seed=2))) != splits


def test_lists_replace_the_draw_of_blocks(tmp_path: Path):
    for number in range(3):
        write_vegas(tmp_path / "data", number)
    (tmp_path / "train.txt").write_text("RGB-PanSharpen_AOI_2_Vegas_img0.tif\n")
    (tmp_path / "val.txt").write_text("RGB-PanSharpen_AOI_2_Vegas_img2.tif\n")
    lists = read_split_files([str(tmp_path / "train.txt"), str(tmp_path / "val.txt"), "none"])
    source = prepare("spacenet", tmp_path / "data", PublishedChoice(lists=lists))
    assert keys_of(source) == {"train": ["2_Vegas_0"], "val": ["2_Vegas_2"]}


def test_one_block_is_not_divided(tmp_path: Path):
    for number in range(3):
        write_vegas(tmp_path / "data", number)
    with pytest.raises(ConfigError) as caught:
        prepare("spacenet", tmp_path / "data")
    assert str(caught.value) == (
        "--split: asks for 3 splits, and the images lie in 1 block of 2000 m, which are not "
        "divided; name fewer splits, such as 1,0,0, or lists with --split-files"
    )


def test_an_image_that_does_not_tell_where_it_lies_cannot_be_drawn(tmp_path: Path):
    write_vegas(tmp_path, 1)
    name = "AOI_2_Vegas_Train/RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img1.tif"
    write_image(tmp_path / name)
    with pytest.raises(CorruptSampleError, match="has no georeferencing, by which splits are"):
        train_of(tmp_path)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("AOI_2_Vegas/geojson/spacenetroads/spacenetroads_img1.geojson", "SpaceNet 3 or 5"),
        ("AOI_2_Vegas/PS-RGB/SN3_roads_train_AOI_2_Vegas_PS-RGB_img1.tif", "which are lines"),
        ("geojson/spacenet-buildings/spacenet-buildings_733601_3724689.geojson", "27 oblique"),
        ("SN8_floods/train/annotations/0_15_63.geojson", "SpaceNet 8"),
    ],
)  # fmt: skip
def test_other_challenges_are_told_apart(path: str, problem: str, tmp_path: Path):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("{}")
    with pytest.raises(DataError) as caught:
        train_of(tmp_path)
    assert problem in str(caught.value) and "name a folder of spacenet" in str(caught.value)
    assert "\n" not in str(caught.value)
