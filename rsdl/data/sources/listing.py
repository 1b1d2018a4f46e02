"""List the images of a class-per-folder tree, with their class and, if given, their split.

Only names and sizes are read, so a tree of millions of files is listed in seconds; a file's content
is checked when it is read. Hidden files and files left by archive tools are skipped. Links are
followed, except loops.
"""

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rsdl.core.errors import DataError
from rsdl.core.rng import key_of
from rsdl.data.class_table import check_names, plain_name
from rsdl.data.kinds import READABLE
from rsdl.storage.local import translate

log = logging.getLogger(__name__)
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
LITTER = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
UNPLAIN = re.compile(r"[^\w-]")  # characters not allowed in keys


class ImageFile(NamedTuple):
    """One image of the tree.

    Attributes:
        path: Path relative to the tree's root, with ``/`` on every machine.
        size: Size in bytes.
        label: Class index.
        key: Name of the sample, unique in the tree.
        split: The split of its folder, ``None`` if the tree has no split folders.
        modified_ns: Modification time in nanoseconds.
        group: The scene that it is of; ``None`` if scenes are not told apart.
    """

    path: str
    size: int
    label: int
    key: str
    split: str | None
    modified_ns: int = 0
    group: str | None = None


class Tree(NamedTuple):
    """The content of a class-per-folder tree.

    Attributes:
        root: The folder that holds the class or split folders.
        classes: Names of the classes, in NFC, sorted.
        files: The images, sorted by path.
        has_splits: Whether the tree has split folders.
        left_out: Number of skipped files, by reason.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    has_splits: bool
    left_out: dict[str, int]


def list_tree(root: Path) -> Tree:
    """List the images of a tree ``CLASS/**/image`` or ``SPLIT/CLASS/**/image``.

    Top-level folders named after splits are splits, and folders beside them without subfolders
    (previews) are left out; otherwise all folders are classes. A single outer folder, as in many
    archives, is descended into.

    Raises:
        DataError: If the folder is missing, has no class folders, or a class has no images, or if
            it is ambiguous whether a folder is a split or a class.
        StorageError: If a folder cannot be read.
    """
    if not root.is_dir():
        if root.exists():
            raise DataError(str(root), "is a file, not a folder", "unpack it and name the folder")
        raise DataError(str(root), "no such folder", "check the path")
    left_out: Counter[str] = Counter()
    root, folders = _unwrap(root, left_out)
    splits = _split_folders(root, folders, left_out)
    places: list[tuple[str | None, str]] = [(None, "")]
    if splits:
        places = [(SPLIT_NAMES[name.casefold()], f"{name}/") for name in splits]
    found: dict[str, list[tuple[str, int, int, str | None]]] = {}
    for split, prefix in places:
        names = _class_folders(root / prefix, left_out) if prefix else folders
        for name in names:
            images = found.setdefault(plain_name(name), [])
            walked = walk_images(root / prefix / name, (), left_out)
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
    return _tree(root, found, left_out, has_splits=bool(splits))


def _unwrap(root: Path, left_out: Counter[str]) -> tuple[Path, list[str]]:
    """Return the folder that holds the class or split folders, and their names."""
    while True:
        folders = _class_folders(root, left_out)
        if len(folders) > 1:
            return root, folders
        entries = _scan(root / folders[0], Counter())
        if any(not e.is_dir() and _is_image(e.name) for e in entries) or not entries:
            return root, folders
        if not any(entry.is_dir() for entry in entries):
            return root, folders
        root = root / folders[0]
        log.warning("%s: taken for the folder of the classes, as it lies alone", root)


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or in ``LITTER``."""
    return name.startswith(".") or name in LITTER


def _tree(
    root: Path,
    found: dict[str, list[tuple[str, int, int, str | None]]],
    left_out: Counter[str],
    *,
    has_splits: bool,
) -> Tree:
    classes = tuple(sorted(found))
    rows = sorted(
        (path, size, label, split, modified_ns)
        for label, name in enumerate(classes)
        for path, size, modified_ns, split in found[name]
    )
    keys = unique_keys([path for path, *_ in rows], has_splits=has_splits)
    files = (
        ImageFile(path, size, label, key, split, modified_ns)
        for (path, size, label, split, modified_ns), key in zip(rows, keys, strict=True)
    )
    return Tree(root, classes, tuple(files), has_splits, dict(sorted(left_out.items())))


def _class_folders(folder: Path, left_out: Counter[str]) -> list[str]:
    folders: list[str] = []
    for entry in _scan(folder, left_out):
        if entry.is_dir():
            folders.append(entry.name)
        elif _is_image(entry.name):
            raise DataError(
                str(folder),
                f'holds the image "{entry.name}" outside any class folder',
                "put every image into a folder named after its class",
            )
        else:
            left_out[_reason(entry.name)] += 1
    if not folders:
        raise DataError(
            str(folder), "has no class folders", "name a folder with one folder of images per class"
        )
    return sorted(folders)


def _split_folders(root: Path, folders: list[str], left_out: Counter[str]) -> list[str]:
    """Return the split folders, or an empty list if all folders are classes."""
    splits = [name for name in folders if name.casefold() in SPLIT_NAMES]
    counts = Counter(SPLIT_NAMES[name.casefold()] for name in splits)
    others = [name for name in folders if name not in splits]
    if not counts or (others and (not counts["train"] or len(counts) < 2)):
        return []
    for split, count in counts.items():
        if count > 1:
            raise DataError(
                str(root), f'has {count} folders for the split "{split}"', "merge or remove them"
            )
    for name in others:
        if any(entry.is_dir() for entry in _scan(root / name, Counter())):
            raise DataError(
                str(root / name),
                "lies beside folders of splits and has folders of its own",
                'if it is a split, name it "train", "val" or "test"; else move it away',
            )
        left_out[f"in the folder {name}"] += len(_scan(root / name, left_out))
    return splits


def walk_images(
    folder: Path,
    above: tuple[tuple[int, int], ...],
    left_out: Counter[str],
    others: tuple[str, ...] = (),
) -> Iterator[tuple[str, int, int]]:
    """Yield relative path, size and modification time of every image below ``folder``.

    Files whose suffix is among ``others`` are taken as well.
    """
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for entry in _scan(folder, left_out):
            if entry.is_dir():
                deeper = walk_images(folder / entry.name, (*above, identity), left_out, others)
                yield from (
                    (f"{entry.name}/{path}", size, time_ns) for path, size, time_ns in deeper
                )
            elif _is_image(entry.name) or entry.name.lower().endswith(others):
                try:
                    found = entry.stat()
                except OSError as error:
                    raise translate(error, folder / entry.name) from error
                if stat.S_ISREG(found.st_mode):
                    yield entry.name, found.st_size, found.st_mtime_ns
                else:
                    left_out["no regular file"] += 1
            else:
                left_out[_reason(entry.name)] += 1
    except OSError as error:
        raise translate(error, folder) from error


def _reason(name: str) -> str:
    """Return the reason for skipping a file that is not an image: its suffix."""
    _, dot, suffix = name.rpartition(".")
    return f"*.{suffix.lower()}" if dot else "without a suffix"


def _is_image(name: str) -> bool:
    _, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() in READABLE


def _scan(folder: Path, left_out: Counter[str]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; hidden and litter files are only counted."""
    kept = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_litter(entry.name):
                    left_out["hidden or litter"] += _count_files(entry)
                else:
                    kept.append(entry)
    except OSError as error:
        raise translate(error, folder) from error
    for entry in kept:
        # Names become tar member names and manifest entries, and both must be UTF-8.
        if not entry.name.isascii() and any("\ud800" <= part <= "\udfff" for part in entry.name):
            shown = os.fsencode(entry.name).decode(errors="backslashreplace")
            raise DataError(str(folder), f'"{shown}" is not a UTF-8 name', "rename it")
    return kept


def _count_files(entry: os.DirEntry[str]) -> int:
    if not entry.is_dir(follow_symlinks=False):
        return 1
    return sum(len(files) for _, _, files in os.walk(entry.path))


def unique_keys(paths: list[str], *, has_splits: bool) -> list[str]:
    """Return a key for every path: its class, folders and stem, joined by ``_``."""
    keys = [_plain_key(path.partition("/")[2] if has_splits else path) for path in paths]
    counts = Counter(keys)
    # No plain key contains "~", so the suffix of a duplicate cannot cause a new collision.
    return [
        key if counts[key] == 1 else f"{key}~{key_of('key', path) % 16**12:012x}"
        for key, path in zip(keys, paths, strict=True)
    ]


def _plain_key(path: str) -> str:
    return UNPLAIN.sub("_", path.rpartition(".")[0])
