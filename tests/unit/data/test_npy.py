"""Headers of ``npy`` files are read as NumPy reads them, but not as Python source."""

import io
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from rsdl.data.decode import decode_image
from rsdl.data.npy import read_npy, read_npy_header

RECORD = np.dtype(
    [("key", "S12"), ("offset", "<i8"), ("counts", "<u4", (6,)), ("box", "<f4", (2, 2))]
)


HUGE = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**20},), }}"


def header(text: str) -> bytes:
    """Return a file that is nothing but a header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def saved(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["|u1", "|b1", "<u2", ">i4", "<f4", "<f8", "|S3", "<U2", RECORD])
@pytest.mark.parametrize("shape", [(), (5,), (0,), (4, 3), (3, 4, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_read_as_numpy_reads_it(
    dtype: str, shape: tuple[int, ...], order: Literal["C", "F"]
):
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    content = (np.arange(count) % 2).astype(np.uint8).tobytes()
    data = saved(np.frombuffer(content, dtype).reshape(shape, order=order))

    ours, theirs = read_npy(data), np.load(io.BytesIO(data))

    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert ours.tobytes() == theirs.tobytes()


def test_a_long_header_of_version_2_is_read():
    dtype = np.dtype([(f"{number:03}" + "x" * 400, "<f4") for number in range(200)])
    array = np.ones(3, dtype)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))

    assert stream.getvalue()[6] == 2
    assert (read_npy(stream.getvalue()) == array).all()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: b"", "not a NumPy array"),
        (lambda data: b"\x89PNG" + data[4:], "not a NumPy array"),
        (lambda data: data[:6] + b"\x09" + data[7:], "not a NumPy array"),
        (lambda data: data[:40], "header is damaged"),
        (lambda data: data.replace(b"'shape'", b"'shade'"), "header is damaged"),
        (lambda data: data.replace(b"(4, 3)", b"(4,-3)"), "header is damaged"),
        (lambda data: data.replace(b"(4, 3)", b"(4,.3)"), "header is damaged"),
        (lambda data: data.replace(b"(4, 3)", b"[[[[[["), "header is damaged"),
        (lambda data: data.replace(b"'<u2'", b"'<q2'"), "header is damaged"),
        (lambda data: data.replace(b"'<u2'", b"',,,'"), "header is damaged"),
        (lambda data: header("[" * 60_000), "header is damaged"),
        (lambda data: header(HUGE), "header is damaged"),
        (lambda data: data.replace(b"False", b"0.000"), "header is damaged"),
        (lambda data: data.replace(b"(4, 3)", b"(4, 9)"), "truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: data.replace(b"'<u2'", b"'|O' "), "an array of objects"),
    ],
)
def test_a_damaged_file_is_refused(change: Callable[[bytes], bytes], problem: str):
    data = change(saved(np.zeros((4, 3), np.uint16)))

    with pytest.raises(ValueError, match=problem):
        read_npy(data)


def test_a_pickle_is_not_opened():
    with pytest.raises(ValueError, match="an array of objects"):
        read_npy_header(saved(np.array([print, None])))


def test_no_header_is_parsed_as_python(monkeypatch: pytest.MonkeyPatch):
    data = saved(np.zeros((4, 3, 2), np.uint8))

    def refuse(*_: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr("ast.literal_eval", refuse)

    with pytest.raises(SystemError, match="recursion depth"):  # as NumPy does it
        np.load(io.BytesIO(data))
    assert read_npy(data).shape == (4, 3, 2)
    assert decode_image(data, "npy", "image").shape == (4, 3, 2)
