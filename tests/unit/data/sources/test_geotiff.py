"""Scenes on disk -> labelled, georeferenced tiles."""

import gc
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.packing.pack import PackOptions, pack
from rsdl.data.sample import Sample
from rsdl.data.sources.geotiff import GeotiffSource
from rsdl.data.sources.geotiff_options import GeotiffOptions
from rsdl.storage.connect import connect

LEFT, TOP = 500_000.0, 4_500_000.0
UTM = "EPSG:32618"


def write_scene(
    path: Path,
    pixels: np.ndarray,
    *,
    left: float = LEFT,
    top: float = TOP,
    crs: str | None = UTM,
    names: Sequence[str] = (),
    **profile: Any,  # noqa: ANN401
) -> Path:
    """Write pixels ``[C, H, W]`` with pixels of 1 m."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    place = {"transform": rasterio.Affine(1, 0, left, 0, -1, top)} if crs else {}
    profile = {"photometric": "MINISBLACK", **place, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=pixels.dtype,
        crs=crs, **profile,
    ) as target:  # fmt: skip
        target.write(pixels)
        if names:
            target.descriptions = tuple(names)
    return path


def noise(bands: int, height: int, width: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(1, 255, (bands, height, width))
    return drawn.astype(dtype)


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[list[float]]]:
    """Return the ring of a box given in metres from the scenes' top-left, y downwards."""
    x = [LEFT + v for v in (x0, x1, x1, x0, x0)]
    y = [TOP - v for v in (y0, y0, y1, y1, y0)]
    return [[list(position) for position in zip(x, y, strict=True)]]


def feature(name: Any, rings: Any, kind: str = "Polygon") -> dict[str, Any]:  # noqa: ANN401
    geometry = {"type": kind, "coordinates": rings}
    return {"type": "Feature", "properties": {"class": name}, "geometry": geometry}


def write_labels(path: Path, features: list[dict[str, Any]], crs: str | None = UTM) -> Path:
    page: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs:
        page["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(page))
    return path


def open_source(scenes: Path | Sequence[Path], labels: Path, **options: Any) -> GeotiffSource:  # noqa: ANN401
    chosen = [scenes] if isinstance(scenes, Path) else scenes
    options = {"tile": 8, "block": 2, "fractions": (1.0, 0.0, 0.0), **options}
    return GeotiffSource(
        GeotiffOptions(scenes=tuple(str(s) for s in chosen), labels=str(labels), **options)
    )


def read_all(source: GeotiffSource) -> dict[str, Sample]:
    items = [item for plan in source.shards(1 << 20) for item in plan.items]
    samples = [sample for item in items if isinstance(sample := source.read(item), Sample)]
    assert len({sample.key for sample in samples}) == len(samples)
    return {sample.key: sample for sample in samples}


@pytest.fixture
def everywhere(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels.geojson", [feature("land", box(-99, -99, 9999, 9999))])


def test_a_tile_names_its_bands(tmp_path: Path, everywhere: Path):
    path = write_scene(tmp_path / "a.tif", noise(2, 16, 16), names=("red", "nir"))
    source = open_source(path, everywhere, tile_format="tif")
    assert source.bands == ("red", "nir")
    sample = read_all(source)["a_r00008_c00008"]
    with rasterio.MemoryFile(sample.image) as memory, memory.open() as tile:
        assert tile.descriptions == ("red", "nir")


def test_the_class_that_covers_most_wins_and_too_little_is_left_out(tmp_path: Path):
    path = write_scene(tmp_path / "a.tif", noise(1, 8, 24))
    labels = write_labels(
        tmp_path / "labels.geojson",
        [
            feature("water", box(0, 0, 5, 8)),
            feature("field", box(5, 0, 8, 8)),
            feature("field", [box(8, 0, 11, 8), box(17, 0, 24, 4)], "MultiPolygon"),
        ],
    )
    source = open_source(path, labels, min_cover=0.4)
    assert source.classes == ("field", "water")
    got = {key: sample.meta["class"] for key, sample in read_all(source).items()}
    assert got == {"a_r00000_c00000": "water", "a_r00000_c00016": "field"}
    assert set(read_all(open_source(path, labels, min_cover=0.7))) == set()
    field = open_source(path, labels, classes=("field",), min_cover=0.3)
    assert {s.target for s in read_all(field).values()} == {0}
    assert len(read_all(field)) == 3


def test_each_pixel_gets_its_own_class_and_255_where_nothing_is_known(tmp_path: Path):
    scene = noise(1, 16, 24)
    scene[0, :3, :5] = 0
    path = write_scene(tmp_path / "a.tif", scene, nodata=0)
    labels = write_labels(
        tmp_path / "labels.geojson",
        [feature("water", box(0, 0, 5, 16)), feature("field", box(5, 0, 12, 8))],
    )
    wanted = np.full((16, 24), 255)
    wanted[:, :5], wanted[:8, 5:12] = 1, 0
    for background, code, shift in ((None, 255, 0), ("ground", 0, 1)):
        truth = np.where(wanted == 255, code, wanted + shift)
        truth[:3, :5] = 255
        source = open_source(path, labels, task="segmentation", background=background)
        assert source.classes == (("ground",) if background else ()) + ("field", "water")
        found = read_all(source)
        for row in (0, 8):
            for col in (0, 8, 16):
                key = f"a_r{row:05d}_c{col:05d}"
                tile = truth[row : row + 8, col : col + 8]
                if (tile == 255).all():
                    assert key not in found
                else:
                    assert (found[key].target == tile).all()


def test_a_class_raster_is_not_taken_with_an_option_for_polygons(tmp_path: Path):
    path = write_scene(tmp_path / "a.tif", noise(1, 16, 16))
    raster = write_scene(tmp_path / "labels.tif", noise(1, 16, 16) % 3)
    with pytest.raises(ConfigError, match="all_touched: is for polygons, not a class raster"):
        open_source(path, raster, task="segmentation", all_touched=True)


def test_a_background_is_refused_where_pixels_are_not_known(tmp_path: Path, everywhere: Path):
    path = write_scene(tmp_path / "a.tif", noise(1, 16, 16))
    raster = write_scene(tmp_path / "labels.tif", noise(1, 16, 16) % 3)
    for labels, options, problem in (
        (raster, {}, "background: is for polygons: a class raster says itself"),
        (everywhere, {"ignore": ("land",)}, "background: does not go with ignore"),
        (everywhere, {"background": "land"}, 'background: "land" is a class of the labels'),
        (everywhere, {"task": "classification"}, "background: is for masks; pass --task segm"),
    ):
        fields = {"task": "segmentation", "background": "ground", **options}
        with pytest.raises(ConfigError, match=problem):
            open_source(path, labels, **fields)


@pytest.mark.parametrize(("max_nodata", "kept"), [(0.5, 1), (0.2, 0)])
def test_tiles_that_are_mostly_nodata_are_left_out(
    tmp_path: Path, everywhere: Path, max_nodata: float, kept: int
):
    pixels = noise(1, 8, 16)
    pixels[0, :3, :8] = 0
    pixels[0, :, 8:] = 0
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0)
    assert len(read_all(open_source(path, everywhere, max_nodata=max_nodata))) == kept


def test_why_tiles_are_left_out_is_counted_apart(tmp_path: Path):
    pixels = noise(1, 8, 32)
    pixels[0, :, 8:16] = 0
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0)
    # A tile of land, one without data, one that is covered too little; the last has no label.
    labels = write_labels(
        tmp_path / "labels.geojson",
        [feature("land", box(0, 0, 16, 8)), feature("sea", box(16, 0, 19, 8))],
    )
    source = open_source(path, labels, min_cover=0.5)
    manifest = pack(source, connect(str(tmp_path / "out")), PackOptions())
    assert manifest.splits["train"].samples == 1
    assert manifest.provenance["left_out"] == {
        "tiles mostly without data": 1, "tiles of which no class covers enough (--min-cover)": 1
    }  # fmt: skip


def test_tiles_that_the_gap_between_splits_takes_are_counted(tmp_path: Path, everywhere: Path):
    path = write_scene(tmp_path / "a.tif", noise(1, 160, 160))
    labels = write_labels(
        tmp_path / "two.geojson",
        [feature("land", box(0, 0, 160, 80)), feature("sea", box(0, 80, 160, 160))],
    )
    source = open_source(path, labels, block=4, fractions=(0.5, 0.25, 0.25))
    manifest = pack(source, connect(str(tmp_path / "out")), PackOptions())
    left_out: Any = manifest.provenance["left_out"]
    assert set(left_out) == {"tiles between splits (--gap)"}
    kept = sum(split.samples for split in manifest.splits.values())
    assert kept + left_out["tiles between splits (--gap)"] == 400


@pytest.mark.parametrize("kind", ["polygons", "raster"])
@pytest.mark.parametrize("seed", range(4))
def test_a_class_of_one_scene_or_block_is_trained_on(tmp_path: Path, kind: str, seed: int):
    for number in range(6):
        write_scene(
            tmp_path / f"scenes/{number}.tif",
            noise(1, 16, 16, seed=number),
            left=LEFT + 99 * number,
        )
    if kind == "polygons":
        boxes = [feature("land", box(-9, -9, 999, 16)), feature("rare", box(4 * 99, 0, 420, 16))]
        labels = write_labels(tmp_path / "labels.geojson", boxes)
    else:
        codes = np.ones((1, 16, 600), np.uint8)
        codes[0, :, 4 * 99 : 420] = 2
        labels = write_scene(tmp_path / "labels.tif", codes)
    source = open_source(
        tmp_path / "scenes", labels, split_by="scene", seed=seed, fractions=(0.5, 0.25, 0.25)
    )
    splits = {
        plan.split for plan in source.shards(1 << 20) for item in plan.items if item.scene == 4
    }
    assert splits == {"train"}


def test_a_class_under_nodata_labels_nothing(tmp_path: Path):
    pixels = noise(1, 8, 8)
    pixels[0, :, :4] = 0
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0)
    labels = write_labels(
        tmp_path / "labels.geojson",
        [feature("hidden", box(0, 0, 5, 8)), feature("seen", box(5, 0, 8, 8))],
    )
    assert [s.meta["class"] for s in read_all(open_source(path, labels)).values()] == ["seen"]


def test_alpha_is_a_mask_unless_it_is_said_to_be_a_band(tmp_path: Path, everywhere: Path):
    pixels = noise(4, 8, 8)
    pixels[3] = 255
    pixels[3, :2] = 0
    path = write_scene(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    masked = read_all(open_source(path, everywhere))["a_r00000_c00000"]
    assert masked.pixels.shape == (8, 8, 3)
    assert masked.valid is not None
    np.testing.assert_array_equal(masked.valid, pixels[3] > 0)
    band = read_all(open_source(path, everywhere, alpha="band"))["a_r00000_c00000"]
    np.testing.assert_array_equal(band.pixels, np.moveaxis(pixels, 0, 2))
    assert band.valid is None


def test_near_infrared_that_is_tagged_as_alpha_stays_a_band(
    tmp_path: Path, everywhere: Path, caplog: pytest.LogCaptureFixture
):
    pixels = noise(4, 8, 8)
    pixels[3, :, :4] = 0  # water
    write_scene(tmp_path / "scenes/a.tif", pixels, photometric="RGB", alpha="YES")
    mask = noise(4, 8, 8)
    mask[3] = 255  # alone, it would be taken for a mask
    write_scene(tmp_path / "scenes/b.tif", mask, photometric="RGB", alpha="YES")
    samples = read_all(open_source(tmp_path / "scenes", everywhere))
    np.testing.assert_array_equal(samples["a_r00000_c00000"].pixels, np.moveaxis(pixels, 0, 2))
    assert samples["a_r00000_c00000"].valid is None
    assert "a.tif: band 4 is tagged as alpha but holds more" in caplog.text


def test_scales_that_differ_are_applied_to_all_scenes(tmp_path: Path, everywhere: Path):
    for name, number, offset in (("a", 1200, 0.0), ("b", 2200, -0.1)):
        path = write_scene(tmp_path / f"scenes/{name}.tif", np.full((2, 8, 8), number, np.uint16))
        with rasterio.open(path, "r+") as target:
            target.scales, target.offsets = (0.0001, 0.0001), (offset, offset)
    source = open_source(tmp_path / "scenes", everywhere)
    assert source.dtype == "float32"
    for sample in read_all(source).values():
        np.testing.assert_allclose(sample.pixels, 0.12, atol=1e-6)
    with pytest.raises(DataError, match=r"b\.tif: has scale 0\.0001 and offset -0\.1, not scale"):
        open_source(tmp_path / "scenes", everywhere, unscale="off")


def test_equal_scales_are_kept_raw_and_said(
    tmp_path: Path, everywhere: Path, caplog: pytest.LogCaptureFixture
):
    path = write_scene(tmp_path / "a.tif", np.full((1, 8, 8), 1200, np.uint16))
    with rasterio.open(path, "r+") as target:
        target.scales = (0.0001,)
    assert read_all(open_source(path, everywhere))["a_r00000_c00000"].pixels.max() == 1200
    assert "stored numbers are kept; --unscale on" in caplog.text
    applied = read_all(open_source(path, everywhere, unscale="on"))["a_r00000_c00000"]
    np.testing.assert_allclose(applied.pixels, 0.12, atol=1e-6)


def test_bands_that_mean_other_things_are_refused_and_can_be_chosen(
    tmp_path: Path, everywhere: Path
):
    bands = {"a": ("red", "green", "swir"), "b": ("blue", "green", "red")}
    pixels = {name: noise(3, 8, 8) for name in bands}
    for name, names in bands.items():
        path = write_scene(tmp_path / f"scenes/{name}.tif", pixels[name])
        with rasterio.open(path, "r+") as target:
            target.descriptions = names
    with pytest.raises(DataError, match=r'b\.tif: band 1 is "blue" here and "red" in'):
        open_source(tmp_path / "scenes", everywhere)
    source = open_source(tmp_path / "scenes", everywhere, bands=("green", "red"))
    assert source.bands == ("green", "red")
    samples = read_all(source)
    np.testing.assert_array_equal(samples["a_r00000_c00000"].pixels[..., 1], pixels["a"][0])
    np.testing.assert_array_equal(samples["b_r00000_c00000"].pixels[..., 1], pixels["b"][2])
    with pytest.raises(ConfigError, match='has no band "nir"; it has red, green, swir'):
        open_source(tmp_path / "scenes", everywhere, bands=("nir",))


def test_a_value_may_be_said_to_mark_what_holds_no_data(tmp_path: Path, everywhere: Path):
    pixels = noise(3, 8, 8).clip(1)
    pixels[:, :3] = 0
    pixels[0, 7, 7] = 0  # dark in one band only: it holds data
    path = write_scene(tmp_path / "a.tif", pixels)
    sample = read_all(open_source(path, everywhere, nodata=0))["a_r00000_c00000"]
    assert sample.valid is not None
    np.testing.assert_array_equal(sample.valid, pixels.any(axis=0))
    assert sample.pixels[7, 7, 0] == 0
    means = np.rint([band[pixels.any(axis=0)].mean() for band in pixels])
    np.testing.assert_array_equal(sample.pixels[0, 0], means)


@pytest.mark.parametrize("value", [300, -1, 3.5, float("nan"), float("inf")])
def test_a_value_that_no_pixel_can_hold_marks_nothing_and_is_refused(
    tmp_path: Path, everywhere: Path, value: float
):
    path = write_scene(tmp_path / "a.tif", noise(3, 8, 8))
    rule = "--nodata: is .*, which no pixel of uint8 can hold; name a whole number of 0 to 255"
    with pytest.raises(ConfigError, match=rule):
        open_source(path, everywhere, nodata=value)
    real = write_scene(tmp_path / "b.tif", noise(3, 8, 8).astype(np.float32))
    assert open_source(real, everywhere, nodata=value).dtype == "float32"


def test_a_scene_of_several_pages_is_refused(tmp_path: Path, everywhere: Path):
    path = tmp_path / "a.tif"
    for number in range(4):
        write_scene(path, noise(1, 8, 8), APPEND_SUBDATASET="YES" if number else "NO")
    with pytest.raises(DataError, match=r"a\.tif: has 4 pages and shows only the first.*separate"):
        open_source(path, everywhere)


def test_scenes_are_found_once_and_keys_stay_unique(tmp_path: Path, everywhere: Path):
    for name in ("2009/a.b.tif", "2014/a.b.TIFF", "2014/deep/c.tif", "labels/classes.tif"):
        write_scene(tmp_path / "scenes" / name, noise(1, 8, 8))
    (tmp_path / "scenes/notes.txt").write_text("no scene")
    root = tmp_path / "scenes"
    source = open_source(
        [root / "2009", root / "2014/**/*.tif", root], root / "labels", name="towns"
    )
    names = [scene.name for scene in source.scenes]
    assert names == ["2009/a.b.tif", "2014/a.b.TIFF", "2014/deep/c.tif"]
    samples = read_all(open_source(root / "2009", everywhere)) | read_all(
        open_source([root / "2009", root / "2014"], everywhere)
    )
    assert len(samples) == 4
    assert not any("." in key or "/" in key for key in samples)


def test_threads_read_what_one_thread_reads(tmp_path: Path, everywhere: Path):
    for number in range(3):
        write_scene(
            tmp_path / f"{number}.tif", noise(2, 64, 64, seed=number), left=LEFT + 99 * number
        )
    source = open_source(tmp_path / "*.tif", everywhere)
    items = [item for plan in source.shards(1 << 20) for item in plan.items]
    read = [source.read(item) for item in items]
    alone = [sample.image for sample in read if isinstance(sample, Sample)]
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(source.read, items))
    together = [sample.image for sample in read if isinstance(sample, Sample)]
    assert alone == together
    assert len(alone) == 192


def test_open_files_are_few_however_many_scenes(tmp_path: Path, everywhere: Path):
    for number in range(20):
        write_scene(tmp_path / f"{number}.tif", noise(1, 8, 8), left=LEFT + 99 * number)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    source = open_source(tmp_path / "*.tif", everywhere)
    assert len(read_all(source)) == 20
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) - before <= 8
        del source
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_shards_follow_the_scene_and_hold_what_was_asked(tmp_path: Path, everywhere: Path):
    path = write_scene(tmp_path / "a.tif", noise(1, 160, 160))
    source = open_source(path, everywhere, fractions=(0.6, 0.2, 0.2), block=4)
    plans = source.shards(50_000)
    assert {plan.split for plan in plans} == {"train", "val", "test"}
    assert sum(plan.split == "train" for plan in plans) > 1
    for split in ("train", "val", "test"):
        items = [item for plan in plans if plan.split == split for item in plan.items]
        assert items == sorted(items)
    assert max(len(plan.items) for plan in plans) * (64 + 4096) <= 50_000
    again = open_source(path, everywhere, fractions=(0.6, 0.2, 0.2), block=4)
    assert [list(p.items) for p in again.shards(50_000)] == [list(p.items) for p in plans]
    assert again.provenance == source.provenance


def test_provenance_tells_other_pixels_labels_or_options_apart(tmp_path: Path, everywhere: Path):
    path = write_scene(tmp_path / "a.tif", noise(1, 16, 16))
    first = open_source(path, everywhere).provenance
    assert json.loads(json.dumps(first)) == first
    assert first["scenes"][0]["name"] == "a.tif"
    assert str(tmp_path) not in json.dumps(first)
    assert open_source(path, everywhere, min_cover=0.6).provenance != first
    write_scene(path, noise(1, 16, 16, seed=9))
    second = open_source(path, everywhere).provenance
    assert second != first
    write_labels(everywhere, [feature("land", box(0, 0, 99, 99))])
    assert open_source(path, everywhere).provenance != second


# What can be wrong, in one clear line each.


def refuse(match: str, *arguments: Any, error: type[Exception] = DataError, **options: Any) -> None:  # noqa: ANN401
    with pytest.raises(error, match=match) as caught:
        open_source(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_bad_scenes_are_named(tmp_path: Path, everywhere: Path):
    good = write_scene(tmp_path / "good.tif", noise(1, 16, 16))
    refuse("no scenes found", tmp_path / "absent.tif", everywhere)
    (tmp_path / "empty").mkdir()
    refuse("empty: no scenes found", tmp_path / "empty", everywhere)
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    refuse("text.tif: is not a raster", [good, text], everywhere)
    odd = write_scene(tmp_path / "odd.tif", noise(2, 16, 16))
    fine = write_scene(tmp_path / "fine.tif", noise(1, 16, 16))
    refuse("odd.tif: has 2 bands of uint8, the other scenes 1", [good, odd, fine], everywhere)
    rgb = write_scene(tmp_path / "rgb.tif", noise(2, 16, 16), names=("red", "nir"))
    bgr = write_scene(tmp_path / "turned.tif", noise(2, 16, 16), names=("nir", "red"))
    refuse("turned.tif: has its bands in another order", [rgb, bgr], everywhere)
    signed = write_scene(tmp_path / "signed.tif", noise(1, 16, 16, "int16"))
    refuse("signed.tif: has pixels of int16.*gdal_translate", signed, everywhere)
    refuse(
        "tile: is 32 pixels, but .*good.tif is only 16 x 16", good, everywhere, tile=32,
        error=ConfigError,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_crs_or_transform_is_refused(tmp_path: Path, everywhere: Path):
    lost = write_scene(tmp_path / "lost.tif", noise(1, 16, 16), transform=None)
    refuse("lost.tif: has a CRS but no transform", lost, everywhere)
    bare = write_scene(tmp_path / "bare.tif", noise(1, 16, 16), crs=None)
    refuse("bare.tif: has no coordinate reference system", bare, everywhere)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_that_is_placed_by_control_points_is_to_be_warped(tmp_path: Path, everywhere: Path):
    corners = [(0, 0), (0, 16), (16, 0), (16, 16)]
    points = [
        GroundControlPoint(row, col, LEFT + col + row / 4, TOP - row, 0) for row, col in corners
    ]
    path = write_scene(tmp_path / "gcps.tif", noise(1, 16, 16), gcps=points, transform=None)
    refuse(
        "gcps.tif: is placed by 4 ground control points and has no transform; "
        'warp it with "gdalwarp -r near -t_srs EPSG:32618 -dstnodata 0 .*gcps.tif OUT.tif"',
        path, everywhere,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("dtype", "collar"), [("uint8", 0), ("float32", float("nan"))])
def test_what_a_scene_is_to_be_warped_with_leaves_its_collar_out(
    tmp_path: Path, everywhere: Path, dtype: str, collar: float
):
    # A scene that is turned by 45 degrees, so that half of what holds it is collar.
    corners = [(0, 0), (0, 32), (32, 0), (32, 32)]
    points = [
        GroundControlPoint(row, col, LEFT + 32 + col - row, TOP - row - col, 0)
        for row, col in corners
    ]
    pixels = np.full((1, 32, 32), 100, dtype)
    path = write_scene(tmp_path / "gcps.tif", pixels, gcps=points, transform=None)
    with pytest.raises(DataError) as caught:
        open_source(path, everywhere)
    assert f"-dstnodata {collar}" in str(caught.value)
    # As gdalwarp does by this command; GDAL's programs need not be installed.
    with rasterio.open(path) as source, WarpedVRT(
        source, src_crs=source.gcps[1], crs=UTM, nodata=collar, resampling=Resampling.nearest
    ) as view:  # fmt: skip
        warped = write_scene(tmp_path / "warped.tif", view.read(), nodata=collar)
    samples = read_all(open_source(warped, everywhere, max_nodata=0.99)).values()
    assert any(sample.valid is not None for sample in samples)
    assert all((sample.pixels == 100).all() for sample in samples)


def test_a_truncated_scene_names_file_and_place(tmp_path: Path, everywhere: Path):
    path = write_scene(tmp_path / "cut.tif", noise(1, 64, 64), blockysize=8, compress="deflate")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    source = open_source(path, everywhere)
    with pytest.raises(CorruptSampleError, match=r"cut.tif: cannot be read at row \d+, column 0"):
        read_all(source)


def test_bad_labels_are_named(tmp_path: Path):
    scene = write_scene(tmp_path / "a.tif", noise(1, 16, 16))

    def labels(*features: Any) -> Path:  # noqa: ANN401
        return write_labels(tmp_path / "labels.geojson", list(features))

    ring = box(0, 0, 9, 9)
    refuse("no such file", scene, tmp_path / "absent.geojson")
    (tmp_path / "list.geojson").write_text("[]")
    refuse("is not a GeoJSON FeatureCollection", scene, tmp_path / "list.geojson")
    refuse("has no polygons", scene, labels())
    nowhere = {"type": "Feature", "geometry": None}
    kindless = labels(nowhere, feature("a", ring))
    refuse('feature 1: has no property "kind" .it has class', scene, kindless, label_field="kind")
    refuse(
        r"cover \(\d.*\) in EPSG:32618, but the scenes lie in \(500000, ", scene,
        labels(feature("a", box(900, 900, 990, 990))),
    )  # fmt: skip
    refuse('is of class "b"; use a', scene, labels(feature("a", ring)), classes=("b",),
           error=ConfigError)  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tile", 0), ("overlap", 8), ("min_cover", 1.5), ("max_nodata", -0.1), ("gap", 0),
        ("block", 0), ("fractions", (0.5, 0.1, 0.1)), ("fractions", (0.0, 0.5, 0.5)),
        ("split_by", "tile"), ("tile_format", "jpg"), ("alpha", "no"), ("classes", ("a", "a")),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(field: str, value: Any):  # noqa: ANN401
    with pytest.raises(ConfigError, match=f"^{field}: |{field}"):
        GeotiffOptions(**{"scenes": ("a",), "labels": "b", "tile": 8, field: value})


def test_a_split_without_tiles_is_refused(tmp_path: Path, everywhere: Path):
    scene = write_scene(tmp_path / "a.tif", noise(1, 24, 24))
    source = open_source(scene, everywhere, block=1, gap=3, fractions=(0.4, 0.3, 0.3))
    with pytest.raises(ConfigError, match="no tile is left for train"):
        source.shards(1 << 20)


def test_the_manifest_holds_the_pixel_size_on_the_ground(tmp_path: Path):
    land, sea = feature("land", box(-99, -99, 9999, 9999)), feature("sea", box(0, 0, 8, 8))
    labels = write_labels(tmp_path / "labels.geojson", [land, sea])
    for number, side in enumerate((1.0, 1.2, 2.0)):
        place = rasterio.Affine(side, 0, LEFT + 1000 * number, 0, -side, TOP)
        write_scene(tmp_path / f"{number}.tif", noise(3, 16, 16 * (number + 1)), transform=place)
    scenes = [tmp_path / f"{number}.tif" for number in range(3)]
    store = connect(str(tmp_path / "out"))
    manifest = pack(open_source(scenes, labels), store, PackOptions(num_workers=1))
    found: Any = manifest.provenance["gsd_m"]
    # By scenes and not by tiles; UTM shortens lengths at its central meridian by 0.9996.
    for name, side in (("min", 1.0), ("median", 1.2), ("max", 2.0)):
        assert found[name] == pytest.approx(side / 0.9996, rel=1e-4)
