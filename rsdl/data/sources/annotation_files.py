"""Formats with a file of annotations for each image: find it by its name, and read it."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rsdl.core.errors import DataError
from rsdl.data.kinds import READABLE
from rsdl.data.sources.annotations import AnnotatedImages, AnnotationReader, Annotations
from rsdl.data.sources.listing import SPLIT_NAMES, ImageFile, Tree, unique_keys, walk_images

# Folders named after what they hold; the names of samples are without them.
ROLES = re.compile(r"(png|jpe?g)?_?images?|img|labels?|label_?(txt|xml)|annotations?", re.I)


class LabelledImages(NamedTuple):
    """Images with a file of annotations each.

    Attributes:
        tree: The images, also those without annotations.
        labels: File of annotations of each image, by the image's path.
        left_out: Files that were left out, by reason.
    """

    tree: Tree
    labels: dict[str, Path]
    left_out: Counter[str]


def pair_labels(
    root: Path, suffixes: tuple[str, ...], labels: tuple[str, ...], empty: str | None = None
) -> LabelledImages:
    """Return the images below a folder with the annotation files of the same names.

    Of several files of an image's name, the one is taken that shares most folders with it, such as
    ``train``. Folders named train, val and test anywhere below are splits, if all images lie in
    one.

    Args:
        root: Folder of the data set.
        suffixes: Suffixes of annotation files, in lower case.
        labels: Folders of the annotations, or the names that their folders below ``root`` have;
            none: they lie anywhere below ``root``.
        empty: Name of a folder whose images have no objects, and no file.

    Raises:
        DataError: If no image has annotations, or an image has two files of them.
    """
    root = root.absolute()
    left_out: Counter[str] = Counter()
    tree, others = list_images(root, left_out, suffixes)
    files = _choose_labels(root, others, suffixes, labels)
    by_stem: dict[str, list[Path]] = {}
    for file in files:
        by_stem.setdefault(file.stem, []).append(file)
    claims: dict[Path, list[tuple[int, str]]] = {}
    for image in tree.files:
        path = Path(image.path)
        scores = [
            (_shared(path, file, root), file)
            for file in by_stem.get(path.stem, [])
            if _same_split(image.path, file, root)
        ]
        if not scores or empty in path.parts:
            continue
        most = max(score for score, _ in scores)
        best = [file for score, file in scores if score == most]
        if len(best) > 1:
            problem = f"has {len(best)} files of annotations: {best[0]}, {best[1]}"
            remedy = "choose the folder, or its name, with --labels"
            raise DataError(str(root / image.path), problem, remedy)
        claims.setdefault(best[0], []).append((most, image.path))
    found: dict[str, Path] = {}
    for file, images in claims.items():
        images.sort(reverse=True)
        if len(images) > 1 and images[0][0] == images[1][0]:
            problem = f'would be the annotations of "{images[1][1]}" and of "{images[0][1]}"'
            raise DataError(str(file), problem, "name the folder of the images that it is of")
        found[images[0][1]] = file
    if not found:
        shown = " or ".join(suffixes)
        problem = f'has no annotations ({shown}) for any image, such as "{tree.files[0].path}"'
        raise DataError(str(root), problem, "name them as their images, and their folder --labels")
    if lost := len(files) - len(found):
        left_out["annotations without an image"] += lost
    return LabelledImages(tree, found, left_out)


def list_images(
    root: Path, left_out: Counter[str], suffixes: tuple[str, ...] = ()
) -> tuple[Tree, list[Path]]:
    """Return the images below a folder, and the files of other suffixes.

    Args:
        root: The folder.
        left_out: Counts files that are neither.
        suffixes: The other suffixes.

    Raises:
        DataError: If there is no such folder, or it has no image.
    """
    if not root.is_dir():
        raise DataError(str(root), "no such folder", "name the folder of the images")
    walked = list(walk_images(root, (), left_out, suffixes))
    images = sorted(row for row in walked if Path(row[0]).suffix.lower() in READABLE)
    others = sorted(root / row[0] for row in walked if Path(row[0]).suffix.lower() in suffixes)
    if not images:
        raise DataError(str(root), "has no images", "name the folder of the images")
    splits = [split_of(path) for path, *_ in images]
    has_splits = None not in splits
    names = [_plain(path) if has_splits else path for path, *_ in images]
    if len(set(names)) < len(names):
        names = [path for path, *_ in images]
    keys = unique_keys(names, has_splits=False)
    files = tuple(
        ImageFile(path, size, 0, key, split if has_splits else None, modified_ns)
        for (path, size, modified_ns), split, key in zip(images, splits, keys, strict=True)
    )
    return Tree(root, ("",), files, has_splits, {}), others


def read_labels(
    pairs: LabelledImages,
    reader: AnnotationReader,
    read: Callable[[Path, Path, AnnotationReader], tuple[int, int] | None],
    layout: str,
    empty: str | None = None,
) -> AnnotatedImages:
    """Return images with the objects of their files.

    Args:
        pairs: The images and files.
        reader: What collects the objects.
        read: Adds the objects of a file, of an image, to the reader, and returns the image's height
            and width if the file states it.
        layout: Name of the format.
        empty: Name of a folder whose images have no objects.
    """
    objects: dict[str, Annotations] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for file in pairs.tree.files:
        path = pairs.labels.get(file.path)
        if path is not None:
            size = read(path, pairs.tree.root / file.path, reader)
            sizes |= {} if size is None else {file.path: size}
        elif not reader.rules.keep_unlabelled and empty not in Path(file.path).parts:
            reader.left_out["images without annotations"] += 1
            continue
        objects[file.path] = reader.take()
    reader.check_ignored()
    kept = tuple(file for file in pairs.tree.files if file.path in objects)
    left_out = dict(pairs.left_out + reader.left_out)
    tree = pairs.tree._replace(files=kept, left_out=left_out)
    return AnnotatedImages(tree, objects, reader.classes, layout, sizes)


def _choose_labels(
    root: Path, found: Sequence[Path], suffixes: tuple[str, ...], labels: tuple[str, ...]
) -> list[Path]:
    if not labels:
        return list(found)
    chosen: list[Path] = []
    for name in labels:
        named = [file for file in found if name in file.relative_to(root).parts[:-1]]
        folder = next((each for each in (root / name, Path(name)) if each.is_dir()), None)
        if not named and folder is None:
            problem = f'"{name}" is no folder, and no folder below {root} has this name'
            raise DataError("--labels", problem, "name the folder of the annotations")
        if not named and folder is not None:
            rows = walk_images(folder.absolute(), (), Counter(), suffixes)
            named = [folder.absolute() / path for path, *_ in rows]
        chosen += (file for file in named if file.suffix.lower() in suffixes)
    return sorted(set(chosen))


def _shared(image: Path, file: Path, root: Path) -> int:
    """Return how many folders below the root an image and a file have in common by name."""
    below = file.relative_to(root).parts if file.is_relative_to(root) else file.parts
    return len(set(image.parts[:-1]) & set(below[:-1]))


def _same_split(image: str, file: Path, root: Path) -> bool:
    """Return whether neither of an image and a file lies in the folder of another split."""
    below = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    own, other = split_of(image), split_of(below)
    return own is None or other is None or own == other


def split_of(path: str) -> str | None:
    """Return the split that a folder of a path names, ``None`` without one."""
    folders = path.split("/")[:-1]
    return next(
        (SPLIT_NAMES[each.lower()] for each in folders if each.lower() in SPLIT_NAMES), None
    )


def _plain(path: str) -> str:
    """Return a path without the folders that name a split or what they hold."""
    *folders, name = path.split("/")
    kept = (
        each for each in folders if each.lower() not in SPLIT_NAMES and not ROLES.fullmatch(each)
    )
    return "/".join([*kept, name])


def read_text(path: Path) -> str:
    """Return the text of an annotation file.

    Raises:
        DataError: If it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "replace it") from error
