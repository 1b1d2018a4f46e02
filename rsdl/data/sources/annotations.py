"""What readers of published annotations have in common: objects of an image, with their classes.

A reader finds images and their annotations, and adds each object to an :class:`AnnotationReader`,
which checks its class and turns its outline into four corners. All annotations are read before
anything is packed, so that a wrong one is reported at once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, DataError
from rsdl.data.sources.listing import Tree
from rsdl.data.targets.corners import rectangle_corners, smallest_rectangles

# In square pixels: what is smaller is a line or a point.
LEAST_AREA = 1e-3
FARTHEST = 1e6  # px


class Annotations(NamedTuple):
    """The objects of an image, in the order of their file.

    Attributes:
        corners: x and y of four corners in pixels of the whole image, ``[N, 4, 2]`` float32.
        names: Name of the class of each.
        flags: ``DIFFICULT`` and ``IGNORED`` of :mod:`rsdl.data.targets.objects`, ``[N]`` uint8.
    """

    corners: NDArray[np.float32]
    names: tuple[str, ...]
    flags: NDArray[np.uint8]


class AnnotatedImages(NamedTuple):
    """Images with their objects.

    Attributes:
        tree: The images; those that were left out are counted in it.
        objects: The objects of each image, by its path.
        classes: Names of the classes that the format lists; ``None`` if it lists none.
        layout: Name of the format.
        sizes: Height and width in pixels that annotations state, by the image's path.
    """

    tree: Tree
    objects: Mapping[str, Annotations]
    classes: tuple[str, ...] | None
    layout: str
    sizes: Mapping[str, tuple[int, int]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationRules:
    """Which objects are taken, and by which names.

    Attributes:
        classes: Names of the classes, in order; ``None`` takes the format's, or all that occur.
        ignore: Names of classes whose objects are left out.
        single: Name of the one class that all objects get; ``None`` keeps their own.
        keep_unlabelled: Whether an image without annotations is one without objects; otherwise it
            is left out.
        outline: What is taken where a format gives both an upright box and an outline; ``None``:
            of COCO the box, since its outlines are masks, of VOC the outline.
        class_from: Attribute of an object that is its class, where it has several.
        one_based: Whether the first pixel has number 1, and a box includes its last one.
        spellings: Classes by other spellings of their names, in lower case letters and digits.
        remedy: What to do about a class that is not among ``classes``; ``None``: to name it.
    """

    classes: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    single: str | None = None
    keep_unlabelled: bool = False
    outline: Literal["box", "polygon"] | None = None
    class_from: str | None = None
    one_based: bool = False
    spellings: Mapping[str, str] = field(default_factory=dict)
    remedy: str | None = None

    def choose_classes(self, listed: Sequence[str] | None) -> tuple[str, ...] | None:
        """Return the classes of a data set whose format lists some."""
        if self.single is not None:
            return (self.single,)
        if self.classes is not None or listed is None:
            return self.classes
        return tuple(name for name in listed if name not in self.ignore)


@dataclass(slots=True)
class AnnotationReader:
    """Collects the objects of one image after the other.

    Attributes:
        rules: Which objects are taken.
        classes: The classes that there are; ``None`` admits any.
        listed: The classes that the format lists.
        left_out: Objects and files that were left out, by reason.
    """

    rules: AnnotationRules
    classes: tuple[str, ...] | None
    listed: Sequence[str] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    _rows: list[tuple[NDArray[np.float32], str, int]] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def add(self, outline: Sequence[float], name: str, where: str, flags: int = 0) -> None:
        """Add an object.

        Args:
            outline: x and y of the points of its outline in turn, in pixels of the image.
            name: Name of its class.
            where: File and line, or number, of the object, for errors.
            flags: Its flags.

        Raises:
            DataError: If its class is unknown, or the outline is not three points or more.
        """
        self._names.add(name)
        if name in self.rules.ignore:
            self.left_out["objects of ignored classes"] += 1
            return
        name = self.rules.single or self.rules.spellings.get(plain_spelling(name), name)
        if self.classes is not None and name not in self.classes:
            known = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
            remedy = self.rules.remedy or f'name it in --classes, or pass --ignore "{name}"'
            raise DataError(where, f'has an object of class "{name}", not one of {known}', remedy)
        corners = to_corners(outline, where)
        if corners is None:
            self.left_out["objects without area"] += 1
        else:
            self._rows.append((corners, name, flags))

    def check_ignored(self) -> None:
        """Raise a ``ConfigError`` if a class to ignore is that of no object, and not listed."""
        known = sorted({*self._names, *self.listed} - {""})
        for name in self.rules.ignore:
            if name not in known:
                shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
                raise ConfigError("--ignore", f'no object is of class "{name}"', f"use {shown}")

    def take(self) -> Annotations:
        """Return the objects that were added since the last call."""
        rows, self._rows = self._rows, []
        corners = np.array([row[0] for row in rows], np.float32).reshape(-1, 4, 2)
        flags = np.array([row[2] for row in rows], np.uint8)
        return Annotations(corners, tuple(row[1] for row in rows), flags)


def box_outline(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Return the four corners of an upright box, one after the other."""
    return [left, top, right, top, right, bottom, left, bottom]


def plain_spelling(name: str) -> str:
    """Return the letters and digits of a name in lower case, by which spellings are compared."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def to_corners(outline: Sequence[float], where: str) -> NDArray[np.float32] | None:
    """Return four corners around an outline, ``[4, 2]``, or ``None`` if it has no area.

    Four corners stay as they are, in an order that does not cross itself; of more points the
    smallest rectangle is taken, unless four of them span it all.

    Args:
        outline: x and y of each point in turn, in pixels.
        where: The object, for errors.

    Raises:
        DataError: If it is not three points or more of finite numbers.
    """
    if len(outline) == 8 and _is_convex(outline):
        return np.array(outline, np.float32).reshape(4, 2)
    numbers = np.asarray(outline, np.float64)
    if len(numbers) < 6 or len(numbers) % 2 or not (np.abs(numbers) <= FARTHEST).all():
        problem = "has an object whose outline is not three or more points in pixels"
        raise DataError(where, problem, "correct it")
    points = numbers.reshape(-1, 2)
    if len(points) > 4 and (points[0] == points[-1]).all():
        points = points[:-1]
    # Relative to the first point: far from the origin float32 has no digits left for an area.
    near = (points - points[0]).astype(np.float32)
    hull = np.asarray(cv2.convexHull(near), np.float32).reshape(-1, 2)
    if len(hull) < 3 or cv2.contourArea(hull) < LEAST_AREA:
        return None
    if len(points) == 4 and (len(hull) < 4 or not _crosses(points)):
        return points.astype(np.float32)
    if len(hull) != 4:
        hull = rectangle_corners(smallest_rectangles(hull[None]))[0]
    corners: NDArray[np.float64] = hull + points[0]
    return corners.astype(np.float32)


def _is_convex(outline: Sequence[float]) -> bool:
    """Return whether four corners are in order around an area; NumPy takes ten times as long."""
    if not all(-FARTHEST <= number <= FARTHEST for number in outline):
        return False
    x0, y0, x1, y1, x2, y2, x3, y3 = outline
    turns = (
        (x1 - x0) * (y2 - y1) - (y1 - y0) * (x2 - x1),
        (x2 - x1) * (y3 - y2) - (y2 - y1) * (x3 - x2),
        (x3 - x2) * (y0 - y3) - (y3 - y2) * (x0 - x3),
        (x0 - x3) * (y1 - y0) - (y0 - y3) * (x1 - x0),
    )
    area = abs((x2 - x0) * (y3 - y1) - (y2 - y0) * (x3 - x1)) / 2
    return area >= LEAST_AREA and (min(turns) > 0 or max(turns) < 0)


def _crosses(points: NDArray[np.float64]) -> bool:
    """Return whether four points in convex position are in an order that crosses itself."""
    edges = np.roll(points, -1, axis=0) - points
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    return bool((turns > 0).any() and (turns < 0).any())
