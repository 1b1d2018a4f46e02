"""Published splits: lists of the images of train, val and test, one name a line.

Papers and libraries give their splits as such lists. Names are compared as they are commonly
written: as paths with or without leading folders, as file names, or as file names with another
suffix, since a list of JPEGs also holds for the same images as TIFF.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.class_table import plain_name
from rsdl.data.sample import SPLITS
from rsdl.data.sources.listing import ImageFile, Tree

OPTION = "--split-files"
NONE = "none"


@dataclass(frozen=True, slots=True)
class SplitFile:
    """The list of one split.

    Attributes:
        path: The file.
        sha256: Checksum of its bytes in hex.
        names: Its lines, without empty ones.
    """

    path: Path
    sha256: str
    names: tuple[str, ...]


def read_split_files(paths: Sequence[str]) -> dict[str, SplitFile]:
    """Return the lists of train, val and test; a path ``none`` leaves its split empty.

    Raises:
        ConfigError: If there is no list of train.
        DataError: If a file cannot be read, or is empty.
    """
    lists = {}
    for split, path in zip(SPLITS, paths, strict=True):
        if path == NONE:
            continue
        try:
            data = Path(path).read_bytes()
            names = tuple(line.strip() for line in data.decode("utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(OPTION, f"cannot read {path}: {error}") from error
        names = tuple(name for name in names if name)
        if not names:
            raise DataError(
                OPTION, f"{path} is empty", f'write "{NONE}" for a split without images'
            )
        lists[split] = SplitFile(Path(path), hashlib.sha256(data).hexdigest(), names)
    if "train" not in lists:
        raise ConfigError(OPTION, "names no list of train", "give train.txt val.txt test.txt")
    return lists


def assign_listed(
    tree: Tree, lists: Mapping[str, SplitFile]
) -> tuple[list[ImageFile], dict[str, Any]]:
    """Return the listed images with their splits, class by class, and the rule used.

    Images in no list are left out; ``tree.left_out`` counts them.

    Raises:
        DataError: If a name is of no image or of several, or an image is in two lists, or the tree
            has folders of splits.
    """
    if tree.has_splits:
        raise DataError(OPTION, f"{tree.root} has folders of splits", "leave out one of both")
    finder = _Finder(tree)
    split_of: dict[str, str] = {}
    for split, each in lists.items():
        missing = []
        for name in each.names:
            file = finder.find(name, each.path)
            if file is None:
                missing.append(name)
            elif split_of.setdefault(file.path, split) != split:
                raise DataError(
                    OPTION, f'"{name}" is in the lists of {split_of[file.path]} and {split}',
                    "remove it from one",
                )  # fmt: skip
        if missing:
            raise DataError(
                str(each.path),
                f"{len(missing)} of {len(each.names)} names are of no image in {tree.root}: "
                f'"{missing[0]}"',
                "name the folder that the lists are of",
            )
    if num_unlisted := len(tree.files) - len(split_of):
        tree.left_out[f"in no list of {OPTION}"] = num_unlisted
    files = [f._replace(split=split_of[f.path]) for f in tree.files if f.path in split_of]
    return files, describe_lists(lists)


def describe_lists(lists: Mapping[str, SplitFile]) -> dict[str, Any]:
    """Return the rule of a split by lists, for the provenance."""
    named = {
        split: {"file": each.path.name, "sha256": each.sha256} for split, each in lists.items()
    }
    return {"split_rule": "split files", "split_files": named}


class _Finder:
    """Finds the images of a tree by the names in lists."""

    def __init__(self, tree: Tree) -> None:
        self._by_path: dict[str, list[ImageFile]] = defaultdict(list)
        self._by_name: dict[str, list[ImageFile]] = defaultdict(list)
        self._by_stem: dict[str, list[ImageFile]] = defaultdict(list)
        for file in tree.files:
            path = plain_name(file.path)
            name = path.rpartition("/")[2]
            self._by_path[path].append(file)
            self._by_name[name].append(file)
            self._by_stem[name.rpartition(".")[0]].append(file)

    def find(self, line: str, where: Path) -> ImageFile | None:
        """Return the image of a line; ``None`` if there is none.

        Raises:
            DataError: If several images fit.
        """
        parts = plain_name(line).replace("\\", "/").split("/")
        found: list[ImageFile] = []
        for start in range(len(parts) - 1):
            found = found or self._by_path.get("/".join(parts[start:]), [])
        found = found or self._by_name.get(parts[-1], [])
        found = found or self._by_stem.get(parts[-1].rpartition(".")[0] or parts[-1], [])
        if len(found) > 1:
            raise DataError(
                str(where), f'"{line}" is the name of {found[0].path} and of {found[1].path}',
                "write CLASS/NAME",
            )  # fmt: skip
        return found[0] if found else None
