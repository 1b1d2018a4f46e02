"""Pairs of an image and a mask of its size, as in two folders, to shards.

Whole images are stored unchanged, or cut into tiles, which are stored without loss. Splits are
those of the folders, or drawn by image, or by scene (``group_by``): tiles of one image never
straddle splits.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, CorruptSampleError
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.packing.encode import encode_picture
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.sources.folder import FRACTIONS
from rsdl.data.sources.footprints import SUFFIX as FOOTPRINTS
from rsdl.data.sources.footprints import burn_footprints
from rsdl.data.sources.image_layout import describe_rules, georeference, probe_layout
from rsdl.data.sources.image_parts import Part, cut_picture, read_decoded
from rsdl.data.sources.listing import ImageFile
from rsdl.data.sources.mask_file import Values, check_place, read_mask
from rsdl.data.sources.mask_pairs import Pairs, image_size, pair_folders
from rsdl.data.sources.mask_values import MaskValues, find_colours, find_values
from rsdl.data.sources.split_files import SplitFile
from rsdl.data.sources.splits import assign_splits, check_fractions, deal, order_splits
from rsdl.data.targets.mask import IGNORE
from rsdl.raster.picture import PLAIN, Picture, PictureRules
from rsdl.raster.tiles import tile_corners

SMALLEST_TILE = 8
UNLABELLED = "tiles without a label"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """How images and masks are paired, cut and split.

    Attributes:
        classes: See :func:`rsdl.data.sources.mask_values.find_values`.
        colours: See :func:`rsdl.data.sources.mask_values.find_colours`; ``None`` for numbers.
        nearest_colour: Whether a colour that is not among ``colours`` counts as the nearest one.
        ignore: Values, or names of colours, that count for nothing.
        tile: Side of the tiles that images are cut into, in pixels; ``None`` keeps them whole.
        overlap: Pixels two neighbouring tiles share.
        keep_unlabelled: Whether images and tiles without a label are kept.
        fractions: Shares of train, val and test, used if there are no split folders.
        seed: Seed of the split and of the order within each split.
        group_by: See :func:`rsdl.data.sources.splits.assign_splits`.
        lists: Lists of the images of each split, instead of a draw by ``fractions``.
        name: Name of the dataset; ``None`` takes the folder's.
        bands: Band names, which every image must then have; ``None`` reads them from the images.
        rules: The user's options for the images.
    """

    classes: tuple[str, ...] | None = None
    colours: str | None = None
    nearest_colour: bool = False
    ignore: tuple[str, ...] = ()
    tile: int | None = None
    overlap: int = 0
    keep_unlabelled: bool = False
    fractions: tuple[float, float, float] = FRACTIONS
    seed: int = 0
    group_by: str | None = None
    lists: Mapping[str, SplitFile] | None = None
    name: str | None = None
    bands: tuple[str, ...] | None = None
    rules: PictureRules = PLAIN


class Pair(NamedTuple):
    """A decoded image with its mask; ``valid`` as in :class:`rsdl.data.sample.Sample`."""

    kind: str
    data: bytes
    picture: Picture
    valid: NDArray[np.bool_] | None
    mask: NDArray[np.uint8]


class _Last(threading.local):
    """The pair that a thread read last: the tiles of an image follow each other."""

    path = ""
    pair: Pair | None = None


class MaskSource:
    """Images with a mask each, as a source for the packer.

    Args:
        pairs: The images and their masks.
        options: How they are cut and split, and what the masks mean.
        provenance: Additional provenance entries.

    Raises:
        ConfigError: If an option is out of its range, or does not fit the masks.
        DataError: If no image decodes.
    """

    def __init__(
        self, pairs: Pairs, options: MaskOptions, provenance: Mapping[str, Any] | None = None
    ) -> None:
        check_fractions(options.fractions)
        check_tile(options.tile)
        if options.tile is not None and not 0 <= options.overlap < options.tile:
            raise ConfigError("overlap", f"is {options.overlap}", f"use 0 to {options.tile - 1}")
        self._options = options
        self._masks, self._corners = pairs.masks, pairs.corners
        tree = pairs.tree
        files, rule = assign_splits(
            tree, options.fractions, options.seed, options.group_by, options.lists
        )
        self._root = tree.root
        self._splits = order_splits(files, options.seed)
        self.left_out = dict(sorted(tree.left_out.items()))
        self._values = self._find_values()
        self._layout = probe_layout(tree.root, tree.files, options.bands, options.rules)
        self._last = _Last()
        self.dataset = options.name or tree.root.resolve().name
        self.target = "mask"
        self.classes = self._values.classes
        self.dtype, self.bands = self._layout.dtype, self._layout.bands
        self.provenance: dict[str, Any] = {
            "source": self.dataset,
            "layout": "images and masks",
            "listing_sha256": self._digest(),
            **rule,
            "masks": {
                "codes": {str(value): code for value, code in sorted(self._values.codes.items())},
                "colours": self._values.is_colour,
                "tile": options.tile,
                "overlap": options.overlap,
                "keep_unlabelled": options.keep_unlabelled,
                **({"nearest_colour": True} if options.nearest_colour else {}),
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
            for chosen in deal(files, shard_bytes):
                parts = [part for file in chosen for part in self._cut(file)]
                stamp = " ".join(
                    f"{file.modified_ns} {self._masks[file.path].stat().st_mtime_ns}"
                    for file in chosen
                )
                plans.append(ShardPlan(split, parts, hashlib.sha256(stamp.encode()).hexdigest()))
        return plans

    def read(self, item: Part) -> Sample | str:
        """Return an image or tile with its mask, or the reason to leave it out.

        Raises:
            CorruptSampleError: If image or mask cannot be read, or they do not fit each other.
        """
        file, tile = item.file, self._options.tile
        pair, key = self._read_pair(file), file.key
        kind, data, picture, valid, mask = pair
        meta: dict[str, Any] = {"source": file.path}
        if tile is not None:
            key = f"{key}_r{item.row:05d}_c{item.col:05d}"
            rows, cols = slice(item.row, item.row + tile), slice(item.col, item.col + tile)
            mask = np.ascontiguousarray(mask[rows, cols])
            picture, valid = cut_picture(picture, valid, item, tile)
            meta |= {"row": item.row, "col": item.col}
        if (mask == IGNORE).all() and not self._options.keep_unlabelled:
            return UNLABELLED
        if tile is not None or picture.changed or valid is not None:
            kind, data = encode_picture(picture, kind)
        meta |= georeference(picture)
        group = file.group if tile is None else file.group or file.path
        return Sample(key, kind, data, mask, meta, picture.pixels, valid, group)

    def _read_pair(self, file: ImageFile) -> Pair:
        if self._last.path == file.path and self._last.pair is not None:
            return self._last.pair
        mask_path = self._masks[file.path]
        kind, data, picture, valid = read_decoded(self._root, file, self._layout, "its mask is not")
        values = self._read_values(mask_path, picture, file.path)
        mask = self._values.translate(values, str(mask_path))
        if valid is not None:
            mask = np.where(valid, mask, np.uint8(IGNORE))
        pair = Pair(kind, data, picture, valid, mask)
        self._last.path, self._last.pair = file.path, pair
        return pair

    def _read_values(self, path: Path, picture: Picture, image: str) -> Values:
        size = picture.pixels.shape[:2]
        if path.suffix.lower() == FOOTPRINTS:
            return burn_footprints(path, picture.profile, size)
        found = read_mask(path, is_colour=self._values.is_colour)
        if found.values.shape != size:
            problem = f"is {_show(found.values.shape)}, and its image {image} is {_show(size)}"
            raise CorruptSampleError(str(path), problem, "give a mask of the image's size")
        if picture.profile:
            check_place(found, str(path), picture.profile)
        return found.values

    def _cut(self, file: ImageFile) -> list[Part]:
        options = self._options
        if options.tile is None:
            return [Part(file)]
        if (only := self._corners.get((file.path, str(file.split)))) is not None:
            return [Part(file, row, col) for row, col in only]
        path = self._root / file.path
        height, width = image_size(path)
        if min(height, width) < options.tile:
            problem = f"is {options.tile} px, but {path} is only {_show((height, width))}"
            least = min(height, width)
            raise ConfigError("--tile", problem, f"use 0 to keep images whole, or {least} or less")
        corners = tile_corners(height, width, tile=options.tile, overlap=options.overlap)
        return [Part(file, row, col) for row, col in corners]

    def _find_values(self) -> MaskValues:
        options = self._options
        if options.colours is not None:
            if options.classes is not None:
                raise ConfigError("--classes", "does not go with --colors", "leave one out")
            found = find_colours(options.colours, options.ignore)
            return replace(found, nearest=options.nearest_colour)
        return find_values(self._masks.values(), options.classes, options.ignore)

    def _digest(self) -> str:
        lines = "".join(
            f"{file.path}\t{file.size}\t{self._masks[file.path].stat().st_size}\n"
            for files in self._splits.values()
            for file in sorted(files)
        )
        return hashlib.sha256(lines.encode()).hexdigest()


class MaskFolderSource(MaskSource):
    """Images and masks of the same names in two folders, as a source for the packer.

    Args:
        images: Folder of the images; folders named train, val and test in it are splits.
        masks: Folder of the masks, with the same names but for the suffix and ``ENDINGS``.
        options: How they are paired, cut and split.

    Raises:
        ConfigError: If an option is out of its range, or does not fit the masks.
        DataError: If images and masks do not pair up, or no image decodes.
    """

    def __init__(self, images: Path, masks: Path, options: MaskOptions) -> None:
        options = replace(options, name=options.name or images.resolve().name)
        super().__init__(pair_folders(images, masks), options)


def check_tile(tile: int | None) -> None:
    """Reject a side of tiles, in pixels, below the least."""
    if tile is not None and tile < SMALLEST_TILE:
        raise ConfigError("--tile", f"is {tile} px", f"use 0, or {SMALLEST_TILE} and more")


def _show(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]} px"
