"""COCO's annotations: one JSON file for all images of a split.

The formats of other sets that are one file of objects share :class:`JsonImages`.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsdl.core.errors import DataError
from rsdl.data.sources.annotation_files import list_images, read_text
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationReader,
    AnnotationRules,
    Annotations,
)
from rsdl.data.sources.listing import SPLIT_NAMES, ImageFile, Tree
from rsdl.data.targets.objects import IGNORED

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
        file = self._by_path.get(name)
        found = [file] if file else self._by_name.get(re.split(r"[/\\\\]", name)[-1], [])
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


def read_coco(root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()) -> AnnotatedImages:
    """Return images and objects of COCO's annotations.

    Args:
        root: Folder of the images.
        rules: Which objects are taken. Attributes that ``class_from`` names lie in an annotation or
            its ``attributes``.
        labels: The JSON files, each as ``FILE`` or ``SPLIT=FILE``; none: those below ``root``.

    Raises:
        DataError: If a file is not as COCO's, or names what it does not define.
    """
    images, pages = JsonImages(root), list(_pages(root, labels))
    listed: dict[str, None] = {}
    needs_names = rules.class_from is None and rules.single is None
    for _, where, page in pages if needs_names else ():
        listed |= dict.fromkeys(_categories(page, where).values())
    own = tuple(listed) if needs_names else None
    reader = AnnotationReader(rules, rules.choose_classes(own))
    for split, where, page in pages:
        try:
            _read_page(page, where, split, images, reader)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problem = f"is not as COCO's annotations: {type(error).__name__} {error}"
            raise DataError(where, problem, "export it again") from error
    return images.done(reader, "coco")


def _read_page(
    page: Json, where: str, split: str | None, images: JsonImages, reader: AnnotationReader
) -> None:
    needs_names = reader.rules.class_from is None and reader.rules.single is None
    names = _categories(page, where) if needs_names else {}
    by_image: dict[Any, list[Json]] = {row["id"]: [] for row in page["images"]}
    if len(by_image) < len(page["images"]):
        raise DataError(where, "has two images of one id", "number the images")
    for row in page["annotations"]:
        if row["image_id"] not in by_image:
            problem = f"is of image {row['image_id']}, which is not among the images"
            raise DataError(f"{where}: annotation {row.get('id')}", problem, "remove it")
        by_image[row["image_id"]].append(row)
    for row in page["images"]:
        file = images.find(str(row["file_name"]), split, where)
        if file is None:
            images.left_out["listed images that are missing"] += 1
            continue
        for each in by_image[row["id"]]:
            place = f"{where}: annotation {each.get('id')}"
            name, outline = (
                _name(each, names, reader.rules, place),
                _outline(each, reader.rules, place),
            )
            ignored = each.get("iscrowd") or each.get("ignore")
            reader.add(outline, name, place, IGNORED if ignored else 0)
        size = (int(row.get("height") or 0), int(row.get("width") or 0))
        images.set(file, reader.take(), where, split, size if min(size) else None)


def _name(row: Json, names: Mapping[Any, str], rules: AnnotationRules, where: str) -> str:
    if rules.single is not None:
        return rules.single
    if rules.class_from is not None:
        return attribute({**row, **(row.get("attributes") or {})}, rules.class_from, where)
    if row["category_id"] not in names:
        problem = f"is of category {row['category_id']}, which is not among the categories"
        raise DataError(where, problem, "add it to them")
    return names[row["category_id"]]


def attribute(facts: Json, name: str, where: str) -> str:
    """Return the text of an object's attribute that is its class.

    Raises:
        DataError: If it has none.
    """
    value = facts.get(name)
    if value is None or value == "":
        shown = ", ".join(sorted(key for key, each in facts.items() if not isinstance(each, list)))
        raise DataError(where, f'has no "{name}"', f"name one of {shown} with --class-from")
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def _outline(row: Json, rules: AnnotationRules, where: str) -> list[float]:
    outlines = row.get("segmentation")
    points = (
        [float(each) for part in outlines for each in part] if isinstance(outlines, list) else []
    )
    if points and (rules.outline == "polygon" or not row.get("bbox")):
        return points
    if len(row.get("bbox") or ()) != 4:
        raise DataError(where, "has neither a bbox nor polygons", "give one")
    left, top, width, height = map(float, row["bbox"])
    right, bottom = left + width, top + height
    return [left, top, right, top, right, bottom, left, bottom]


def _categories(page: Json, where: str) -> dict[Any, str]:
    """Return the name of each category, by its id in order."""
    try:
        rows = sorted(page["categories"], key=lambda row: int(row["id"]))
        names = {row["id"]: str(row["name"]).strip() for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        problem = "has no categories, each with an id and a name"
        raise DataError(where, problem, "add them") from error
    return names


def _pages(root: Path, labels: tuple[str, ...]) -> Iterator[tuple[str | None, str, Json]]:
    """Yield split, path and content of each JSON file."""
    for split, path in find_files(root, labels, (".json",)):
        yield split, str(path), read_json(path)


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
    return (split if equals else None), path


def _split_in(stem: str) -> str | None:
    words = [word.lower() for word in re.split(r"[^A-Za-z]+", stem)]
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None
