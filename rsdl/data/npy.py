"""Read the header of NumPy's ``npy`` files, in any thread.

NumPy itself parses the header as Python source, and CPython's parser is not thread-safe in 3.11 and
3.12 (python/cpython#106905): of two threads in it, one may fail with "AST constructor recursion
depth mismatch", and a good sample would be called corrupt. A header is nearly JSON, so ``json``
reads it.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = b"\x93NUMPY"
MOST_HEADER_BYTES = 1 << 16  # to read from a file to hold the header of any array of ours
MOST_ELEMENTS = 1 << 48  # that anything could hold

_TO_JSON = str.maketrans("'()", '"[]')
_LAST_COMMA = re.compile(r",\s*(?=[\]}])")
_CONSTANTS = {"False": "false", "True": "true"}


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What the header of a file says.

    Attributes:
        dtype: Type of the elements.
        fortran_order: Whether the first axis varies fastest.
        shape: Shape of the array.
        offset: Byte at which the elements start.
    """

    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]
    offset: int


def read_npy_header(data: bytes) -> NpyHeader:
    """Read the header.

    Args:
        data: The file, or its first ``MOST_HEADER_BYTES``.

    Raises:
        ValueError: If it is not one, or the elements are Python objects.
    """
    if data[:6] != MAGIC or len(data) < 12 or data[6] not in (1, 2, 3):
        raise ValueError("not a NumPy array")
    start = 10 if data[6] == 1 else 12
    offset = start + int.from_bytes(data[8:start], "little")
    text = data[start:offset].decode("latin-1" if data[6] < 3 else "utf-8")
    for python, constant in _CONSTANTS.items():
        text = text.replace(python, constant)
    try:
        found = json.loads(_LAST_COMMA.sub("", text.translate(_TO_JSON)))
        dtype = np.dtype(_to_descr(found["descr"]))
        fortran_order, shape = found["fortran_order"], tuple(found["shape"])
    # NumPy reads a type of commas as Python source, too.
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError) as error:
        raise ValueError(f"header is damaged: {text[:80].strip()!r}") from error
    if dtype.hasobject:
        raise ValueError("an array of objects")
    sized = all(type(n) is int and n >= 0 for n in shape)
    if type(fortran_order) is not bool or not sized or math.prod(shape) > MOST_ELEMENTS:
        raise ValueError(f"header is damaged: {text[:80].strip()!r}")
    return NpyHeader(dtype, fortran_order, shape, offset)


def read_npy(data: bytes) -> np.ndarray[Any, Any]:
    """Return the array of a file; it shares the memory of ``data`` and cannot be written to.

    Raises:
        ValueError: If it is not one, is truncated, or the elements are Python objects.
    """
    header = read_npy_header(data)
    count = math.prod(header.shape)
    if len(data) - header.offset < count * header.dtype.itemsize:
        raise ValueError("truncated")
    flat = np.frombuffer(data, header.dtype, count=count, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def _to_descr(found: Any) -> Any:  # noqa: ANN401
    """Return the type as NumPy takes it: each field a tuple, its shape a tuple."""
    if isinstance(found, str):
        return found
    return [(name, _to_descr(kind), *map(tuple, shape)) for name, kind, *shape in found]
