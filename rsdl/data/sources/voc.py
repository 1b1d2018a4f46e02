"""Annotations in an XML file for each image: Pascal VOC and what grew from it.

An object is a ``bndbox``; four corners or centre, size and radians in a ``robndbox`` (DIOR-R,
roLabelImg); ``points`` (FAIR1M); or centre, size and radians of HRSC2016.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from rsdl.core.errors import DataError
from rsdl.data.sources.annotation_files import pair_labels, read_labels
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationReader,
    AnnotationRules,
    box_outline,
)
from rsdl.data.targets.corners import rectangle_corners
from rsdl.data.targets.objects import DIFFICULT

ROOTS = ("annotation", "HRSC_Image")
BOX = ("xmin", "ymin", "xmax", "ymax")
CORNERS = tuple(
    f"{axis}_{place}"
    for place in ("left_top", "right_top", "right_bottom", "left_bottom")
    for axis in "xy"
)
CENTRE = ("cx", "cy", "w", "h", "angle")
HRSC_BOX = tuple(f"box_{name}" for name in BOX)
HRSC = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")
SIZES = (("size/height", "size/width"), ("Img_SizeHeight", "Img_SizeWidth"))


def read_voc(root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()) -> AnnotatedImages:
    """Return images and objects of XML files.

    Raises:
        DataError: If a file is no XML, or an object has no class or none of the known boxes.
    """
    pairs = pair_labels(root, (".xml",), labels)
    reader = AnnotationReader(rules, rules.choose_classes(None))
    return read_labels(pairs, reader, read_voc_file, "voc")


def read_voc_file(path: Path, image: Path, reader: AnnotationReader) -> tuple[int, int] | None:
    """Add the objects of an XML file to a reader; return height and width if it states them."""
    try:
        page = ElementTree.parse(path).getroot()
    # An encoding that Python does not know is a LookupError or a ValueError.
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(str(path), f"is no XML: {error}", "replace it") from error
    elements = list(_objects(page))
    if not elements and page.tag not in ROOTS:
        problem = f"has no object, and is a <{page.tag}>, no <{ROOTS[0]}>"
        raise DataError(str(path), problem, "replace it, or choose the folder with --labels")
    for number, element in enumerate(elements, 1):
        where = f"{path}: object {number}"
        name = _text(element, "name", "possibleresult/name", "Class_ID")
        if name is None and reader.rules.single is None:
            raise DataError(where, "has no name", "name its class, or pass --single-class NAME")
        difficult = _text(element, "difficult") or "0"
        if difficult not in ("0", "1"):
            raise DataError(where, f'has difficult "{difficult}"', "use 0 or 1")
        outline = _outline(element, reader.rules, where)
        reader.add(outline, name or "", where, DIFFICULT * int(difficult))
    for names in SIZES:
        height, width = (_text(page, name) for name in names)
        if (
            height
            and width
            and height.isdecimal()
            and width.isdecimal()
            and int(height) * int(width)
        ):
            return int(height), int(width)
    return None


def _objects(page: Element) -> Iterator[Element]:
    yield from page.iter("object")
    yield from page.iter("HRSC_Object")


def _outline(element: Element, rules: AnnotationRules, where: str) -> list[float]:
    """Return the outline of an object: the oriented one, unless the rules ask for the box."""
    readers = (_robndbox, _points, _hrsc, _bndbox)
    try:
        for read in readers if rules.outline != "box" else reversed(readers):
            if (found := read(element, rules)) is not None:
                return found
    except ValueError as error:
        raise DataError(where, f"has a box with {error}", "correct it") from error
    raise DataError(where, "has no bndbox, robndbox, points or mbox", "give one of them")


def _robndbox(element: Element, rules: AnnotationRules) -> list[float] | None:
    box = element.find("robndbox")
    if box is None:
        return None
    if box.find(CENTRE[0]) is not None:
        return _rectangle([_number(box, name) for name in CENTRE])
    return [_number(box, name) for name in CORNERS]


def _points(element: Element, rules: AnnotationRules) -> list[float] | None:
    pairs = [(point.text or "").split(",") for point in element.findall("points/point")]
    if wrong := [",".join(pair) for pair in pairs if len(pair) != 2]:
        raise ValueError(f'a point "{wrong[0]}", which is not x,y')
    return [float(part) for pair in pairs for part in pair] or None


def _hrsc(element: Element, rules: AnnotationRules) -> list[float] | None:
    if element.find(HRSC[0]) is None:
        return None
    if rules.outline == "box" and element.find(HRSC_BOX[0]) is not None:
        return _upright([_number(element, name) for name in HRSC_BOX], rules)
    return _rectangle([_number(element, name) for name in HRSC])


def _bndbox(element: Element, rules: AnnotationRules) -> list[float] | None:
    box = element.find("bndbox")
    return None if box is None else _upright([_number(box, name) for name in BOX], rules)


def _upright(box: list[float], rules: AnnotationRules) -> list[float]:
    left, top, right, bottom = box
    if rules.one_based:
        left, top = left - 1, top - 1
    return box_outline(left, top, right, bottom)


def _rectangle(numbers: list[float]) -> list[float]:
    """Return the corners of a centre, width, height and angle in radians."""
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number that is not finite")
    corners: list[float] = rectangle_corners(np.array([numbers], np.float64)).ravel().tolist()
    return corners


def _number(element: Element, name: str) -> float:
    text = _text(element, name)
    if text is None:
        raise ValueError(f"no {name}")
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f'"{text}" for {name}') from error


def _text(element: Element, *names: str) -> str | None:
    """Return the text of the first of several members that has any."""
    for name in names:
        text = (element.findtext(name) or "").strip()
        if text:
            return text
    return None
