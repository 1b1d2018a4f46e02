"""The objects in an image: member ``objects.json``, four corners, a class and flags each.

Coordinates are x (to the right) and y (down) in pixels of the stored image, from the outer corner
of its first pixel. Corners may lie outside of the image: an object that a tile's edge cuts keeps
its true shape, and ``share`` tells how much of it can be seen.

A batch holds both boxes of each object, whatever a task learns: the smallest rectangle, which may
be oriented, and the upright hull of what is visible. Rows are padded to a power of two, so that a
compiled step sees few shapes.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from rsdl.core.errors import CorruptSampleError
from rsdl.core.image_size import ImageSize, height_width, show_size
from rsdl.data.tar import Member
from rsdl.data.targets.base import Choices, Content, Cut, Dihedral, Target, Window
from rsdl.data.targets.corners import (
    areas,
    box_corners,
    ends,
    is_upright,
    shares_within,
    smallest_rectangles,
)

if TYPE_CHECKING:
    from torch import Tensor

# Flags of an object; an object that a crop cut is ignored like a crowd.
DIFFICULT, IGNORED = 1, 2
MARKS = {"difficult": DIFFICULT, "crowd": IGNORED}
# Of an object's area: less is ignored in training and evaluation.
MIN_VISIBLE = 0.5

# Columns of a batch's targets, ``[B, G, WIDTH]``: centre x and y, width, height and angle of the
# smallest rectangle; left, top, right and bottom of the visible hull; label, -1 for padding; flags.
RECTANGLE, HULL, LABEL, FLAGS = slice(0, 5), slice(5, 9), 9, 10
WIDTH = 11
LEAST_ROWS = 16

COLOURS = ((230, 60, 60), (70, 200, 90), (80, 130, 250), (240, 190, 50), (200, 90, 220))


class Objects(NamedTuple):
    """The objects of an image.

    Attributes:
        corners: x and y of four corners in their order around each object, ``[N, 4, 2]`` float32.
        labels: Class indices, ``[N]`` int64.
        flags: ``DIFFICULT`` and ``IGNORED`` or'ed, ``[N]`` uint8.
        shares: Part of each object's area that the image shows, ``[N]`` float32 in ``(0, 1]``.
        size: Height and width of the image in pixels.
    """

    corners: NDArray[np.float32]
    labels: NDArray[np.int64]
    flags: NDArray[np.uint8]
    shares: NDArray[np.float32]
    size: tuple[int, int]

    def take(self, chosen: NDArray[Any]) -> "Objects":
        """Return the objects of a mask or of numbers."""
        corners, labels, flags, shares, size = self
        return Objects(corners[chosen], labels[chosen], flags[chosen], shares[chosen], size)


def make_objects(
    corners: Sequence[Any] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    size: tuple[int, int],
    flags: Sequence[int] | NDArray[Any] | None = None,
    shares: Sequence[float] | NDArray[Any] | None = None,
) -> Objects:
    """Return objects from sequences; without flags and cut by nothing where these are left out."""
    number = len(labels)
    return Objects(
        np.asarray(corners, np.float32).reshape(number, 4, 2),
        np.asarray(labels, np.int64).reshape(number),
        np.asarray(np.zeros(number) if flags is None else flags, np.uint8),
        np.asarray(np.ones(number) if shares is None else shares, np.float32),
        size,
    )


class ObjectList:
    """Objects with four corners each."""

    name = "objects"
    member = "objects.json"
    counts = "objects"
    in_index = False
    least_classes = 1
    composes = True

    def encode(self, target: Objects) -> bytes:
        """Return JSON with a list for each property, as it is read fastest.

        Where all corners are those of upright boxes, ``boxes`` stands for ``corners``; properties
        that no object has are left out. Numbers are the shortest that give the same float32.
        """
        corners = target.corners
        boxes, is_boxes = corners[:, (0, 2)].reshape(-1, 4), bool(is_upright(corners).all())
        page: dict[str, Any] = {
            "size": target.size,
            "labels": target.labels.tolist(),
            "boxes" if is_boxes else "corners": _shortest(boxes if is_boxes else corners),
        }
        for name, mark in MARKS.items():
            marked = (target.flags & mark) != 0
            page |= {name: marked.tolist()} if marked.any() else {}
        page |= {"shares": _shortest(target.shares)} if (target.shares < 1).any() else {}
        return json.dumps(page, separators=(",", ":")).encode()

    def decode(self, data: bytes, where: str) -> Objects:
        """Return the objects of a member.

        Raises:
            CorruptSampleError: If it is not as :meth:`encode` writes it.
        """
        try:
            page = from_json(data)  # in half the time of json
            height, width = map(int, page["size"])
            labels = np.array(page["labels"], np.int64)
            flags = np.zeros(len(labels), np.uint8)
            for name, mark in MARKS.items():
                if name in page:
                    flags |= np.where(np.array(page[name], bool), np.uint8(mark), np.uint8(0))
            boxes = page.get("boxes")
            corners = page["corners"] if boxes is None else box_corners(boxes)
            objects = make_objects(corners, labels, (height, width), flags, page.get("shares"))
            if len(objects.shares) != len(labels):
                raise ValueError
        except (
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            problem = "holds no sizes, labels and boxes or corners of objects that fit each other"
            raise CorruptSampleError(f"{where}.{self.member}", problem, "pack it again") from error
        if not (np.isfinite(objects.corners).all() and np.isfinite(objects.shares).all()):
            problem = "holds a corner or share that is no finite number"
            raise CorruptSampleError(f"{where}.{self.member}", problem, "pack it again")
        return objects

    def find(
        self, members: Mapping[str, Member], content: Content, where: str
    ) -> tuple[Objects, str | None]:
        """Return the objects of a sample.

        Raises:
            CorruptSampleError: If there is no list of them.
        """
        if self.member not in members:
            problem = "a sample needs its list of objects, an empty one if there are none"
            raise CorruptSampleError(where, f"has no {self.member}", problem)
        return self.decode(content(members[self.member]), where), None

    def label(self, target: Objects) -> int:
        """Return -1: objects are not one class."""
        return -1

    def problem(self, target: Objects, num_classes: int) -> str | None:
        """Return the first label that is no class, or a box without area."""
        wrong = target.labels[(target.labels < 0) | (target.labels >= num_classes)]
        if len(wrong):
            return f"one of its objects has label {wrong[0]}, which is no class"
        flat = np.flatnonzero(areas(target.corners) <= 0)
        return f"its object {flat[0]} has no area" if len(flat) else None

    def count(self, target: Objects) -> Counter[int]:
        """Return the objects of each class, without those that are ignored."""
        return Counter(target.labels[(target.flags & IGNORED) == 0].tolist())

    def allocate(self, rows: int, image_size: ImageSize) -> list[NDArray[np.float32]]:
        """Return a row without an object for each image."""
        return [np.empty((0, WIDTH), np.float32)] * rows

    def aim(self, target: Objects, choices: Choices) -> int:
        """Return the first window with the centre of an object, else the first."""
        if not len(target.labels):
            return 0
        centres = target.corners.mean(axis=1)
        for number, (top, left, tall, wide) in enumerate(choices(*target.size)):
            inside = (centres >= (left, top)) & (centres < (left + wide, top + tall))
            if inside.all(axis=1).any():
                return number
        return 0

    def crop(
        self, target: Objects, window: Window, size: tuple[int, int], image_size: ImageSize
    ) -> NDArray[np.float32]:
        """Return the rows of a batch's targets for the objects that a window shows, ``[N, WIDTH]``.

        Objects of which less than ``MIN_VISIBLE`` is seen are ignored, and not background.

        Raises:
            CorruptSampleError: If they are those of an image of another size.
        """
        (cropped,) = self.crop_all([Cut(target, window, size)], image_size)
        if isinstance(cropped, CorruptSampleError):
            raise cropped
        return np.asarray(cropped)

    def crop_all(
        self, cuts: Sequence[Cut], image_size: ImageSize
    ) -> list[Target | CorruptSampleError]:
        """Return the rows of each image, or why it has none; all at once, as images have few."""
        cropped: list[Target | CorruptSampleError] = [_misfit(cut) for cut in cuts]
        fit = [number for number, error in enumerate(cropped) if error is None]
        if not fit:
            return cropped
        targets = [cuts[number].target for number in fit]
        counts = [len(target.labels) for target in targets]
        windows = np.array([cuts[number].window for number in fit], np.float32)
        height, width = height_width(image_size)
        edge = np.array((width, height), np.float32)
        corner, scale = windows[:, None, 1::-1], edge / windows[:, None, :1:-1]
        corners = np.concatenate([target.corners for target in targets])
        corners = (corners - corner.repeat(counts, 0)) * scale.repeat(counts, 0)
        low, high = ends(corners)
        seen = shares_within(corners, low, high, height, width)
        rows = np.empty((len(corners), WIDTH), np.float32)
        rows[:, RECTANGLE] = smallest_rectangles(corners)
        rows[:, HULL.start : HULL.start + 2] = low.clip(0, edge)
        rows[:, HULL.start + 2 : HULL.stop] = high.clip(0, edge)
        rows[:, LABEL] = np.concatenate([target.labels for target in targets])
        # Corners are those of the whole object: what a tile cut away counts in both shares.
        shares = np.concatenate([target.shares for target in targets])
        hidden = np.minimum(seen, shares) < MIN_VISIBLE
        rows[:, FLAGS] = np.concatenate([target.flags for target in targets]) | (IGNORED * hidden)
        here = seen > 0
        ends_at = np.cumsum(counts).tolist()
        for number, stop, count in zip(fit, ends_at, counts, strict=True):
            mine = slice(stop - count, stop)
            cropped[number] = rows[mine][here[mine]]
        return cropped

    def collate(self, targets: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the rows of a batch, padded, ``[B, G, WIDTH]``."""
        longest = max(map(len, targets), default=0)
        number = max(LEAST_ROWS, 1 << max(longest - 1, 0).bit_length())
        padded = np.zeros((len(targets), number, WIDTH), np.float32)
        padded[..., 2:4], padded[..., 7:9], padded[..., LABEL] = 1, 1, -1
        for row, objects in zip(padded, targets, strict=True):
            row[: len(objects)] = objects
        return padded

    def draw(
        self, picture: NDArray[np.uint8], target: Objects, classes: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Return the picture with the outline of each object; of ignored ones in grey."""
        thick = max(1, round(max(picture.shape[:2]) / 400))
        for corners, label, flags in zip(*target[:3], strict=True):
            colour = (160, 160, 160) if flags & IGNORED else COLOURS[int(label) % len(COLOURS)]
            points = np.round(corners * 16).astype(np.int32)  # sixteenths of a pixel
            cv2.polylines(picture, [points], True, colour, thick, cv2.LINE_AA, shift=4)
        return picture

    def turn(self, targets: "Tensor", turned: Dihedral, image_size: ImageSize) -> "Tensor":
        """Return the targets of images that were transposed, then flipped."""
        from rsdl.data.targets.turned_objects import turn_objects

        return turn_objects(targets, turned, image_size)

    def rotate(self, targets: "Tensor", angles: "Tensor", image_size: ImageSize) -> "Tensor":
        """Return the targets of images that were turned about their centres."""
        from rsdl.data.targets.turned_objects import rotate_objects

        return rotate_objects(targets, angles, image_size)


def _misfit(cut: Cut) -> CorruptSampleError | None:
    """Return what is wrong with objects of an image of another size."""
    target, _, size = cut
    if target.size == tuple(size):
        return None
    sizes = f"{show_size(target.size)}, and it is {show_size(size)}"
    return CorruptSampleError("", f"its objects are of an image of {sizes}", "pack it again")


def _shortest(numbers: NDArray[np.float32]) -> list[Any]:
    """Return float32 numbers as the shortest decimals that stand for them, rows flattened."""
    if numbers.ndim > 2:
        numbers = numbers.reshape(len(numbers), math.prod(numbers.shape[1:]))
    rows: list[Any] = numbers.astype(str).astype(float).tolist()
    return rows
