"""What is packed of an image that has its own mask or objects: the whole of it, or tiles."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.image_layout import Layout
from rsdl.data.sources.listing import ImageFile
from rsdl.raster.georef import shift
from rsdl.raster.headers import UPRIGHT, jpeg_header
from rsdl.raster.picture import Picture


class Part(NamedTuple):
    """An image, or the tile of it whose corner lies at a row and column."""

    file: ImageFile
    row: int = 0
    col: int = 0


class Decoded(NamedTuple):
    """A decoded image; ``valid`` as in :class:`rsdl.data.sample.Sample`."""

    kind: str
    data: bytes
    picture: Picture
    valid: NDArray[np.bool_] | None


def read_decoded(root: Path, file: ImageFile, layout: Layout, labels: str) -> Decoded:
    """Return an image whose labels are in files of their own.

    Args:
        root: The folder of the listing.
        file: The image.
        layout: What all images have in common.
        labels: What it has, and whether that is turned, for errors, as ``its mask is not``.

    Raises:
        CorruptSampleError: If it cannot be read, or is turned by its Exif orientation.
    """
    where = str(root / file.path)
    data, kind = read_image(where, file.size)
    if kind == "jpg" and jpeg_header(data).orientation != UPRIGHT:
        problem = f"is turned by its Exif orientation, and {labels}"
        raise CorruptSampleError(where, problem, "save it upright")
    return Decoded(kind, data, *layout.read(data, kind, where))


def cut_picture(
    picture: Picture, valid: NDArray[np.bool_] | None, part: Part, tile: int
) -> tuple[Picture, NDArray[np.bool_] | None]:
    """Return a tile of an image, padded with 0 where the image ends, and where it has data.

    Args:
        picture: The image.
        valid: Where it has data, ``[H, W]``; ``None``: everywhere.
        part: Which tile.
        tile: Its side in pixels.
    """
    rows, cols = slice(part.row, part.row + tile), slice(part.col, part.col + tile)
    pixels = picture.pixels[rows, cols]
    valid = None if valid is None else valid[rows, cols]
    height, width = pixels.shape[:2]
    if (height, width) != (tile, tile):
        missing = (0, tile - height), (0, tile - width)
        valid = np.pad(np.ones((height, width), bool) if valid is None else valid, missing)
        pixels = np.pad(pixels, (*missing, (0, 0)))
    profile = picture.profile
    if profile:
        profile = profile | {"transform": shift(profile["transform"], part.row, part.col)}
    return picture._replace(pixels=np.ascontiguousarray(pixels), profile=profile), valid
