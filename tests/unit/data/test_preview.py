from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from rsdl.config.data import DataConfig
from rsdl.data.dataset import DataSet, SplitData
from rsdl.data.preview import (
    contact_sheet,
    encode_jpeg,
    encode_png,
    read_pictures,
    rgb_bands,
    shrink,
    to_rgb,
)


@pytest.mark.parametrize(
    ("bands", "chosen"),
    [
        (("red", "green", "blue"), (0, 1, 2)),
        (("Blue", "Green", "Red", "NIR"), (2, 1, 0)),
        (tuple(f"B{n:02d}" for n in range(1, 14)), (3, 2, 1)),
        (("a", "b", "c", "d"), (0, 1, 2)),
        (("a", "b"), (0, 0, 0)),
        (("vv",), (0, 0, 0)),
    ],
)
def test_colours_are_found_by_name(bands: tuple[str, ...], chosen: tuple[int, int, int]):
    assert rgb_bands(bands) == chosen


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [1, 2, 3, 13])
def test_any_imagery_becomes_rgb(
    dtype: type[np.generic], bands: int, open_arrays: Callable[..., SplitData]
):
    random = np.random.default_rng(0)
    top = 3000 if dtype == np.uint16 else 255
    images = [(random.random((30, 40, bands)) * top).astype(dtype) for _ in range(6)]
    data = open_arrays(images)

    for picture in read_pictures(data, range(6), 20):
        assert picture is not None
        assert picture.shape == (15, 20, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 5, "the range is used"
    assert np.array_equal(to_rgb(images[0], data.manifest)[:, :, 0], images[0][:, :, 0]) == (
        dtype == np.uint8
    )


def test_corrupt_pictures_are_left_blank(packed: str):
    data = DataSet(DataConfig(url=packed)).split("train", "")
    shard = Path(packed) / data.index.shard_names[0]
    shard.write_bytes(shard.read_bytes()[:600])
    pictures = read_pictures(data, [0, 17], 20)
    assert pictures[0] is None
    assert pictures[1] is not None


def test_small_pictures_are_not_enlarged():
    picture = np.zeros((5, 7, 3), np.uint8)
    assert shrink(picture, 20) is picture
    assert shrink(np.zeros((1000, 3, 3), np.uint8), 20).shape[0] == 20


def test_encoded_pictures_keep_their_colours():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:] = (200, 100, 50)
    for data, tolerance in ((encode_png(picture), 0), (encode_jpeg(picture), 6)):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.abs(decoded.astype(int) - picture).max() <= tolerance


def test_the_sheet_has_a_row_for_each_class(packed: str):
    sheet = contact_sheet(DataSet(DataConfig(url=packed)).split("train", ""), columns=4, side=40)
    assert sheet.shape == (3 * 46, 180 + 4 * 46, 3)
    for row, channel in enumerate((1, 2, 0)):  # fields are green, harbors blue, roofs red
        shown = sheet[row * 46 + 10 : row * 46 + 30, 185:215].reshape(-1, 3).mean(0)
        assert shown.argmax() == channel
