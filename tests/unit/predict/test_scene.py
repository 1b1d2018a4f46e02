"""A scene is predicted window by window as it would be as a whole, where it has data."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.predict.scene import WindowRule, predict_scene
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.read_tile import read_window
from tests.unit.predict.scenes import by_pixel, by_place, describe, draw_scene, predict

BLENDED = WindowRule((16, 16), overlap=4, blend=True)


@pytest.mark.parametrize("size", [(45, 70), (16, 16), (17, 200), (5, 9), (40, 3), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 4, 15])
def test_a_network_that_looks_at_one_pixel_gives_what_it_gives_for_the_whole_scene(
    tmp_path: Path, size: tuple[int, int], overlap: int
):
    pixels = draw_scene(tmp_path / "a.tif", size)
    shares, valid = predict(
        describe(tmp_path / "a.tif"), by_pixel, WindowRule((16, 16), overlap, True)
    )
    whole = by_pixel(np.moveaxis(pixels, 0, 2)[None])[0]
    assert valid.all()
    np.testing.assert_allclose(shares, whole, atol=1e-6)
    np.testing.assert_array_equal(shares.argmax(0), whole.argmax(0))


def test_any_batch_gives_the_same_result(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", nodata=0, hole=(slice(10, 40), slice(20, 60)))
    results = [
        predict(describe(tmp_path / "a.tif"), by_place, BLENDED, batch_size)
        for batch_size in (1, 3, 7, 1000)
    ]
    for shares, valid in results[1:]:
        np.testing.assert_array_equal(shares, results[0][0])
        np.testing.assert_array_equal(valid, results[0][1])


def test_neighbours_fade_into_each_other(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (64, 64))
    scene = describe(tmp_path / "a.tif")
    steps = []
    for rule in (BLENDED, WindowRule((16, 16), overlap=4, blend=False)):
        shares, _ = predict(scene, by_place, rule)
        steps.append(np.abs(np.diff(shares, axis=1)).max())
    assert steps[0] < steps[1] / 2


def test_windows_without_data_are_not_predicted_and_nodata_is_filled_as_packing_does(
    tmp_path: Path,
):
    hole = slice(0, 30), slice(0, 40)
    draw_scene(tmp_path / "a.tif", nodata=0, hole=hole)
    scene, seen = describe(tmp_path / "a.tif"), []

    def network(windows: np.ndarray) -> np.ndarray:
        seen.extend(windows)
        return by_pixel(windows)

    _, valid = predict(scene, network, BLENDED)
    assert not valid[hole].any()
    assert valid.sum() == 45 * 70 - 30 * 40
    # Of 4 x 6 windows of 16 px, every 12 px, 2 x 3 lie in the hole: rows 0 and 12, columns 0 to 24.
    assert len(seen) == 4 * 6 - 2 * 3
    packed, _ = read_window(scene, Window(36, 0, 16, 16), DatasetPool())
    np.testing.assert_array_equal(seen[0], packed)
    assert (seen[0] > 0).all()


def test_rows_of_windows_without_data_are_empty_rows_of_the_map(tmp_path: Path):
    pixels = draw_scene(tmp_path / "a.tif", (90, 40), nodata=0, hole=(slice(20, 70), slice(None)))
    shares, valid = predict(describe(tmp_path / "a.tif"), by_pixel, BLENDED)
    np.testing.assert_array_equal(valid.all(axis=1), [not 20 <= row < 70 for row in range(90)])
    whole = by_pixel(np.moveaxis(pixels, 0, 2)[None])[0]
    np.testing.assert_allclose(shares[:, valid], whole[:, valid], atol=1e-6)


def test_a_scene_smaller_than_a_window_is_continued_by_its_mirror_image(tmp_path: Path):
    pixels = np.moveaxis(draw_scene(tmp_path / "a.tif", (5, 9)), 0, 2)
    seen = []

    def network(windows: np.ndarray) -> np.ndarray:
        seen.extend(windows)
        return by_pixel(windows)

    _, valid = predict(describe(tmp_path / "a.tif"), network, BLENDED)
    assert valid.shape == (5, 9)
    np.testing.assert_array_equal(seen[0][:5, :9], pixels)
    np.testing.assert_array_equal(seen[0][5:10, :9], pixels[::-1])
    np.testing.assert_array_equal(seen[0][:5, 9:16], pixels[:, :1:-1])


def test_a_scene_without_data_is_written_without_asking_the_network(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", nodata=0, hole=(slice(None), slice(None)))

    def network(windows: np.ndarray) -> np.ndarray:
        pytest.fail("the network was asked")

    _, valid = predict(describe(tmp_path / "a.tif"), network, BLENDED)
    assert valid.shape == (45, 70)
    assert not valid.any()


def test_a_tile_has_one_class(tmp_path: Path):
    pixels = draw_scene(tmp_path / "a.tif", (32, 40))

    def network(windows: np.ndarray) -> np.ndarray:
        return by_pixel(windows[:, :1, :1])  # of the corner of each: [B, 3, 1, 1]

    shares, _ = predict(
        describe(tmp_path / "a.tif"), network, WindowRule((16, 16), overlap=0, blend=False)
    )
    corners = by_pixel(np.moveaxis(pixels, 0, 2)[None, ::16, [0, 16, 24]])[0]
    np.testing.assert_allclose(shares[:, ::16, [0, 16, 39]], corners, atol=1e-6)
    for rows in (slice(0, 16), slice(16, 32)):
        for cols in (slice(0, 16), slice(16, 28), slice(28, 40)):
            assert (shares[:, rows, cols] == shares[:, rows, cols][:, :1, :1]).all()


def test_a_scene_that_is_cut_off_is_refused_by_name(tmp_path: Path):
    draw_scene(tmp_path / "a.tif", (400, 400))
    data = (tmp_path / "a.tif").read_bytes()
    scene = describe(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptSampleError, match=r"a\.tif: cannot be read at row"):
        predict(scene, by_pixel, WindowRule((64, 64), overlap=16, blend=True))


def test_a_network_that_gives_nan_is_refused(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")
    with pytest.raises(DataError, match="gives NaN in row 0, column 0"):
        predict(describe(tmp_path / "a.tif"), lambda w: by_pixel(w) * np.nan, BLENDED)


def test_an_error_of_the_writer_ends_the_prediction(tmp_path: Path):
    draw_scene(tmp_path / "a.tif")

    def write(top: int, *rows: object) -> None:
        raise DataError("map", f"stops at row {top}")

    with pytest.raises(DataError, match="stops at row 0"):
        predict_scene(
            describe(tmp_path / "a.tif"), by_pixel, BLENDED, write, num_classes=3, batch_size=4
        )


def test_a_compressed_scene_with_an_alpha_band_is_masked_by_it(tmp_path: Path):
    pixels = np.full((4, 40, 40), 9, np.uint8)
    pixels[3] = 0
    pixels[3, 10:, 10:] = 255
    profile = dict(driver="GTiff", dtype="uint8", count=4, height=40, width=40, photometric="RGB",
                   alpha="yes", crs="EPSG:3857", compress="deflate",
                   transform=rasterio.Affine(1, 0, 0, 0, -1, 0))  # fmt: skip
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as raster:
        raster.write(pixels)
    _, valid = predict(describe(tmp_path / "a.tif"), by_pixel, BLENDED)
    np.testing.assert_array_equal(valid, pixels[3] > 0)
