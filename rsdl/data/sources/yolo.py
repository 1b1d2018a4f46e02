"""YOLO's labels: a text file for each image, numbers as shares of its width and height.

A line is ``class x y width height`` (centre and size of an upright box), or ``class`` and three
points or more: four corners of an oriented box, or an outline.
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from rsdl.core.errors import DataError
from rsdl.data.sources.annotation_files import pair_labels, read_labels, read_text
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationReader,
    AnnotationRules,
    box_outline,
)
from rsdl.data.sources.mask_pairs import image_size

FARTHEST_SHARE = 2.0  # an object that leaves its image lies near it
NAMES_FILES = ("classes.txt", "obj.names")


def read_yolo(root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()) -> AnnotatedImages:
    """Return images and objects of YOLO's labels.

    Classes are those of ``--classes``, of ``names`` in a ``.yaml`` or of ``classes.txt`` below the
    root, by their numbers.

    Raises:
        DataError: If there are no names of classes, or a line is wrong.
    """
    pairs = pair_labels(root, (".txt",), labels)
    names = _find_names(pairs.tree.root, rules)
    listed = tuple(names.values())
    reader = AnnotationReader(rules, rules.choose_classes(listed), listed)
    return read_labels(pairs, reader, partial(_read, names), "yolo")


def _find_names(root: Path, rules: AnnotationRules) -> dict[int, str]:
    """Return the name of each number."""
    if rules.classes is not None:
        return dict(enumerate(rules.classes))
    found = {path: names for path in _pages(root) if (names := _read_page(path))}
    if not found:
        files = (path for name in NAMES_FILES for path in sorted(root.rglob(name)))
        found = {path: _read_lines(path) for path in files}
    for first, other in pairwise(found):
        if found[first] != found[other]:
            problem = f"names other classes than {other}"
            raise DataError(str(first), problem, "remove one, or pass --classes a,b,c")
    if found:
        return next(iter(found.values()))
    problem = f"has no names of classes: neither a .yaml with names, nor {NAMES_FILES[0]}"
    raise DataError(str(root), problem, "pass --classes a,b,c")


def _pages(root: Path) -> list[Path]:
    return sorted((*root.rglob("*.yaml"), *root.rglob("*.yml")))


def _read_page(path: Path) -> dict[int, str]:
    """Return the ``names`` of a YAML file, none if it has no such field."""
    try:
        page: Any = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(str(path), f"is no YAML: {error}", "correct it") from error
    names = page.get("names") if isinstance(page, Mapping) else None
    if isinstance(names, list):
        return _texts(dict(enumerate(names)), path)
    if isinstance(names, Mapping) and all(isinstance(key, int) for key in names):
        return _texts({number: names[number] for number in sorted(names)}, path)
    return {}


def _read_lines(path: Path) -> dict[int, str]:
    """Return the names of a text file, one a line."""
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if "" in lines:
        where, problem = f"{path}:{lines.index('') + 1}", "is empty, and no name of a class"
        raise DataError(where, problem, "remove the line, or name the class of its number")
    return dict(enumerate(lines))


def _texts(names: Mapping[int, Any], path: Path) -> dict[int, str]:
    for number, name in names.items():
        if isinstance(name, bool) or not isinstance(name, str | int):
            problem = f'has "{name}" for the name of class {number}, which is no text'
            raise DataError(str(path), problem, "put it into quotes")
    return {number: str(name) for number, name in names.items()}


def _read(
    names: Mapping[int, str], path: Path, image: Path, reader: AnnotationReader
) -> tuple[int, int]:
    height, width = image_size(image)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        columns, where = line.split(), f"{path}:{number}"
        if not columns:
            continue
        try:
            label, numbers = int(columns[0]), [float(text) for text in columns[1:]]
        except ValueError as error:
            raise _refuse(where, line) from error
        if len(numbers) == 4:
            x, y, wide, tall = numbers
            if wide < 0 or tall < 0:
                raise DataError(where, f"has a box {wide:g} wide and {tall:g} high", "correct it")
            left, top, right, bottom = x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
            numbers = box_outline(left, top, right, bottom)
        elif len(numbers) < 6 or len(numbers) % 2:
            raise _refuse(where, line)
        if not all(abs(each) <= FARTHEST_SHARE for each in numbers):
            problem = f'"{line.strip()[:80]}" does not hold shares of the width and height'
            raise DataError(where, problem, "divide x by the image's width, and y by its height")
        if label not in names:
            problem = f"has class {label}, and there are names of {len(names)} classes"
            raise DataError(where, problem, "name all classes in order with --classes a,b,c")
        outline = [share * (height if place % 2 else width) for place, share in enumerate(numbers)]
        reader.add(outline, names[label], where)
    return height, width


def _refuse(where: str, line: str) -> DataError:
    problem = (
        f'"{line.strip()[:80]}" is not class x y width height, nor class x1 y1 x2 y2 x3 y3 ...'
    )
    return DataError(where, problem, "correct the line")
