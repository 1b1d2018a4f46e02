import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from rsdl.data.gpu.jpeg import Jpeg, read_jpeg

RANDOM = np.random.default_rng(5)
PICTURE = RANDOM.integers(0, 256, (37, 51, 3), dtype=np.uint8)


def encode(picture: np.ndarray = PICTURE, **options: str) -> bytes:
    return simplejpeg.encode_jpeg(picture, **({"colorspace": "RGB"} | options))


def encode_cv2(*options: int, picture: np.ndarray = PICTURE) -> bytes:
    return cv2.imencode(".jpg", picture, list(options))[1].tobytes()


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    sampling=st.sampled_from(["444", "422", "420", "440", "Gray"]),
    quality=st.integers(1, 100),
)
def test_a_plain_jpeg_has_the_size_that_turbojpeg_says(
    height: int, width: int, sampling: str, quality: int
):
    picture = RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = simplejpeg.encode_jpeg(picture, quality, "RGB", sampling)
    found = read_jpeg(data)
    bands = 1 if sampling == "Gray" else 3
    assert found == Jpeg(data, height, width, bands)
    pixels = simplejpeg.decode_jpeg(data, "GRAY" if bands == 1 else "RGB")
    assert pixels.shape == (height, width, bands) and found.num_bytes == pixels.nbytes


def test_grey_and_what_other_encoders_write_is_plain_too():
    grey = encode(np.ascontiguousarray(PICTURE[:, :, :1]), colorspace="GRAY")
    assert read_jpeg(grey) == Jpeg(grey, 37, 51, 1)
    for data in (encode_cv2(), encode_cv2(cv2.IMWRITE_JPEG_RST_INTERVAL, 2)):
        assert read_jpeg(data) == Jpeg(data, 37, 51, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_cv2(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encode_cv2(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        cv2.imencode(".png", PICTURE)[1].tobytes(),
        encode() + b"\0",
        encode() + encode(),
        encode()[:-1],
        encode()[:-2],
    ],
    ids=["empty", "progressive", "411", "png", "behind", "two", "cut 1", "cut 2"],
)
def test_what_is_not_plain_or_not_whole_is_for_the_host(data: bytes):
    assert read_jpeg(data) is None


@given(length=st.integers(0, len(encode()) - 1), filling=st.sampled_from([b"", b"\0", b"\xff"]))
def test_no_truncated_jpeg_is_plain(length: int, filling: bytes):
    whole = encode()
    assert read_jpeg(whole[:length] + filling * (len(whole) - length)) is None


@given(data=st.binary(max_size=200))
def test_whatever_comes_is_no_error(data: bytes):
    assert read_jpeg(b"\xff\xd8" + data) is None


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def without_jfif(data: bytes) -> bytes:
    (length,) = struct.unpack(">H", data[4:6])
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + data[4 + length :]


ADOBE = b"Adobe\0\x64\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (without_jfif(encode()), True),
        (encode()[:2] + segment(0xE1, b"Exif\0\0 \xff\xd9 and more") + encode()[2:], True),
        (encode()[:2] + segment(0xEE, ADOBE + b"\1") + encode()[2:], True),
        (encode()[:2] + segment(0xEE, ADOBE + b"\0") + encode()[2:], False),  # RGB
        (encode()[:2] + segment(0xEE, ADOBE + b"\2") + encode()[2:], False),  # YCCK
        (encode()[:2] + segment(0xEE, b"other") + encode()[2:], True),
    ],
    ids=["bare", "exif", "adobe", "adobe rgb", "adobe ycck", "not adobe"],
)
def test_what_stands_before_the_frame_decides_on_colours(data: bytes, plain: bool):
    assert (read_jpeg(data) is not None) == plain
    if plain:  # and TurboJPEG agrees
        assert simplejpeg.decode_jpeg_header(data)[2] == "YCbCr"


@pytest.mark.parametrize(
    ("mark", "at", "value"),
    [
        (b"\xff\xc0", 4, 12),  # bits of a value
        (b"\xff\xc0", 11, 0x41),  # pixels of luminance a chroma sample
        (b"\xff\xc0", 14, 0x21),  # chroma that is not at the same scale
        (b"\xff\xc0", 17, 0x12),
        (b"\xff\xda", 4, 1),  # bands in the first scan
    ],
)
def test_frames_that_are_rare_are_left_to_the_host(mark: bytes, at: int, value: int):
    data = bytearray(encode())
    assert data[data.index(mark) + at] != value
    data[data.index(mark) + at] = value
    assert read_jpeg(bytes(data)) is None


def test_bands_called_rgb_are_left_to_the_host():
    bare = bytearray(without_jfif(encode()))
    frame = bare.index(b"\xff\xc0")
    for band, name in enumerate(b"RGB"):
        bare[frame + 10 + 3 * band] = name
    scan = bare.index(b"\xff\xda")
    for band, name in enumerate(b"RGB"):
        bare[scan + 5 + 2 * band] = name
    assert simplejpeg.decode_jpeg_header(bytes(bare))[2] == "RGB"
    assert read_jpeg(bytes(bare)) is None
