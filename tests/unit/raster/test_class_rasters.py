"""Labels from rasters of class numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.sample import Sample
from rsdl.data.sources.geotiff import GeotiffSource
from rsdl.data.sources.geotiff_options import GeotiffOptions

LEFT, TOP = 500_000.0, 4_500_000.0


def write_raster(
    path: Path,
    pixels: np.ndarray,
    pixel: float = 1.0,
    **profile: Any,  # noqa: ANN401
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "crs": "EPSG:32618",
        "transform": rasterio.Affine(pixel, 0, LEFT, 0, -pixel, TOP),
        **profile,
    }
    with rasterio.open(
        path, "w", driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], count=1,
        dtype=pixels.dtype, **profile,
    ) as target:  # fmt: skip
        target.write(pixels, 1)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Return a scene of 2 x 3 tiles of 8 pixels."""
    pixels = np.random.default_rng(0).integers(1, 255, (16, 24), dtype=np.uint8)
    return write_raster(tmp_path / "scene.tif", pixels)


def classes_of(scene: Path, labels: Path, **options: Any) -> dict[tuple[int, int], str]:  # noqa: ANN401
    chosen = {"tile": 8, "fractions": (1.0, 0.0, 0.0), **options}
    source = GeotiffSource(GeotiffOptions(scenes=(str(scene),), labels=str(labels), **chosen))
    items = [item for plan in source.shards(1 << 20) for item in plan.items]
    samples = [sample for item in items if isinstance(sample := source.read(item), Sample)]
    return {(s.meta["row"], s.meta["col"]): source.classes[s.target] for s in samples}


def spread(values: list[list[int]], dtype: str = "uint8", pixel: int = 1) -> np.ndarray:
    """Return an array with 8 m x 8 m for each value."""
    return np.kron(np.array(values), np.ones((8 // pixel, 8 // pixel), int)).astype(dtype)


@pytest.mark.parametrize("pixel", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_labels_of_any_resolution_fall_on_their_tiles(
    scene: Path, tmp_path: Path, pixel: int, dtype: str
):
    values = spread([[5, 0, 9], [9, 5, 5]], dtype, pixel)
    labels = write_raster(tmp_path / "labels" / "l.tif", values, float(pixel))
    assert classes_of(scene, labels) == {
        (0, 0): "class_5", (0, 16): "class_9",
        (8, 0): "class_9", (8, 8): "class_5", (8, 16): "class_5",
    }  # fmt: skip


def test_labels_in_another_crs_fall_on_their_tiles(scene: Path, tmp_path: Path):
    # In degrees, cells of about 0.5 m, left half 1 and right half 2 of the middle column of tiles.
    xs, ys = rasterio.warp.transform(
        "EPSG:32618", "EPSG:4326", [LEFT, LEFT + 8, LEFT + 24], [TOP, TOP, TOP - 16]
    )
    step = (xs[2] - xs[0]) / 48
    values = np.full((48, 60), 1, np.uint8)
    values[:, 16:] = 2
    place = rasterio.Affine(step, 0, xs[0], 0, -step, ys[0] + 4 * step)
    labels = write_raster(tmp_path / "l" / "l.tif", values, crs="EPSG:4326", transform=place)
    got = classes_of(scene, labels)
    assert {col: got[0, col] for col in (0, 8, 16)} == {0: "class_1", 8: "class_2", 16: "class_2"}


def test_zero_is_a_class_only_where_it_is_named(scene: Path, tmp_path: Path):
    labels = write_raster(tmp_path / "l" / "l.tif", spread([[0, 1, 2]]))
    assert classes_of(scene, labels) == {(0, 8): "class_1", (0, 16): "class_2"}
    assert classes_of(scene, labels, classes=("water", "town")) == {
        (0, 8): "water", (0, 16): "town",
    }  # fmt: skip
    # Below the label raster there is no class 0 either: nothing is known there.
    assert classes_of(scene, labels, classes=("0=sea", "2=town")) == {
        (0, 0): "sea", (0, 16): "town",
    }  # fmt: skip


def test_values_may_share_a_class(scene: Path, tmp_path: Path):
    values = spread([[1, 2, 7]])
    values[:, 12:16] = 9
    labels = write_raster(tmp_path / "l" / "l.tif", values)
    named = ("2=wood", "7=town", "9=wood")
    got = classes_of(scene, labels, classes=named, min_cover=0.9)
    assert got == {(0, 8): "wood", (0, 16): "town"}


def test_nodata_is_never_a_label(scene: Path, tmp_path: Path):
    labels = write_raster(tmp_path / "l" / "l.tif", spread([[255, 1, 255]]), nodata=255)
    assert classes_of(scene, labels) == {(0, 8): "class_1"}
    with pytest.raises(ConfigError, match="value 255 is the nodata"):
        classes_of(scene, labels, classes=("255=cloud", "1=land"))


@pytest.mark.parametrize("nodata", [None, float("nan"), -3.4e38, -9999])
@pytest.mark.parametrize("classes", [None, ("1=class_1", "3=class_3")])
def test_floating_point_rasters_hold_whole_numbers(
    scene: Path, tmp_path: Path, nodata: float | None, classes: tuple[str, ...] | None
):
    values = spread([[1, 0, 3]], "float32")
    values[:, 8:16] = np.nan if nodata is None else nodata
    labels = write_raster(tmp_path / "l" / "l.tif", values, nodata=nodata)
    wanted = {(0, 0): "class_1", (0, 16): "class_3"}
    assert classes_of(scene, labels, classes=classes) == wanted


def test_values_that_are_ignored_are_no_label(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    labels = write_raster(tmp_path / "l" / "l.tif", spread([[255, 1, 2]]))
    # 255 is what masks in 8 bits have for "ignore": it is a class only where it is named.
    assert classes_of(scene, labels) == {(0, 8): "class_1", (0, 16): "class_2"}
    assert "255 is taken for no label" in caplog.text
    assert classes_of(scene, labels, classes=("255=cloud", "2=b")) == {
        (0, 0): "cloud", (0, 16): "b",
    }  # fmt: skip
    caplog.clear()
    assert classes_of(scene, labels, ignore=("255", "2")) == {(0, 8): "class_1"}
    assert not caplog.text
    wide = write_raster(tmp_path / "w" / "l.tif", spread([[255, 1, 2]], "uint16"))
    assert classes_of(scene, wide)[0, 0] == "class_255"
    with pytest.raises(ConfigError, match="ignore: value 2 is among the classes"):
        classes_of(scene, labels, classes=("1=a", "2=b"), ignore=("2",))
    with pytest.raises(ConfigError, match='ignore: "cloud" is no value of a raster'):
        classes_of(scene, labels, ignore=("cloud",))
    with pytest.raises(ConfigError, match="label_layer: a class raster has no layers"):
        classes_of(scene, labels, label_layer="towns")


def test_several_rasters_label_together(scene: Path, tmp_path: Path):
    folder = tmp_path / "labels"
    write_raster(folder / "a.tif", spread([[3, 0]]))
    write_raster(folder / "b.tif", spread([[4, 4], [4, 4]]))
    far = rasterio.Affine(1, 0, LEFT + 9e5, 0, -1, TOP)
    write_raster(folder / "c.tif", spread([[7]]), transform=far)
    assert classes_of(scene, folder) == {
        (0, 0): "class_3", (0, 8): "class_4", (8, 0): "class_4", (8, 8): "class_4",
    }  # fmt: skip


@pytest.mark.parametrize("classes", [("1=a", "b"), ("x=a",), ("1=a", "1=b"), ("1=",)])
def test_classes_that_cannot_be_read_are_refused(
    scene: Path, tmp_path: Path, classes: tuple[str, ...]
):
    labels = write_raster(tmp_path / "l" / "l.tif", spread([[1, 1]]))
    with pytest.raises(ConfigError, match="VALUE=NAME"):
        classes_of(scene, labels, classes=classes)


def test_rasters_that_hold_no_classes_are_refused(scene: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no class rasters found"):
        classes_of(scene, tmp_path / "absent.tif")
    floats = write_raster(tmp_path / "l" / "f.tif", spread([[1, 1]], "float32") + 0.5)
    for named in (None, ("1=land",)):
        with pytest.raises(DataError, match=r"f\.tif: holds 1\.5; labels are whole numbers"):
            classes_of(scene, floats, classes=named)
    complexes = write_raster(tmp_path / "l" / "c.tif", spread([[1, 1]], "complex64"))
    with pytest.raises(DataError, match="labels are one band of whole numbers"):
        classes_of(scene, complexes)
    empty = write_raster(tmp_path / "l" / "e.tif", spread([[0, 0]]))
    with pytest.raises(DataError, match="has no label"):
        classes_of(scene, empty)
    ramp = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    with pytest.raises(DataError, match="more than 1000 different values"):
        classes_of(scene, write_raster(tmp_path / "l" / "r.tif", ramp))
    far = rasterio.Affine(1, 0, LEFT + 9e5, 0, -1, TOP)
    away = write_raster(tmp_path / "l" / "w.tif", spread([[1]]), transform=far)
    with pytest.raises(DataError, match="but the scenes lie in"):
        classes_of(scene, away)


def test_a_truncated_class_raster_is_named(scene: Path, tmp_path: Path):
    values = np.random.default_rng(0).integers(1, 9, (16, 24), dtype=np.uint8)
    labels = write_raster(tmp_path / "l" / "cut.tif", values, compress="deflate", blockysize=2)
    labels.write_bytes(labels.read_bytes()[:-60])
    with pytest.raises(CorruptSampleError, match=r"cut\.tif: cannot be read"):
        classes_of(scene, labels, classes=tuple("abcdefgh"))
    with pytest.raises(DataError, match=r"cut\.tif: cannot be read"):
        classes_of(scene, labels)
