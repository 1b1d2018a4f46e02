"""Pairs of an image and a mask of its size, in two folders: most published segmentation sets.

Whole images are stored unchanged, or cut into tiles, which are stored without loss. Splits are
those of the folders, or drawn: by image, or by scene, so that tiles of one never straddle splits.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError, DataError
from rsdl.data.packing.encode import encode_picture
from rsdl.data.read_picture import read_picture
from rsdl.data.sample import SPLITS, Sample, ShardPlan
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.folder import FRACTIONS, describe_rules, georeference, probe_layout
from rsdl.data.sources.listing import SPLIT_NAMES, ImageFile, list_images
from rsdl.data.sources.mask_values import MaskValues, read_values
from rsdl.data.sources.splits import assign_splits, check_fractions, deal, order_splits
from rsdl.data.targets.mask import IGNORE
from rsdl.raster.gate import admit
from rsdl.raster.georef import shift
from rsdl.raster.picture import PLAIN, Picture, PictureRules
from rsdl.raster.tiles import tile_corners

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
