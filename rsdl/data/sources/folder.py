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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.pixels import Dtype, Pixels
from rsdl.data.decode import decode_padded, jpeg_bands
from rsdl.data.packing.encode import encode_picture
from rsdl.data.read_picture import read_picture
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.listing import ImageFile, list_tree
from rsdl.data.sources.split_files import SplitFile
from rsdl.data.sources.splits import assign_splits, check_fractions, deal, order_splits
from rsdl.raster.gate import BandAgreement, admit
from rsdl.raster.headers import UPRIGHT, JpegHeader, jpeg_header
from rsdl.raster.picture import PLAIN, Picture, PictureRules

FRACTIONS = (0.8, 0.1, 0.1)
RGB = ("red", "green", "blue")
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
        picture = self._layout.fit(
            read_picture(data, kind, where, self._layout.rules, where), kind, where
        )
        valid = admit(picture.pixels, picture.present, where, dark_zero=picture.dark_zero)
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


Found = tuple[Dtype, tuple[str, ...], PictureRules]


@dataclass(frozen=True, slots=True)
class Layout:
    """What every image of a data set has in common.

    Attributes:
        dtype: Type of the pixels.
        bands: Band names.
        rules: The user's options for the images.
    """

    dtype: Dtype
    bands: tuple[str, ...]
    rules: PictureRules
    agreement: BandAgreement

    @property
    def is_colour(self) -> bool:
        """Whether grey JPEGs and PNGs are taken, which lose nothing as three bands.

        They are common in colour datasets. A grey dataset converts nothing, because a colour image
        would lose its colour.
        """
        return self.dtype == "uint8" and len(self.bands) == 3

    def fit(self, picture: Picture, kind: str, where: str) -> Picture:
        """Return an image with the bands of the dataset, repeating a grey band; reject others.

        Raises:
            CorruptSampleError: If it has another type or number of bands.
            DataError: If its last band may be a mask, or its bands mean something else.
        """
        if self.is_colour and picture.pixels.shape[2] == 1 and kind not in ("tif", "npy"):
            picture = picture._replace(
                pixels=np.repeat(picture.pixels, 3, axis=2),
                present=None if picture.present is None else np.repeat(picture.present, 3, axis=2),
            )
        pixels = picture.pixels
        if self.rules.alpha == "auto" and pixels.shape[2] == len(self.bands) + 1 and kind != "npy":
            raise DataError(
                where,
                f"has {_bands(pixels.shape[2])}, the data set {len(self.bands)} and perhaps a mask",
                "pass --alpha band if the last one is imagery, or --alpha mask",
            )
        if pixels.shape[2] != len(self.bands) or pixels.dtype.name != self.dtype:
            raise CorruptSampleError(
                where,
                f"has {_bands(pixels.shape[2])} of {pixels.dtype.name}, "
                f"the data set has {_bands(len(self.bands))} of {self.dtype}",
                "convert or remove the file, or choose with --bands or --alpha",
            )
        self.agreement.check(picture.table, where)
        return picture


def probe_layout(
    root: Path, files: Sequence[ImageFile], wanted: tuple[str, ...] | None, rules: PictureRules
) -> Layout:
    """Return what the images of a folder have in common, from the first that decodes."""
    dtype, bands, settled = _probe(root, files, wanted, rules)
    agreement = BandAgreement(scaling=not settled.unscale, names=settled.bands is None)
    return Layout(dtype, bands, settled, agreement)


def _probe(
    root: Path, files: Sequence[ImageFile], wanted: tuple[str, ...] | None, rules: PictureRules
) -> Found:
    """Return type, bands and rules from the first image that decodes.

    A grey JPEG or PNG does not represent the others, so one image of each class is tried until one
    is not grey.
    """
    first_error: CorruptSampleError | None = None
    grey: Found | None = None
    asked: set[int] = set()
    for file in files:
        if file.label in asked:
            continue
        try:
            found = _describe(str(root / file.path), file.size, wanted, rules)
        except CorruptSampleError as error:
            first_error = first_error or error
            continue
        asked.add(file.label)
        if len(found[1]) > 1 or file.path.lower().endswith((".tif", ".tiff", ".npy", ".jp2")):
            return found
        grey = grey or found
    if grey is None:
        raise DataError(str(root), f"no image can be decoded; the first: {first_error}")
    return grey


def _describe(where: str, size: int, wanted: tuple[str, ...] | None, rules: PictureRules) -> Found:
    data, kind = read_image(where, size)
    picture = read_picture(data, kind, where, rules, where)
    dtype, count = picture.pixels.dtype.name, picture.pixels.shape[2]
    if count == 1 and kind in ("jpg", "png") and wanted is not None and len(wanted) == 3:
        count = 3
    if dtype not in get_args(Dtype):
        raise DataError(
            where,
            f"has type {dtype}; rsdl reads {', '.join(get_args(Dtype))}",
            "convert the images",
        )
    if wanted is not None and len(wanted) != count:
        raise DataError(
            where,
            f"has {_bands(count)}, expected {len(wanted)}: {', '.join(wanted)}",
            "use its data",
        )
    table = picture.table
    if wanted is None and table is not None:
        described = tuple(text for text in table.names if text)
        wanted = described if len(set(described)) == count else None
    if wanted is None and rules.bands is not None:
        wanted = rules.bands
    if wanted is None and count == 3 and dtype == "uint8":
        wanted = RGB
    names = wanted or tuple(f"band_{number}" for number in range(1, count + 1))
    kept: Dtype = next(known for known in get_args(Dtype) if known == dtype)
    return kept, names, _settle_alpha(data, kind, where, rules, count)


def _settle_alpha(
    data: bytes, kind: str, where: str, rules: PictureRules, count: int
) -> PictureRules:
    """Return rules that treat alpha as imagery if the first image's alpha band is imagery."""
    if rules.alpha != "auto" or kind in ("jpg", "npy") or rules.bands is not None:
        return rules
    masked = read_picture(data, kind, where, replace(rules, alpha="mask"))
    if masked.pixels.shape[2] == count:
        return rules
    log.warning(
        "%s: band %d is tagged as alpha but holds more than 0 and the highest value: taken as "
        "imagery; --alpha mask takes it for a mask",
        where,
        count,
    )
    return replace(rules, alpha="band")


def describe_rules(rules: PictureRules) -> dict[str, Any]:
    """Return the user's non-default options for images, for the provenance."""
    said = {name: value for name, value in asdict(rules).items() if value != getattr(PLAIN, name)}
    if rules.bands is not None:
        said["bands"] = list(rules.bands)
    return {"rules": said} if said else {}


def georeference(picture: Picture) -> dict[str, Any]:
    """Return the metadata of a georeferenced image: CRS, transform and bounds."""
    if not picture.profile:
        return {}
    height, width = picture.pixels.shape[:2]
    transform = picture.profile["transform"]
    return {
        "crs": picture.profile["crs"].to_string(),
        "transform": list(transform)[:6],
        "bounds": list(rasterio.transform.array_bounds(height, width, transform)),
    }


def _bands(count: int) -> str:
    return f"{count} band{'s' if count != 1 else ''}"


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
