"""Images with annotated objects, to shards: whole, or cut into tiles.

Objects keep their true corners in a tile, also where they leave it. Tiles of one image never
straddle splits. Whole images are stored unchanged; tiles without loss, those of small images padded
with 0 at the right and the bottom.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.image_size import show_size
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.packing.encode import encode_picture
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.sources.annotations import AnnotatedImages
from rsdl.data.sources.image_layout import describe_rules, georeference, probe_layout
from rsdl.data.sources.image_parts import Decoded, Part, cut_picture, read_decoded
from rsdl.data.sources.listing import ImageFile
from rsdl.data.sources.mask_pairs import image_size
from rsdl.data.sources.object_options import ObjectOptions
from rsdl.data.sources.object_tiles import (
    WholeImage,
    cut_objects,
    has_object,
    keeps_empty,
    object_tiles,
    prepare_cuts,
)
from rsdl.data.sources.splits import assign_splits, deal, order_splits
from rsdl.data.targets.corners import visible_shares
from rsdl.data.targets.objects import IGNORED, make_objects

WITHOUT_DATA = "tiles without data"


class _Last(threading.local):
    """The image that a thread read last: the tiles of an image follow each other."""

    path = ""
    image: Decoded | None = None


class ObjectSource:
    """Images with annotated objects, as a source for the packer.

    Args:
        images: The images and their objects.
        options: How they are cut and split.
        provenance: Additional provenance entries.

    Raises:
        ConfigError: If an option is out of its range.
        CorruptSampleError: If the size of an image that is to be cut cannot be read.
        DataError: If no object is left, or no image decodes.
    """

    def __init__(
        self,
        images: AnnotatedImages,
        options: ObjectOptions,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        options.check()
        self._options, self._sizes = options, images.sizes
        tree = images.tree
        self._root = tree.root
        self.classes = images.classes or _classes_of(images)
        self._objects = {
            path: (found.corners, _labels(found.names, self.classes), found.flags)
            for path, found in images.objects.items()
        }
        self._whole: dict[str, WholeImage] = {}
        files, rule = assign_splits(
            tree, options.fractions, options.seed, options.group_by, options.lists
        )
        self._splits = order_splits(files, options.seed)
        self._layout = probe_layout(tree.root, tree.files, options.bands, options.rules)
        self._last = _Last()
        self.dataset = options.name or tree.root.resolve().name
        self.target = "objects"
        self.dtype, self.bands = self._layout.dtype, self._layout.bands
        left_out: Counter[str] = Counter(tree.left_out)
        self.num_ignored = 0
        self._parts = {
            file.path: self._cut(file, left_out)
            for members in self._splits.values()
            for file in members
        }
        self.left_out = dict(sorted((+left_out).items()))
        self.provenance: dict[str, Any] = {
            "source": self.dataset,
            "layout": images.layout,
            "listing_sha256": self._digest(),
            **rule,
            "objects": {
                "tile": options.tile,
                "overlap": options.overlap if options.tile is not None else 0,
                "keep": options.visible.keep,
                "drop": options.visible.drop,
                "empty": options.empty_share,
                "only_cut": self.num_ignored,
            },
            **describe_rules(options.rules),
            **(provenance or {}),
        }
        groups = ["group"] if options.tile is not None or INDEX_COLUMNS in self.provenance else []
        self.provenance[INDEX_COLUMNS] = [*groups, "class_counts"]

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        """Return plans that divide the images, or their tiles, into shards of about that size."""
        plans = []
        for split, files in self._splits.items():
            for chosen in deal([file for file in files if self._parts[file.path]], shard_bytes):
                parts = [part for file in chosen for part in self._parts[file.path]]
                stamp = " ".join(str(file.modified_ns) for file in chosen)
                plans.append(ShardPlan(split, parts, hashlib.sha256(stamp.encode()).hexdigest()))
        return plans

    def read(self, item: Part) -> Sample | str:
        """Return an image or tile with its objects, or the reason to leave it out.

        Raises:
            CorruptSampleError: If the image cannot be read, or is not of its annotations' size.
        """
        file, tile = item.file, self._options.tile
        kind, data, picture, valid = self._read_image(file)
        meta: dict[str, Any] = {"source": file.path}
        if tile is not None:
            picture, valid = cut_picture(picture, valid, item, tile)
            meta |= {"row": item.row, "col": item.col}
            if valid is not None and not valid.any():
                return WITHOUT_DATA
        if tile is not None or picture.changed or valid is not None:
            kind, data = encode_picture(picture, kind)
        meta |= georeference(picture)
        whole = self._whole[file.path]
        size = self._size_of(whole.objects.size)
        target, _ = cut_objects(whole, (item.row, item.col), size, self._options.visible)
        group = file.group if tile is None else file.group or file.path
        key = self._key(item)
        return Sample(key, kind, data, target, meta, picture.pixels, valid, group)

    def _key(self, part: Part) -> str:
        if self._options.tile is None:
            return part.file.key
        return f"{part.file.key}_r{part.row:05d}_c{part.col:05d}"

    def _cut(self, file: ImageFile, left_out: Counter[str]) -> list[Part]:
        """Return what is packed of an image, and count the objects and tiles that are not."""
        options = self._options
        try:
            size = image_size(self._root / file.path)
        except CorruptSampleError:
            return [
                Part(file)
            ]  # reading it meets the same error, which --on-corrupt then decides on
        corners = [(0, 0)]
        if options.tile is not None:
            corners = object_tiles(*size, tile=options.tile, overlap=options.overlap)
        corners_of, labels, flags = self._objects[file.path]
        whole = prepare_cuts(make_objects(corners_of, labels, size, flags))
        self._whole[file.path], objects = whole, whole.objects
        least = np.full(
            len(objects.labels), 2, np.uint8
        )  # 0: an object somewhere, 1: cut, 2: unseen
        parts, word = [], "images" if options.tile is None else "tiles"
        for row, col in corners:
            part = Part(file, row, col)
            found, numbers = cut_objects(whole, (row, col), self._size_of(size), options.visible)
            ignored = (found.flags & IGNORED) != 0
            least[numbers] = np.minimum(least[numbers], ignored)
            if file.split == "train" and not (has_object(found) or self._keeps_empty(part)):
                left_out[f"{word} without objects (--empty)"] += 1
            else:
                parts.append(part)
        inside = visible_shares(objects.corners, *size) > 0
        least[(objects.flags & IGNORED) != 0] = 0
        left_out["objects outside of their image"] += int((~inside & (least == 2)).sum())
        left_out["objects of which less than --drop is seen"] += int((inside & (least == 2)).sum())
        self.num_ignored += int((least == 1).sum())
        return parts

    def _keeps_empty(self, part: Part) -> bool:
        share, seed = self._options.empty_share, self._options.seed
        return keeps_empty(share, seed, self._key(part))

    def _size_of(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of a sample of an image of that size."""
        tile = self._options.tile
        return size if tile is None else (tile, tile)

    def _read_image(self, file: ImageFile) -> Decoded:
        if self._last.path == file.path and self._last.image is not None:
            return self._last.image
        where, labels = str(self._root / file.path), "its annotations may not be"
        image = read_decoded(self._root, file, self._layout, labels)
        height, width = image.picture.pixels.shape[:2]
        whole = self._whole.get(file.path)
        if whole is None or whole.objects.size != (height, width):
            problem = "has no header that states its size, or another size"
            raise CorruptSampleError(where, problem, "convert it, such as to PNG or TIFF")
        if (said := self._sizes.get(file.path, (height, width))) != (height, width):
            problem = f"is {show_size((height, width))}, and its annotations say {show_size(said)}"
            raise CorruptSampleError(where, problem, "give the image that was annotated")
        self._last.path, self._last.image = file.path, image
        return image

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for files in self._splits.values():
            for file in sorted(files):
                corners, labels, flags = self._objects[file.path]
                digest.update(f"{file.path}\t{file.size}\t{len(labels)}\n".encode())
                digest.update(corners.tobytes() + labels.tobytes() + flags.tobytes())
        return digest.hexdigest()


def _classes_of(images: AnnotatedImages) -> tuple[str, ...]:
    """Return the classes that occur, sorted.

    Raises:
        DataError: If there are none.
    """
    names = {name for found in images.objects.values() for name in found.names}
    if not names:
        problem = "has no object, and its format lists no classes"
        raise DataError(str(images.tree.root), problem, "check the annotations, or pass --classes")
    return tuple(sorted(names))


def _labels(names: tuple[str, ...], classes: tuple[str, ...]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for name in names], np.int64)
