"""Class-per-folder data sets: the layout that most published scene classification comes in.

Images are stored as they came, so their sizes may differ; they must agree in type and bands. The
split is drawn inside each class, and both it and the order hang on nothing but the seed and the
relative paths: a file added to one class moves no sample of another.
"""

import hashlib
import os
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader, MemoryFile

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.decode import decode_image, decode_padded, jpeg_bands
from rsdl.data.manifest import Dtype
from rsdl.data.resize import Pixels
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.sources.encoded import read_image
from rsdl.data.sources.listing import ImageFile, list_tree
from rsdl.data.sources.splits import check_fractions, deal, draw_splits, order_splits

FRACTIONS = (0.8, 0.1, 0.1)
RGB = ("red", "green", "blue")
# Images that "sample" decodes at most, of each class its share: their mean is off by a 16th of the
# spread between images of a class.
SAMPLE = 256
JPEG_END = b"\xff\xd9"

# An image without a place is no mistake here. Once for all, and not around each reading:
# catch_warnings swaps a list that all threads share.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


class _Memory(threading.local):
    """What a thread decodes into: memory that is fresh each time costs a tenth of the decoding."""

    def __init__(self) -> None:
        self.buffer: Pixels = np.empty(0, np.uint8)


class FolderSource:
    """A tree ``CLASS/**/image`` or ``SPLIT/CLASS/**/image``, as a source for the packer.

    Args:
        root: The folder; see :func:`rsdl.data.sources.listing.list_tree`.
        fractions: Shares of train, val and test, used where the tree has no split folders.
        seed: Seed of the split and of the order within each split.
        name: Name of the data set; ``None`` takes the folder's.
        bands: Band names, which every image must then have; ``None`` reads them from the first
            image that decodes.
        provenance: What to say about the origin besides.
        decode: ``all`` decodes every image, so that none is packed that cannot be, and statistics
            are exact. ``sample`` decodes at most 256 JPEGs of train, of each class its share; of
            the others only the two ends are looked at.

    Raises:
        ConfigError: If ``fractions`` are not three shares that add up to 1.
        DataError: If the tree is not such a layout or no image decodes.
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
    ) -> None:
        check_fractions(fractions)
        tree = list_tree(root)
        self._prefix = os.path.join(root, "")
        # Class by class, and within one as drawn.
        files = tree.files if tree.has_splits else draw_splits(tree.files, fractions, seed)
        self._splits = order_splits(files, seed)
        self.dataset = name or root.resolve().name
        self.classes = tree.classes
        self.num_images = len(tree.files)
        self.dtype, self.bands = _probe(root, tree.files, bands)
        # Grey JPEGs and PNGs are common among colour ones and lose nothing as three bands; colour
        # would lose everything as one, so a grey data set takes no conversion.
        self._convert_to = 3 if self.dtype == "uint8" and len(self.bands) == 3 else None
        self._type = np.dtype(self.dtype)
        self._memory = _Memory()
        self.provenance: dict[str, Any] = {
            "source": self.dataset,
            "layout": "class folders",
            "listing_sha256": _digest(tree.files),
            "split_rule": "split folders" if tree.has_splits else "stratified by class",
            "seed": seed,
            **({} if tree.has_splits else {"fractions": list(fractions)}),
            **({"decoded": decode} if decode == "sample" else {}),
            **(provenance or {}),
        }
        self._decoded = _choose(files) if decode == "sample" else None

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        """Deal the images of all splits into shards of about ``shard_bytes`` each, evenly."""
        return [
            ShardPlan(split, items, _stamp(items))
            for split, files in self._splits.items()
            for items in deal(files, shard_bytes)
        ]

    def read(self, item: ImageFile) -> Sample:
        """Read and decode one image.

        Raises:
            CorruptSampleError: If it cannot be read or decoded, or has another type or other bands
                than the data set.
        """
        where = self._prefix + item.path
        data, extension = read_image(where, item.size)
        pixels = None
        if not self._may_pass(item, data, extension):
            pixels = self._decode(data, extension, where)
        meta: dict[str, Any] = {"class": self.classes[item.label], "source": item.path}
        valid = None
        if extension == "tif":
            with MemoryFile(data) as memory, memory.open(driver="GTiff") as scene:
                meta |= _georeference(scene)
                valid = _valid(scene)
        return Sample(item.key, extension, data, item.label, meta, pixels, valid)

    def _may_pass(self, item: ImageFile, data: bytes, extension: str) -> bool:
        """Return whether an image need not be decoded: a JPEG whose two ends are as they must."""
        if self._decoded is None or item.path in self._decoded or extension != "jpg":
            return False
        bands = jpeg_bands(data)
        agrees = bands == len(self.bands) or (bands == 1 and self._convert_to == 3)
        return agrees and self.dtype == "uint8" and data.endswith(JPEG_END)

    def _decode(self, data: bytes, extension: str, where: str) -> Pixels:
        if extension == "jpg" and self._convert_to == 3:
            pixels = decode_padded(data, where, self._memory.buffer)
            if pixels.nbytes > self._memory.buffer.nbytes:
                self._memory.buffer = pixels.reshape(-1)
            return pixels
        pixels = decode_image(data, extension, where, self._convert_to)
        if pixels.shape[2] != len(self.bands) or pixels.dtype != self._type:
            raise CorruptSampleError(
                where,
                f"has {_bands(pixels.shape[2])} of {pixels.dtype.name}, "
                f"the data set has {_bands(len(self.bands))} of {self.dtype}",
                "convert or remove the file",
            )
        return pixels


def _probe(
    root: Path, files: tuple[ImageFile, ...], wanted: tuple[str, ...] | None
) -> tuple[Dtype, tuple[str, ...]]:
    """Return type and bands of the first image that decodes.

    A grey JPEG or PNG says little about the others, so one image of each class is asked until
    one is not grey.
    """
    first_error: CorruptSampleError | None = None
    grey: tuple[Dtype, tuple[str, ...]] | None = None
    asked: set[int] = set()
    for file in files:
        if file.label in asked:
            continue
        try:
            found = _describe(str(root / file.path), file.size, wanted)
        except CorruptSampleError as error:
            first_error = first_error or error
            continue
        asked.add(file.label)
        if len(found[1]) > 1 or file.path.lower().endswith((".tif", ".tiff", ".npy")):
            return found
        grey = grey or found
    if grey is None:
        raise DataError(str(root), f"no image can be decoded; the first: {first_error}")
    return grey


def _describe(
    where: str, size: int, wanted: tuple[str, ...] | None
) -> tuple[Dtype, tuple[str, ...]]:
    data, extension = read_image(where, size)
    rgb_wanted = extension in ("jpg", "png") and wanted is not None and len(wanted) == 3
    pixels = decode_image(data, extension, where, 3 if rgb_wanted else None)
    dtype, count = pixels.dtype.name, pixels.shape[2]
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
    if wanted is None and extension == "tif":
        with MemoryFile(data) as memory, memory.open(driver="GTiff") as scene:
            described = tuple(text for text in scene.descriptions if text)
        wanted = described if len(set(described)) == count else None
    if wanted is None and count == 3 and dtype == "uint8":
        wanted = RGB
    names = wanted or tuple(f"band_{number}" for number in range(1, count + 1))
    kept: Dtype = next(known for known in get_args(Dtype) if known == dtype)
    return kept, names


def _georeference(scene: DatasetReader) -> dict[str, Any]:
    if scene.crs is None:
        return {}
    return {
        "crs": scene.crs.to_string(),
        "transform": list(scene.transform)[:6],
        "bounds": list(scene.bounds),
    }


def _valid(scene: DatasetReader) -> NDArray[np.bool_] | None:
    if scene.nodata is None:
        return None
    valid: NDArray[np.bool_] = scene.dataset_mask() > 0
    return None if valid.all() else valid


def _bands(count: int) -> str:
    return f"{count} band{'s' if count != 1 else ''}"


def _choose(files: Iterable[ImageFile]) -> frozenset[str]:
    """Return the paths of some images of train, of each class its share."""
    train = [file.path for file in files if file.split == "train"]
    return frozenset(train[:: -(-len(train) // SAMPLE) or 1])


def _stamp(files: Iterable[ImageFile]) -> str:
    lines = "".join(f"{file.path}\t{file.modified_ns}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest(files: Iterable[ImageFile]) -> str:
    lines = "".join(f"{file.path}\t{file.size}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()
