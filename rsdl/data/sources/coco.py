"""COCO's annotations: one JSON file for all images of a split."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsdl.core.errors import DataError
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationReader,
    AnnotationRules,
    box_outline,
)
from rsdl.data.sources.json_annotations import Json, JsonImages, find_files, read_json
from rsdl.data.targets.objects import DIFFICULT, IGNORED


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
    for _, where, page in pages:
        listed |= dict.fromkeys(_categories(page, where, rules).values())
    own = None if rules.class_from else tuple(listed)
    reader = AnnotationReader(rules, rules.choose_classes(own), tuple(listed))
    for split, where, page in pages:
        try:
            _read_page(page, where, split, images, reader)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            problem = f"is not as COCO's annotations: {type(error).__name__} {error}"
            raise DataError(where, problem, "export it again") from error
    return images.done(reader, "coco")


def _read_page(
    page: Json, where: str, split: str | None, images: JsonImages, reader: AnnotationReader
) -> None:
    names = _categories(page, where, reader.rules)
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
            ignored = _mark(each, "iscrowd", place) or _mark(each, "ignore", place)
            flags = IGNORED * ignored | DIFFICULT * _mark(each, "difficult", place)
            reader.add(outline, name, place, flags)
        size = (int(row.get("height") or 0), int(row.get("width") or 0))
        images.set(file, reader.take(), where, split, size if min(size) else None)


def _name(row: Json, names: Mapping[Any, str], rules: AnnotationRules, where: str) -> str:
    if rules.class_from is not None:
        return attribute({**row, **(row.get("attributes") or {})}, rules.class_from, where)
    if rules.single is not None and not rules.ignore:
        return rules.single
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


def _mark(row: Json, name: str, where: str) -> bool:
    value = row.get(name)
    if value not in (None, 0, 1):  # True and False are 1 and 0
        raise DataError(where, f'has {name} "{value}"', "use 0 or 1")
    return bool(value)


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
    if width < 0 or height < 0:
        problem = f"has a bbox {width:g} wide and {height:g} high"
        raise DataError(where, problem, "give left, top, width and height")
    return box_outline(left, top, left + width, top + height)


def _categories(page: Json, where: str, rules: AnnotationRules) -> dict[Any, str]:
    """Return the name of each category, by its id in order; none if the rules need no names."""
    if rules.class_from is not None or (rules.single is not None and not rules.ignore):
        return {}
    try:
        rows = sorted(page["categories"], key=lambda row: int(row["id"]))
        names = {row["id"]: str(row["name"]).strip() for row in rows}
        ids = Counter(row["id"] for row in rows)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        problem = "has no categories, each with an id and a name"
        raise DataError(where, problem, "add them") from error
    if twice := [number for number, times in ids.items() if times > 1]:
        raise DataError(where, f"has two categories of id {twice[0]}", "number the categories")
    return names


def _pages(root: Path, labels: tuple[str, ...]) -> Iterator[tuple[str | None, str, Json]]:
    """Yield split, path and content of each JSON file."""
    for split, path in find_files(root, labels, (".json",)):
        yield split, str(path), read_json(path)
