"""Class-per-folder datasets: the layout of most published scene classification datasets.

Images are stored unchanged, so their sizes may differ; they must agree in type and bands. The split
is drawn within each class. Split and order depend only on the seed and the relative paths: a file
added to one class moves no sample of another.
"""

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from rsdl.core.pixels import Pixels
from rsdl.data.decode import decode_padded, jpeg_bands
from rsdl.data.packing.encode import encode_picture
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.image_layout import describe_rules, georeference, probe_layout
from rsdl.data.sources.listing import ImageFile, list_tree
from rsdl.data.sources.split_files import SplitFile
from rsdl.data.sources.splits import assign_splits, check_fractions, deal, order_splits
from rsdl.raster.headers import UPRIGHT, JpegHeader, jpeg_header
from rsdl.raster.picture import PLAIN, PictureRules

FRACTIONS = (0.8, 0.1, 0.1)
# Most images that "sample" decodes, each class by its share. The error of their mean is a 16th of
# the spread between images of a class.
SAMPLE = 256
JPEG_END = b"\xff\xd9"
PLAIN_JPEGS = {JpegHeader(UPRIGHT, 8, 1), JpegHeader(UPRIGHT, 8, 3)}

# Images without georeferencing are normal here. The filter is set once and not around each read,
# because catch_warnings replaces a list that all threads share.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

log = logging.getLogger(__name__)


class _Memory(threading.local):
    """Decode buffer of each thread; a new allocation per image costs a tenth of the decoding."""

    def __init__(self) -> None:
        self.buffer: Pixels = np.empty(0, np.uint8)


class FolderSource:
    """A tree ``CLASS/**/image`` or ``SPLIT/CLASS/**/image``, as a source for the packer.

    Args:
        root: The folder; see :func:`rsdl.data.sources.listing.list_tree`.
        fractions: Shares of train, val and test, used if the tree has no split folders.
        seed: Seed of the split and of the order within each split.
        name: Name of the dataset; ``None`` takes the folder's.
        bands: Band names, which every image must then have; ``None`` reads them from the first
            image that decodes.
        provenance: Additional provenance entries.
        decode: ``all`` decodes every image, so no undecodable image is packed, and statistics are
            exact. ``sample`` decodes at most 256 JPEGs of train, each class by its share; of the
            other JPEGs only header and end are checked.
        rules: The user's options for the images.
        group_by: See :func:`rsdl.data.sources.splits.assign_splits`.
        lists: Lists of the images of each split, instead of a draw by ``fractions``.

    Raises:
        ConfigError: If ``fractions`` are not three shares that add up to 1, or ``group_by`` does
            not match every path.
        DataError: If the tree has another layout or no image decodes.
    """

    def __init__(
        self,
        root: Path,
        *,
        fractions: tuple[float, float, float] = FRACTIONS,
        seed: int = 0,
        name: str | None = None,
        bands: tuple[str, ...] | None = None,
        provenance: dict[str, Any] | None = None,
        decode: Literal["all", "sample"] = "all",
        rules: PictureRules = PLAIN,
        group_by: str | None = None,
        lists: Mapping[str, SplitFile] | None = None,
    ) -> None:
        check_fractions(fractions)
        tree = list_tree(root)
        self._prefix = os.path.join(tree.root, "")
        files, rule = assign_splits(tree, fractions, seed, group_by, lists)
        self._splits = order_splits(files, seed)
        self.dataset = name or root.resolve().name
        self.target = "class_index"
        self.classes = tree.classes
        self.left_out = tree.left_out
        self.num_images = len(tree.files)
        self._layout = probe_layout(tree.root, tree.files, bands, rules)
        self.dtype, self.bands = self._layout.dtype, self._layout.bands
        # With default rules, an upright JPEG is stored unchanged.
        self._plain = rules == PLAIN
        self._memory = _Memory()
        self.provenance: dict[str, Any] = {
            "source": self.dataset,
            "layout": "class folders",
            "listing_sha256": _digest(tree.files),
            **rule,
            **({"decoded": decode} if decode == "sample" else {}),
            **describe_rules(rules),
            **(provenance or {}),
        }
        self._decoded = _choose(files) if decode == "sample" else None

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        """Return plans that divide each split evenly into shards of about ``shard_bytes``."""
        return [
            ShardPlan(split, items, _stamp(items))
            for split, files in self._splits.items()
            for items in deal(files, shard_bytes)
        ]

    def read(self, item: ImageFile) -> Sample:
        """Read one image, validate it and fill its nodata.

        Raises:
            CorruptSampleError: If it cannot be read or decoded, has only nodata, or its type or
                bands differ from the dataset's.
        """
        where = self._prefix + item.path
        data, kind = read_image(where, item.size)
        meta: dict[str, Any] = {"class": self.classes[item.label], "source": item.path}
        if self._may_pass(item, data, kind):
            return Sample(item.key, kind, data, item.label, meta, None, group=item.group)
        if kind == "jpg" and (pixels := self._decode_plain(data, where)) is not None:
            return Sample(item.key, kind, data, item.label, meta, pixels, group=item.group)
        picture, valid = self._layout.read(data, kind, where)
        if picture.changed or valid is not None:
            kind, data = encode_picture(picture, kind)
        meta |= georeference(picture)
        return Sample(item.key, kind, data, item.label, meta, picture.pixels, valid, item.group)

    def _may_pass(self, item: ImageFile, data: bytes, extension: str) -> bool:
        """Return whether an image need not be decoded: a JPEG with a valid header and end."""
        if self._decoded is None or item.path in self._decoded or extension != "jpg":
            return False
        bands = jpeg_bands(data)
        agrees = bands == len(self.bands) or (bands == 1 and self._layout.is_colour)
        plain = self._plain and self.dtype == "uint8" and data.endswith(JPEG_END)
        return agrees and plain and jpeg_header(data)[:2] == (UPRIGHT, 8)

    def _decode_plain(self, data: bytes, where: str) -> Pixels | None:
        """Return the pixels of an upright JPEG of a colour dataset, or ``None`` for other images.

        Such a JPEG is stored unchanged, and has no nodata pixels. Any other, also one that is to be
        rejected, goes through ``read_picture``.
        """
        if not self._layout.is_colour or not self._plain or jpeg_header(data) not in PLAIN_JPEGS:
            return None
        pixels = decode_padded(data, where, self._memory.buffer)
        if pixels.nbytes > self._memory.buffer.nbytes:
            self._memory.buffer = pixels.reshape(-1)
        return pixels


def _choose(files: Iterable[ImageFile]) -> frozenset[str]:
    """Return the paths of a subset of the train images, each class by its share."""
    train = [file.path for file in files if file.split == "train"]
    return frozenset(train[:: -(-len(train) // SAMPLE) or 1])


def _stamp(files: Iterable[ImageFile]) -> str:
    lines = "".join(f"{file.path}\t{file.modified_ns}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(files: Iterable[ImageFile]) -> str:
    lines = "".join(f"{file.path}\t{file.size}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()
