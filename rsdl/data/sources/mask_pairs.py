"""Pair images and masks of the same names in two folders."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import rasterio

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.data.sources.listing import SPLIT_NAMES, ImageFile, Tree, unique_keys, walk_images

# What a mask is often named beside its image.
ENDINGS = ("_mask", "_masks", "_label", "_labels", "_gt", "-mask", "-label")


class Pairs(NamedTuple):
    """Images with a mask each.

    Attributes:
        tree: The images; if ``has_splits``, each has its split.
        masks: Path of each image's mask, by the image's path.
        corners: Row and column of the only tiles to cut from an image, by its path and split;
            images that are not named are cut into all of their tiles.
    """

    tree: Tree
    masks: Mapping[str, Path]
    corners: Mapping[tuple[str, str], tuple[tuple[int, int], ...]] = {}


def pair_folders(images: Path, masks: Path) -> Pairs:
    """Return the images of a folder with their masks in another; see :func:`match_masks`.

    Raises:
        DataError: If a folder is missing, or images and masks do not pair up.
    """
    left_out: Counter[str] = Counter()
    images = Path(os.path.abspath(images))  # a folder given as "." has a name as well
    tree = list_pairs(images, left_out)
    found = match_masks(tree, masks, left_out)
    files = tuple(file for file in tree.files if file.path in found)
    return Pairs(tree._replace(files=files, left_out=left_out), found)


def image_size(path: Path) -> tuple[int, int]:
    """Return an image's height and width in pixels, from its header.

    Raises:
        CorruptSampleError: If it cannot be read.
    """
    try:
        with rasterio.open(path) as source:
            return source.height, source.width
    except rasterio.errors.RasterioError as error:
        raise CorruptSampleError(str(path), f"cannot be read: {error}", "replace it") from error


def list_pairs(images: Path, left_out: Counter[str]) -> Tree:
    """Return the images of a folder, with the splits of folders named train, val and test.

    Raises:
        DataError: If the folder is missing or has no image.
    """
    if not images.is_dir():
        raise DataError(str(images), "no such folder", "name the folder of the images")
    found = list(walk_images(images, (), left_out))
    if not found:
        raise DataError(str(images), "has no images", "name the folder of the images")
    tops = {path.partition("/")[0].casefold() for path, *_ in found if "/" in path}
    has_splits = bool(tops) and tops <= set(SPLIT_NAMES) and all("/" in path for path, *_ in found)
    root = images if has_splits else images.parent
    paths = [path if has_splits else f"{images.name}/{path}" for path, *_ in found]
    keys = unique_keys([path for path, *_ in found], has_splits=has_splits)
    files = sorted(
        ImageFile(
            path,
            size,
            0,
            key,
            SPLIT_NAMES[path.partition("/")[0].casefold()] if has_splits else None,
            modified_ns,
        )
        for path, key, (_, size, modified_ns) in zip(paths, keys, found, strict=True)
    )
    return Tree(root, ("",), tuple(files), has_splits, {})


def match_masks(tree: Tree, masks: Path, left_out: Counter[str]) -> dict[str, Path]:
    """Return the mask of each image by the image's path; those without one are left out.

    Names are compared without suffix and ``ENDINGS``, below the two folders; where no folder of a
    mask fits, by the file's name alone.

    Raises:
        DataError: If no image has a mask, one has two, or two have the same.
    """
    if not masks.is_dir():
        raise DataError(str(masks), "no such folder", "name the folder of the masks")
    by_path: dict[str, Path] = {}
    by_name: dict[str, list[str]] = {}
    for path, *_ in walk_images(masks, (), Counter()):
        stem = _stem(path)
        if stem in by_path:
            problem = f'"{by_path[stem].name}" and "{path}" are masks of the same image'
            raise DataError(str(masks), problem, "remove one of them")
        by_path[stem] = masks / path
        by_name.setdefault(stem.rpartition("/")[2], []).append(stem)
    found: dict[str, Path] = {}
    used: dict[str, str] = {}
    for file in tree.files:
        stem = _stem(file.path if tree.has_splits else file.path.partition("/")[2])
        same = by_name.get(stem.rpartition("/")[2], [])
        stem = stem if stem in by_path or len(same) != 1 else same[0]
        if stem in used:
            problem = f'"{used[stem]}" and "{file.path}" would have the same mask, "{stem}"'
            raise DataError(str(masks), problem, "keep the folders of the images in the masks")
        if stem in by_path:
            found[file.path] = by_path[stem]
            used[stem] = file.path
    if not found:
        first = tree.files[0].path
        problem = f'has no mask for any image, such as "{first}"'
        raise DataError(str(masks), problem, "name masks as their images, but for the suffix")
    if lost := len(tree.files) - len(found):
        left_out["images without a mask"] += lost
    if lost := len(by_path) - len(used):
        left_out["masks without an image"] += lost
    return found


def _stem(path: str) -> str:
    stem = path.rpartition(".")[0]
    return next((stem.removesuffix(end) for end in ENDINGS if stem.endswith(end)), stem)
