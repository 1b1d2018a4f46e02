"""Encode pixels as images, losslessly."""

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.raster.picture import Picture


def encode_picture(picture: Picture, kind: str) -> tuple[str, bytes]:
    """Return extension and bytes of an image whose pixels differ from its file.

    Args:
        picture: The image to encode.
        kind: Format of the original file. An array stays an array; a raster becomes a TIFF with its
            georeferencing; others become a PNG, or a TIFF if PNG cannot hold their bands.
    """
    pixels = picture.pixels
    if kind == "npy":
        return "npy", encode_npy(pixels)
    if kind not in ("tif", "jp2") and pixels.dtype.kind == "u" and pixels.shape[2] in (1, 3, 4):
        return "png", encode_png(pixels)
    names = picture.table.names if picture.table is not None else (None,) * pixels.shape[2]
    return "tif", encode_tif(pixels, names, picture.profile or {})


def encode_npy(pixels: NDArray[Any]) -> bytes:
    """Return C-contiguous pixels as a ``.npy`` file."""
    return b"".join([_npy_header(pixels.shape, pixels.dtype), pixels.data])


@lru_cache(maxsize=16)
def _npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def encode_png(pixels: NDArray[Any]) -> bytes:
    """Return integer pixels ``[H, W, 1 | 3 | 4]`` as a PNG."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2], [0])
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels[:, :, order]))
    assert done
    return data.tobytes()


def encode_tif(pixels: NDArray[Any], names: Sequence[str | None], profile: dict[str, Any]) -> bytes:
    """Return pixels ``[H, W, C]`` as a deflated GeoTIFF.

    Args:
        pixels: The pixels to encode.
        names: Description of each band.
        profile: ``crs`` and ``transform``, if it is georeferenced.
    """
    height, width, bands = pixels.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=bands,
            dtype=pixels.dtype,
            compress="deflate",
            predictor=3 if pixels.dtype.kind == "f" else 2,
            interleave="pixel",
            # Set explicitly: by default GDAL tags the fourth of four 8-bit bands as alpha.
            photometric="RGB" if bands == 3 and pixels.dtype == np.uint8 else "MINISBLACK",
            **profile,
        ) as target:
            # [H, W, C] -> [C, H, W]
            target.write(np.moveaxis(pixels, 2, 0))
            target.descriptions = tuple(names)
        return bytes(memory.read())
