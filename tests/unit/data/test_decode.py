import io
import pickle
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional

from rsdl.core.errors import CorruptSampleError
from rsdl.data.decode import (
    DecodeRule,
    decode_image,
    decode_padded,
    decode_sample,
    image_size,
    shrunk_size,
)
from rsdl.data.kinds import check_kind, sniff
from rsdl.data.resize import resize_into

RANDOM = np.random.default_rng(5)


def scene(height: int, width: int, bands: int = 3) -> NDArray[np.uint8]:
    """Return something like imagery: smooth fields, edges and a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    base = 127 + 60 * np.sin(x / 9) + 40 * (y > height / 2)
    noise = RANDOM.normal(0, 4, (height, width, bands))
    shifts = np.arange(bands) * 5
    return np.clip(base[:, :, None] + shifts + noise, 0, 255).astype(np.uint8)


def as_png(pixels: NDArray[Any]) -> bytes:
    order = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] > 1 else pixels
    if pixels.shape[2] == 3:
        order = pixels[:, :, ::-1]
    return bytes(cv2.imencode(".png", order)[1].tobytes())


def as_npy(pixels: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


def as_tiff(pixels: NDArray[Any]) -> bytes:
    height, width, count = pixels.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=height, width=width, count=count, dtype=pixels.dtype
        ) as target:
            target.write(np.moveaxis(pixels, 2, 0))
        return bytes(memory.read())


JPEG = simplejpeg.encode_jpeg(scene(40, 48))
GREY_JPEG = simplejpeg.encode_jpeg(scene(40, 48, 1), colorspace="GRAY")
PNG = as_png(scene(40, 48))
TIFF = as_tiff(scene(40, 48))
NPY = as_npy(scene(40, 48))


@pytest.mark.parametrize("quality", [60, 95])
def test_jpeg_is_decoded_as_pillow_decodes_it(quality: int):
    data = simplejpeg.encode_jpeg(scene(61, 83), quality=quality)
    expected = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(decode_image(data, "jpg", "x").astype(int) - expected).max() <= 3


@pytest.mark.parametrize("buffer_bytes", [0, 100, 1 << 20])
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_four_bands_are_the_three_and_one_more(subsampling: str, buffer_bytes: int):
    for side in (1, 7, 16, 61):
        data = simplejpeg.encode_jpeg(scene(side, side + 3), colorsubsampling=subsampling)
        padded = decode_padded(data, "x", np.empty(buffer_bytes, np.uint8))
        assert padded.flags.c_contiguous
        assert padded.shape == (side, side + 3, 4)
        assert np.array_equal(padded[:, :, :3], decode_image(data, "jpg", "x", 3))


def test_four_bands_are_the_three_of_a_print_too():
    stream = io.BytesIO()
    Image.fromarray(scene(20, 30, 4), "CMYK").save(stream, "jpeg")
    padded = decode_padded(stream.getvalue(), "x", np.empty(0, np.uint8))
    assert np.array_equal(padded[:, :, :3], decode_image(stream.getvalue(), "jpg", "x", 3))


def test_four_bands_are_refused_where_three_are():
    for data in (JPEG[:-200], JPEG[:30], b"", PNG):
        messages = []
        for decode in (
            lambda data: decode_padded(data, "x.jpg", np.empty(0, np.uint8)),
            lambda data: decode_image(data, "jpg", "x.jpg", 3),
        ):
            with pytest.raises(CorruptSampleError) as caught:
                decode(data)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


@given(
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    bands=st.integers(1, 13),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_lossless_kinds_give_back_the_pixels(dtype: str, bands: int, height: int, width: int):
    pixels = (RANDOM.random((height, width, bands)) * 1000).astype(dtype)
    kinds = [("npy", as_npy(pixels)), ("tif", as_tiff(pixels))]
    if bands in (1, 3, 4) and dtype != "float32":
        kinds.append(("png", as_png(pixels)))
    for kind, data in kinds:
        for wanted in (None, bands):
            decoded = decode_image(data, kind, "x", wanted)
            assert np.array_equal(decoded, pixels), kind
            assert decoded.dtype == pixels.dtype
            assert decoded.flags.c_contiguous


@pytest.mark.parametrize(("kind", "data"), [("jpg", GREY_JPEG), ("png", as_png(scene(9, 9, 1)))])
def test_grey_becomes_three_equal_bands_where_three_are_wanted(kind: str, data: bytes):
    assert decode_image(data, kind, "x").shape[2] == 1
    assert decode_image(data, kind, "x", 1).shape[2] == 1
    three = decode_image(data, kind, "x", 3)
    assert three.shape[2] == 3
    assert (three == three[:, :, :1]).all()


@pytest.mark.parametrize(("kind", "data"), [("jpg", JPEG), ("png", PNG), ("tif", TIFF)])
def test_colour_does_not_quietly_become_grey(kind: str, data: bytes):
    with pytest.raises(CorruptSampleError, match="has 3 bands, the data set has 1"):
        decode_image(data, kind, "x", 1)


@pytest.mark.parametrize("array", [np.asfortranarray, lambda a: a[:, ::-1], lambda a: a.T.copy().T])
def test_any_memory_order_of_an_npy_is_read(array: Any):  # noqa: ANN401
    pixels = array(np.arange(60, dtype=np.uint16).reshape(4, 5, 3))
    decoded = decode_image(as_npy(pixels), "npy", "x")
    assert np.array_equal(decoded, pixels)
    assert decoded.flags.c_contiguous


def test_big_endian_npy_becomes_native_and_flat_npy_gets_a_band():
    pixels = np.arange(20, dtype=">u2").reshape(4, 5)
    decoded = decode_image(as_npy(pixels), "npy", "x", 1)
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded[:, :, 0], pixels)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was executed",))


def object_npy() -> bytes:
    stream = io.BytesIO()
    array = np.empty((1, 1, 1), dtype=object)
    array[0, 0, 0] = Bomb()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "problem"),
    [
        ("jpg", b"", "is empty (0 bytes); remove or replace the file"),
        ("png", b"", "is empty (0 bytes)"),
        ("tif", b"", "is empty (0 bytes)"),
        ("npy", b"", "is empty (0 bytes)"),
        ("jpg", PNG, "is named as a JPEG but holds a PNG; rename it"),
        ("png", JPEG, "is named as a PNG but holds a JPEG; rename it"),
        ("tif", JPEG, "is named as a TIFF but holds a JPEG; rename it"),
        ("npy", JPEG, "is named as a NumPy array but holds a JPEG; rename it"),
        ("jpg", b"<html>not found</html>", "holds no image that rsdl reads; remove or replace"),
        ("jpg", JPEG[:-200], "cannot be decoded as JPEG"),
        ("jpg", JPEG[:20], "cannot be decoded as JPEG"),
        ("png", PNG[:-200], "cannot be decoded as PNG: truncated"),
        ("tif", TIFF[:-200], "cannot be decoded as TIFF"),
        ("npy", NPY[:-1], "cannot be decoded as NumPy array: truncated"),
        ("npy", NPY[:30], "cannot be decoded as NumPy array"),
        ("npy", object_npy(), "cannot be decoded as NumPy array: an array of objects"),
        ("npy", b"\x93NUMPY" + pickle.dumps(Bomb()), "cannot be decoded as NumPy array"),
        ("npy", as_npy(np.zeros((2, 2, 2, 2))), "has shape (2, 2, 2, 2), expected [H, W, C]"),
        ("npy", as_npy(np.zeros((0, 4, 3))), "has shape (0, 4, 3), expected [H, W, C]"),
        ("npy", as_npy(np.zeros((4, 4, 5))), "has 5 bands, the data set has 3"),
        ("tif", as_tiff(scene(4, 4, 4)), "has 4 bands, the data set has 3"),
        ("png", as_png(scene(4, 4, 4)), "has 4 bands, the data set has 3"),
    ],
)
def test_bad_input_is_one_line_that_names_the_sample(kind: str, data: bytes, problem: str):
    with pytest.raises(CorruptSampleError) as caught:
        decode_image(data, kind, "shard:key", 3)
    assert str(caught.value).startswith("shard:key: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=200), kind=st.sampled_from(["jpg", "png", "tif", "npy"]))
def test_no_bytes_lead_to_another_error(data: bytes, kind: str):
    starts = {"jpg": b"\xff\xd8\xff", "png": b"", "tif": b"II*\0", "npy": b"\x93NUMPY\1\0"}
    for content in (data, starts[kind] + data):
        with pytest.raises(CorruptSampleError):
            decode_image(content, kind, "x", 3)


def test_kinds_are_told_by_their_first_bytes():
    for kind, data in (("jpg", JPEG), ("png", PNG), ("tif", TIFF), ("npy", NPY)):
        assert sniff(data) == kind
        check_kind(data, kind, "x")
    assert sniff(b"") is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    "size", [(300, 300), (180, 240), (224, 300), (300, 150), (120, 100), (400, 130), (7, 5)]
)
def test_resizing_agrees_with_torchvision(size: tuple[int, int], dtype: str):
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    pixels = (scene(*size) * np.float64(scale)).astype(dtype)
    out = np.zeros((160, 160, 3), dtype)

    resize_into(pixels, out)

    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
    expected = functional.resize(tensor, [160, 160], antialias=True).permute(1, 2, 0).numpy()
    difference = np.abs(out - expected) / scale
    assert difference.mean() < 1.5
    assert difference.max() < 16


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), bands=st.integers(1, 13), data=st.data()
)
def test_resizing_fills_all_bands_and_invents_nothing(
    height: int, width: int, bands: int, data: st.DataObject
):
    values = RANDOM.integers(1, 255, bands).astype(np.uint8)
    pixels = np.broadcast_to(values, (height + 4, width + 4, bands))[2:-2, 2:-2]
    out = np.zeros((data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)), bands), np.uint8)

    resize_into(np.ascontiguousarray(pixels), out)

    assert (out == values).all()


def test_bands_are_resized_as_if_alone():
    pixels = scene(50, 60, 13)
    out = np.zeros((20, 20, 13), np.uint8)
    resize_into(pixels[3:, 2:40], out)
    for band in range(13):
        alone = np.zeros((20, 20, 1), np.uint8)
        resize_into(pixels[3:, 2:40, band : band + 1], alone)
        assert np.array_equal(out[:, :, band], alone[:, :, 0])


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), shorter=st.integers(8, 512))
def test_shrinking_keeps_the_shape_and_never_enlarges(height: int, width: int, shorter: int):
    small = shrunk_size(height, width, shorter)
    if min(height, width) <= shorter:
        assert small == (height, width)
    else:
        assert min(small) == shorter
        assert abs(small[0] / small[1] - height / width) <= height / width / shorter
    assert shrunk_size(height, width, None) == (height, width)


@pytest.mark.parametrize(
    ("kind", "data"), [("jpg", JPEG), ("png", PNG), ("tif", TIFF), ("npy", NPY)]
)
@pytest.mark.parametrize("shorter", [None, 20, 100])
def test_a_sample_is_shrunk_as_any_image_is_resized(kind: str, data: bytes, shorter: int | None):
    rule = DecodeRule(3, "uint8", shorter)
    whole = decode_image(data, kind, "x", 3)
    wanted = np.empty((20, 24, 3) if shorter == 20 else whole.shape, np.uint8)
    resize_into(whole, wanted)

    assert image_size(data, kind, rule) == wanted.shape[:2]
    for buffer in (None, np.empty(0, np.uint8), np.full(100_000, 7, np.uint8)):
        assert np.array_equal(decode_sample(data, kind, rule, buffer), wanted)


@pytest.mark.parametrize("data", [b"", PNG, JPEG[:20]])
def test_a_header_that_is_none_is_a_corrupt_sample(data: bytes):
    with pytest.raises(CorruptSampleError):
        image_size(data, "jpg", DecodeRule(3, "uint8"))
