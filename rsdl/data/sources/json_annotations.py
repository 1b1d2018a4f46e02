"""Formats with one file of annotations for many images, and the images that it names."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsdl.core.errors import DataError
from rsdl.data.sources.annotation_files import list_images, read_text, split_of
from rsdl.data.sources.annotations import AnnotatedImages, AnnotationReader, Annotations
from rsdl.data.sources.listing import SPLIT_NAMES, ImageFile, Tree

Json = Mapping[str, Any]


class JsonImages:
    """The images below a folder, to be found by the names that a file of annotations gives.

    Args:
        root: The folder.

    Raises:
        DataError: If there is no image.
    """

    def __init__(self, root: Path) -> None:
        self.left_out: Counter[str] = Counter()
        self.tree: Tree = list_images(root.absolute(), self.left_out)[0]
        self._by_path = {file.path: file for file in self.tree.files}
        self._by_name: dict[str, list[ImageFile]] = {}
        for file in self.tree.files:
            self._by_name.setdefault(file.path.rpartition("/")[2], []).append(file)
        self.splits: dict[str, str | None] = {}
        self._objects: dict[str, Annotations] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def find(self, name: str, split: str | None, where: str) -> ImageFile | None:
        """Return the image of a name or path, or ``None`` if it is not there.

        Raises:
            DataError: If several have this name.
        """
        file, plain = self._by_path.get(name), name.replace("\\", "/")
        found = [file] if file else self._by_name.get(plain.rpartition("/")[2], [])
        # An image in the folder of another split is another one, whatever its name.
        own = split_of(plain)
        found = [each for each in found if own is None or split_of(each.path) in (None, own)]
        if len(found) > 1:
            found = [each for each in found if each.split == split] if split else found
        if len(found) > 1:
            problem = f'names "{name}", and there are {found[0].path} and {found[1].path}'
            raise DataError(where, problem, "name the folder of the images that it is of")
        return found[0] if found else None

    def set(
        self,
        file: ImageFile,
        objects: Annotations,
        where: str,
        split: str | None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Keep the objects of an image.

        Raises:
            DataError: If it has some already.
        """
        if file.path in self._objects:
            raise DataError(where, f"has {file.path}, which has annotations already", "drop one")
        self._objects[file.path], self.splits[file.path] = objects, split
        if size is not None:
            self._sizes[file.path] = size

    def done(self, reader: AnnotationReader, layout: str) -> AnnotatedImages:
        """Return the images with their objects.

        Raises:
            DataError: If no image has annotations.
        """
        objects, left_out = self._objects, self.left_out + reader.left_out
        if not objects:
            problem = f'has no image that the annotations name, such as "{self.tree.files[0].path}"'
            raise DataError(str(self.tree.root), problem, "name the folder of the images")
        reader.check_ignored()
        if reader.rules.keep_unlabelled:
            nothing = reader.take()
            objects = {file.path: objects.get(file.path, nothing) for file in self.tree.files}
        files = [file for file in self.tree.files if file.path in objects]
        if lost := len(self.tree.files) - len(files):
            left_out["images without annotations"] += lost
        has_splits = self.tree.has_splits
        if any(self.splits.values()):
            files = [file._replace(split=self.splits.get(file.path, file.split)) for file in files]
            left_out["images of no split"] += sum(file.split is None for file in files)
            files, has_splits = [file for file in files if file.split is not None], True
        tree = self.tree._replace(
            files=tuple(files), has_splits=has_splits, left_out=dict(+left_out)
        )
        return AnnotatedImages(tree, objects, reader.classes, layout, self._sizes)


def read_json(path: Path) -> Json:
    """Return the object of a JSON file.

    Raises:
        DataError: If it is none.
    """
    try:
        page = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(str(path), f"is no JSON: {error}", "replace it") from error
    if not isinstance(page, dict):
        raise DataError(str(path), "is no JSON object", "name the file of the annotations")
    return page


def find_files(
    root: Path, labels: tuple[str, ...], suffixes: tuple[str, ...]
) -> list[tuple[str | None, Path]]:
    """Return the files that ``--labels`` names with their splits; none: those below the root.

    Of several below the root, the names must tell the splits, as ``instances_val2017.json`` does.

    Raises:
        DataError: If a file is missing, or it is not clear which split it is of.
    """
    if labels:
        named = [_parse(label, root) for label in labels]
        if len({split is None for split, _ in named}) > 1:
            raise DataError("--labels", "names the split of some files only", "name that of all")
        return named
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    if not found:
        shown = " or ".join(suffixes)
        raise DataError(str(root), f"has no {shown} below it", "name the file with --labels")
    if len(found) == 1:
        return [(None, found[0])]
    splits = [_split_in(path.stem) for path in found]
    if None in splits or len(set(splits)) < len(splits):
        problem = f"has {len(found)} files of annotations: {found[0].name}, {found[1].name}"
        raise DataError(str(root), problem, "name them: --labels train=FILE --labels val=FILE")
    return list(zip(splits, found, strict=True))


def _parse(label: str, root: Path) -> tuple[str | None, Path]:
    is_file = any(each.is_file() for each in (Path(label), root / label))
    split, equals, name = ("", "", "") if is_file else label.partition("=")
    name = name if equals else label
    if equals and split not in SPLIT_NAMES.values():
        problem = f'"{split}" is no split'
        raise DataError("--labels", problem, "use train=FILE, val=FILE, test=FILE")
    path = next((each for each in (Path(name), root / name) if each.is_file()), None)
    if path is None:
        raise DataError("--labels", f'"{name}" is no file', "name the file of the annotations")
    return split or None, path


def _split_in(stem: str) -> str | None:
    words = [word.lower() for word in re.split(r"[^A-Za-z]+", stem)]
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None
