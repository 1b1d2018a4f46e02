"""One class for a whole image: member ``cls``, a number in ASCII; the index holds it, too."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError, DataError
from rsdl.core.image_size import ImageSize
from rsdl.data.tar import Member
from rsdl.data.targets.base import Choices, Content, Cut, Dihedral, Target, Window, crop_each

if TYPE_CHECKING:
    from torch import Tensor

# A larger number is treated as an error: every class needs a name, a weight and a row of the
# confusion matrix.
MAX_CLASSES = 1_000_000
WHOLE = re.compile(r"(?<=\d)\.0+$")  # 1.0 is 1
_UNTOLD = object()


class ClassIndex:
    """A class index from 0, the same wherever the image is cropped or turned."""

    name = "class_index"
    member = "cls"
    counts = "samples"
    in_index = True
    least_classes = 2
    composes = False

    def encode(self, target: int) -> bytes:
        """Return the number in ASCII."""
        return b"%d" % target

    def decode(self, data: bytes, where: str) -> int:
        """Return the number that a ``cls`` member holds."""
        return _parse(data.decode("ascii", "replace").strip(), where)

    def find(
        self, members: Mapping[str, Member], content: Content, where: str
    ) -> tuple[int, str | None]:
        """Return the class index from ``cls`` or ``json``, and the class name if ``json`` has one.

        Raises:
            CorruptSampleError: If there is none.
            DataError: If ``json`` is not JSON.
        """
        page: object = {}
        if "json" in members:
            try:
                page = json.loads(content(members["json"]))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}.json", "is not JSON") from error
        facts = page if isinstance(page, dict) else {}
        told = next((facts[key] for key in ("class", "class_name") if key in facts), _UNTOLD)
        if self.member in members:
            label = self.decode(content(members[self.member]), where)
        else:
            label = _parse(facts.get("label", facts.get("cls")), where)
        if told is _UNTOLD:
            return label, None
        # null and NaN become text, which the check of class names rejects.
        return label, told if isinstance(told, str) else json.dumps(told)

    def label(self, target: int) -> int:
        """Return the class index itself."""
        return target

    def problem(self, target: int, num_classes: int) -> str | None:
        """Return that a class index is not below the number of classes."""
        return None if 0 <= target < num_classes else f"label {target} is out of range"

    def count(self, target: int) -> Counter[int]:
        """Return one sample of the class."""
        return Counter((target,))

    def allocate(self, rows: int, image_size: ImageSize) -> NDArray[np.int64]:
        """Return an array of class indices, ``[B]``."""
        return np.zeros(rows, dtype=np.int64)

    def aim(self, target: int, choices: Choices) -> int:
        """Return the first window: the class is that of the whole image."""
        return 0

    def crop(
        self, target: int, window: Window, size: tuple[int, int], image_size: ImageSize
    ) -> int:
        """Return the class index; a part of the image has the same."""
        return target

    def crop_all(
        self, cuts: Sequence[Cut], image_size: ImageSize
    ) -> list[Target | CorruptSampleError]:
        """Return the cropped target of each image, or why it has none."""
        return crop_each(self, cuts, image_size)

    def collate(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return class indices, ``[B]``."""
        return targets

    def draw(
        self, picture: NDArray[np.uint8], target: int, classes: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Return the picture as it is: the class is the caption of its row."""
        return picture

    def turn(self, targets: "Tensor", turned: Dihedral, image_size: ImageSize) -> "Tensor":
        """Return the class indices; a turned image has the same."""
        return targets

    def rotate(self, targets: "Tensor", angles: "Tensor", image_size: ImageSize) -> "Tensor":
        """Return the class indices; a turned image has the same."""
        return targets


def _parse(text: object, where: str) -> int:
    try:
        label = int(WHOLE.sub("", str(text)))
        if not 0 <= label < MAX_CLASSES:
            raise ValueError
    except ValueError as error:
        raise CorruptSampleError(
            f"{where}.cls",
            f"label {text!r} is not a class index" if text is not None else "has no label",
            "a sample needs a cls member with a number from 0",
        ) from error
    return label
