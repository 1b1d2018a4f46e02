"""Pairs of an image and a mask of its size, in two folders: most published segmentation sets.

Whole images are stored unchanged, or cut into tiles, which are stored without loss. Splits are
those of the folders, or drawn: by image, or by scene, so that tiles of one never straddle splits.
"""

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.data.sources.listing import ImageFile
from rsdl.raster.picture import Picture

# What masks are often named beside their images.
SUFFIXES = ("_mask", "_label", "_labels", "_gt", "_gtFine_labelIds")
UNLABELLED = "tiles without a label"


class Part(NamedTuple):
    """An image, or the tile of it at a row and column."""

    file: ImageFile
    row: int | None = None
    col: int | None = None
    size: int = 0
    path: str = ""


class _Last(threading.local):
    """The image that a thread read last, since its tiles follow each other."""

    path = ""
    content: tuple[Picture, NDArray[np.bool_] | None, NDArray[np.uint8], str, bytes] | None = None
