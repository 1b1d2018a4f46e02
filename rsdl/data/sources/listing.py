"""Which images lie in a class-per-folder tree, of which class and, where the tree says so, split.

Only names and sizes are read, so a tree of millions of files is listed in seconds; whether a file
really holds what its name says turns out when it is read. Hidden files and the litter of archive
tools are passed over. Links are followed, loops are not.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rsdl.core.errors import DataError
from rsdl.data.class_table import check_names, plain_name
from rsdl.data.decode import READABLE
from rsdl.data.random import key_of
from rsdl.storage.local import translate

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LITTER = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
UNPLAIN = re.compile(r"[^\w-]")  # what stands in no key


class ImageFile(NamedTuple):
    """One image of the tree.

    Attributes:
        path: Path relative to the tree's root, with ``/`` on every machine.
        size: Size in bytes.
        label: Class index.
        key: Name of the sample, unique in the tree.
        split: The split whose folder it lies in, ``None`` where the tree has no split folders.
        modified_ns: When it was last written to, in nanoseconds.
    """

    path: str
    size: int
    label: int
    key: str
    split: str | None
    modified_ns: int = 0


class Tree(NamedTuple):
    """What a class-per-folder tree holds; ``files`` are sorted by path."""

    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    has_splits: bool


def list_tree(root: Path) -> Tree:
    """List the images of a tree ``CLASS/**/image`` or ``SPLIT/CLASS/**/image``.

    Top-level folders that are all named after splits are splits; any others are classes.

    Raises:
        DataError: If the folder is missing, has no class folders, or a class has no images.
        StorageError: If a folder cannot be read.
    """
    if not root.is_dir():
        if root.exists():
            raise DataError(str(root), "is a file, not a folder", "unpack it and name the folder")
        raise DataError(str(root), "no such folder", "check the path")
    folders = _class_folders(root)
    splits = _split_folders(root, folders)
    places: list[tuple[str | None, str]] = [(None, "")]
    if splits:
        places = [(SPLIT_NAMES[name.casefold()], f"{name}/") for name in splits]
    found: dict[str, list[tuple[str, int, int, str | None]]] = {}
    for split, prefix in places:
        names = _class_folders(root / prefix) if prefix else folders
        for name in names:
            images = found.setdefault(plain_name(name), [])
            walked = _walk(root / prefix / name, ())
            images += (
                (f"{prefix}{name}/{path}", size, time_ns, split) for path, size, time_ns in walked
            )
    check_names(list(found), str(root))
    for name, images in found.items():
        if not images:
            raise DataError(
                str(root if splits else root / name),
                f'class "{name}" has no images ({", ".join(sorted(READABLE))})',
                "put images into its folder or remove the folder",
            )
    return _tree(found, has_splits=bool(splits))


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name is none of the data set's."""
    return name.startswith(".") or name in LITTER


def _tree(found: dict[str, list[tuple[str, int, int, str | None]]], *, has_splits: bool) -> Tree:
    classes = tuple(sorted(found))
    rows = sorted(
        (path, size, label, split, modified_ns)
        for label, name in enumerate(classes)
        for path, size, modified_ns, split in found[name]
    )
    keys = _unique_keys([path for path, *_ in rows], has_splits=has_splits)
    files = (
        ImageFile(path, size, label, key, split, modified_ns)
        for (path, size, label, split, modified_ns), key in zip(rows, keys, strict=True)
    )
    return Tree(classes, tuple(files), has_splits)


def _class_folders(folder: Path) -> list[str]:
    folders: list[str] = []
    for entry in _scan(folder):
        if entry.is_dir():
            folders.append(entry.name)
        elif _is_image(entry.name):
            raise DataError(
                str(folder),
                f'holds the image "{entry.name}" outside any class folder',
                "put every image into a folder named after its class",
            )
    if not folders:
        raise DataError(
            str(folder), "has no class folders", "name a folder with one folder of images per class"
        )
    return sorted(folders)


def _split_folders(root: Path, folders: list[str]) -> list[str]:
    splits = Counter(SPLIT_NAMES.get(name.casefold()) for name in folders)
    if None in splits:
        return []
    for split, count in splits.items():
        if count > 1:
            raise DataError(
                str(root), f'has {count} folders for the split "{split}"', "merge or remove them"
            )
    return folders


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int, int]]:
    """Yield path relative to ``folder``, size and time of every image in it, however deep."""
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for entry in _scan(folder):
            if entry.is_dir():
                deeper = _walk(folder / entry.name, (*above, identity))
                yield from (
                    (f"{entry.name}/{path}", size, time_ns) for path, size, time_ns in deeper
                )
            elif _is_image(entry.name):
                found = entry.stat()
                yield entry.name, found.st_size, found.st_mtime_ns
    except OSError as error:
        raise translate(error, folder) from error


def _is_image(name: str) -> bool:
    _, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() in READABLE


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not is_litter(entry.name)]
    except OSError as error:
        raise translate(error, folder) from error
    for entry in kept:
        # Names become keys in a tar and lines in a manifest, and both are UTF-8.
        if not entry.name.isascii() and any("\ud800" <= part <= "\udfff" for part in entry.name):
            shown = os.fsencode(entry.name).decode(errors="backslashreplace")
            raise DataError(str(folder), f'"{shown}" is not a UTF-8 name', "rename it")
    return kept


def _unique_keys(paths: list[str], *, has_splits: bool) -> list[str]:
    """Return a key for every path: its class, folders and stem, joined by ``_``."""
    keys = [_plain_key(path.partition("/")[2] if has_splits else path) for path in paths]
    counts = Counter(keys)
    # "~" stands in no plain key, so what marks a duplicate can never make a new one.
    return [
        key if counts[key] == 1 else f"{key}~{key_of('key', path) % 16**12:012x}"
        for key, path in zip(keys, paths, strict=True)
    ]


def _plain_key(path: str) -> str:
    return UNPLAIN.sub("_", path.rpartition(".")[0])
