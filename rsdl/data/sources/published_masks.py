"""Published segmentation sets: how images and masks are paired and split, download and unpacking.

A set is recognized by the paths of its files below any folder, as an archive unpacks them or as a
library rearranges them: each such arrangement is a rule. A difference from the publication in
number is a warning, not an error.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rsdl.core.errors import DataError
from rsdl.data.manifest import INDEX_COLUMNS
from rsdl.data.sources.archive import unpack
from rsdl.data.sources.blocks import BlockDraw, find_blocks
from rsdl.data.sources.download import Progress, download
from rsdl.data.sources.folder import FRACTIONS
from rsdl.data.sources.listed_tiles import pick_listed_tiles
from rsdl.data.sources.listing import ImageFile, Tree, unique_keys, walk_images
from rsdl.data.sources.mask_folder import MaskOptions, MaskSource, check_tile
from rsdl.data.sources.mask_pairs import Pairs
from rsdl.data.sources.path_rules import match_paths
from rsdl.data.sources.published import PublishedChoice, by_hand, make_folder, unpack_origin
from rsdl.data.sources.segmentation_dataset import Groups, PairRule, SegmentationDataset
from rsdl.data.sources.split_files import SplitFile, describe_lists, read_split_files
from rsdl.data.sources.splits import name_group

LISTS = ("train.txt", "val.txt", "test.txt")

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """An image with its mask, as paths below the folder, and the groups of its path."""

    groups: Groups
    top: str
    image: str
    mask: str
    size: int
    modified_ns: int


def prepare_masks(
    dataset: SegmentationDataset,
    choice: PublishedChoice,
    *,
    origin: Path | None,
    work: Path,
    progress: Progress = lambda received, total: None,
) -> MaskSource:
    """Return a segmentation set as a source, after downloading and unpacking it if needed.

    Args:
        dataset: The set to prepare.
        choice: The user's choice of splits and tiles.
        origin: An archive, or a folder that holds the files; ``None`` downloads the archives.
        work: Folder for the archives and their unpacked files; the next run reuses it.
        progress: Called while downloading; see :func:`rsdl.data.sources.download.download`.

    Raises:
        ConfigError: If the tiles are too small, or do not go with the published split.
        DataError: If the data cannot be fetched, unpacked or recognised.
        StorageError: If ``work`` cannot be written.
    """
    check_tile(choice.tile or None)
    md5s = [archive.md5 for archive in dataset.archives]
    provenance: dict[str, object] = {"title": dataset.title, "homepage": dataset.homepage}
    if origin is None:
        folder = _fetch(dataset, work, progress)
        provenance |= {"url": [each.url for each in dataset.archives], "md5": md5s}
    else:
        folder, unpacked = unpack_origin(dataset.name, origin, work, md5s)
        provenance |= unpacked
    left_out: Counter[str] = Counter()
    rule, found = find_pairs(folder, dataset, left_out)
    if rule.num_pairs not in (None, len(found)):
        counts = len(found), rule.num_pairs
        log.warning("%s: %d images with masks; the publication has %d", dataset.name, *counts)
    tile = (rule.tile if choice.tile is None else choice.tile) or None
    pairs = _arrange(folder, found, rule, is_published=choice.is_published, left_out=left_out)
    if rule.group_by is not None or rule.block_m is not None:
        provenance[INDEX_COLUMNS] = ["group"]
    lists = choice.lists
    if choice.is_published and rule.split is not None:
        provenance["split_rule"] = "published"
    elif rule.block_m is not None and lists is None:
        draw = BlockDraw(rule.block_m, choice.fractions or FRACTIONS, choice.seed)
        files, drawn = draw.draw(pairs.tree.files)
        pairs = pairs._replace(tree=pairs.tree._replace(files=files, has_splits=True))
        provenance |= drawn
    if choice.is_published and rule.listed is not None:
        lists = _read_lists(folder / found[0].top)
        if rule.listed == "tiles":
            pairs = pick_listed_tiles(pairs, lists, tile, rule.tile)
            provenance |= describe_lists(lists)
            lists = None
    options = _options(rule, choice)
    options = replace(options, tile=tile, lists=lists, name=dataset.name, rules=dataset.pictures)
    return MaskSource(pairs, options, provenance)


def _options(rule: PairRule, choice: PublishedChoice) -> MaskOptions:
    return MaskOptions(
        classes=rule.masks.classes,
        colours=rule.masks.colours,
        nearest_colour=rule.masks.nearest_colour,
        ignore=rule.masks.ignore,
        fractions=choice.fractions or FRACTIONS,
        group_by=rule.group_by if choice.fractions is not None else None,
        seed=choice.seed,
        bands=rule.bands,
    )


def find_pairs(
    folder: Path, dataset: SegmentationDataset, left_out: Counter[str]
) -> tuple[PairRule, list[Found]]:
    """Return the first rule that finds an image with its mask, and all that it finds, by path.

    Raises:
        DataError: If no rule finds any, or an image or mask comes twice.
    """
    files = sorted(walk_images(folder, (), left_out, dataset.mask_suffixes))
    for rule in dataset.rules:
        images = match_paths(rule.image, files, folder)
        paths = {image.path for image in images.values()}
        masks = match_paths(rule.mask, [file for file in files if file[0] not in paths], folder)
        found = [
            Found(each.groups, each.top, each.path, masks[key].path, each.size, each.modified_ns)
            for key, each in images.items()
            if key in masks
        ]
        if not found:
            continue
        for reason, count in (
            ("images without a mask", len(images) - len(found)),
            ("masks without an image", len(masks) - len(found)),
            ("images of other kinds", len(files) - len(images) - len(masks)),
        ):
            left_out.update({reason: count} if count else {})
        return rule, found
    for pattern, problem in dataset.others:
        if any(re.search(pattern, path, re.IGNORECASE) for path, *_ in files):
            remedy = f"name a folder of {dataset.name} such as {dataset.rules[0].example}"
            raise DataError(str(folder), problem, remedy)
    shown = " or ".join(rule.example for rule in dataset.rules)
    raise DataError(
        str(folder),
        f"holds no image of {dataset.name} with its mask, such as {shown}",
        'name the folder above with --from, or use "rsdl data pack masks" for other files',
    )


def _arrange(
    folder: Path,
    found: list[Found],
    rule: PairRule,
    *,
    is_published: bool,
    left_out: Counter[str],
) -> Pairs:
    """Return the pairs, with their scenes if they are tiles, and the published split if wanted."""
    split = rule.split if is_published else None
    splits = [split(each.groups) if split is not None else None for each in found]
    names = ["/".join(each.groups) + Path(each.image).suffix for each in found]
    scenes: Sequence[str | None] = [_scene(each.image, rule.group_by) for each in found]
    if rule.block_m is not None:
        scenes = find_blocks([folder / each.image for each in found], rule.block_m)
    keys = unique_keys(names, has_splits=False)
    files = tuple(
        ImageFile(each.image, each.size, 0, key, name, each.modified_ns, scene)
        for each, key, name, scene in zip(found, keys, splits, scenes, strict=True)
        if name is not None or split is None
    )
    if not files:
        problem = f'holds no image of the published split, such as "{found[0].image}"'
        raise DataError(str(folder), problem, "draw the splits with --split 0.8,0.1,0.1")
    if num_out := len(found) - len(files):
        left_out["images in no published split"] += num_out
    tree = Tree(folder, ("",), tuple(sorted(files)), split is not None, left_out)
    return Pairs(tree, {each.image: folder / each.mask for each in found})


def _scene(path: str, group_by: str | None) -> str | None:
    """Return the scene of a tile; the tile's own path where the rule does not find one."""
    if group_by is None:
        return None
    found = re.search(group_by, path, re.IGNORECASE)
    return path if found is None else name_group(found)


def _read_lists(top: Path) -> dict[str, SplitFile]:
    paths = [top / name for name in LISTS]
    if absent := [path for path in paths if not path.is_file()]:
        remedy = "put it there, or draw the splits with --split 0.8,0.1,0.1"
        raise DataError(str(absent[0]), "no such file, which lists the published split", remedy)
    return read_split_files([str(path) for path in paths])


def _fetch(dataset: SegmentationDataset, work: Path, progress: Progress) -> Path:
    if not dataset.archives:
        raise by_hand(dataset.name, dataset.homepage)
    folder = work / dataset.name
    make_folder(folder)
    for url, md5 in dataset.archives:
        name = url.rpartition("/")[2].partition("?")[0]
        archive = download(url, folder / name, md5=md5, progress=progress)
        unpack(archive, folder / f"{name.rpartition('.')[0]}-{md5[:12]}")
    return folder
