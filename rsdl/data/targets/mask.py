"""A class index for each pixel: member ``mask.png``, 8-bit grey; 255 counts for nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.core.errors import CorruptSampleError
from rsdl.core.image_size import ImageSize, height_width
from rsdl.data.tar import Member
from rsdl.data.targets.base import Choices, Content, Cut, Dihedral, Target, Window, crop_each

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
MAX_CLASSES = 255
MIN_FOREGROUND = 0.25
# Of a drawn class: as many hues as classes, so that neighbours in a table differ.
OPACITY = 0.45
FLOAT_EXACT = 1 << 24  # OpenCV counts in float32, in half of NumPy's time
UNFILTERED = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)
PNG_HEADER = b"\x89PNG\r\n\x1a\n"

Classes = NDArray[np.uint8]


class Mask:
    """Class indices ``[H, W]`` uint8 of the image's size; 255 is ignored."""

    name = "mask"
    member = "mask.png"
    counts = "pixels"
    in_index = False
    least_classes = 2
    composes = False

    def encode(self, target: Classes) -> bytes:
        """Return an 8-bit grey PNG, without PNG's filters.

        Classes have no gradients to predict: filtered, a mask is larger, and takes twice as long to
        decode.
        """
        done, data = cv2.imencode(".png", target, UNFILTERED)
        assert done
        return data.tobytes()

    def decode(self, data: bytes, where: str) -> Classes:
        """Return the class indices of a PNG.

        Raises:
            CorruptSampleError: If it is not a PNG of 8-bit grey.
        """
        mask = None
        if data.startswith(PNG_HEADER):
            mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
            what = "is damaged" if mask is None else f"has shape {mask.shape} of {mask.dtype}"
            raise CorruptSampleError(
                f"{where}.{self.member}", f"{what}; a mask is a PNG of 8-bit grey", "pack it again"
            )
        return mask.astype(np.uint8, copy=False)

    def find(
        self, members: Mapping[str, Member], content: Content, where: str
    ) -> tuple[Classes, str | None]:
        """Return the mask of a sample.

        Raises:
            CorruptSampleError: If there is none.
        """
        if self.member not in members:
            raise CorruptSampleError(where, f"has no {self.member}", "a sample needs its mask")
        return self.decode(content(members[self.member]), where), None

    def label(self, target: Classes) -> int:
        """Return -1: a mask is not one class."""
        return -1

    def problem(self, target: Classes, num_classes: int) -> str | None:
        """Return the smallest value that is neither a class nor 255."""
        wrong = target[(target >= num_classes) & (target != IGNORE)]
        return f"its mask holds {wrong.min()}, which is no class" if wrong.size else None

    def count(self, target: Classes) -> Counter[int]:
        """Return the pixels of each class."""
        counts = count_pixels(target)
        return Counter({int(label): int(counts[label]) for label in np.flatnonzero(counts)})

    def allocate(self, rows: int, image_size: ImageSize) -> Classes:
        """Return masks that ignore every pixel, ``[B, H, W]``."""
        return np.full((rows, *height_width(image_size)), IGNORE, np.uint8)

    def aim(self, target: Classes, choices: Choices) -> int:
        """Return the first window of which the commonest class holds less than three quarters.

        Foreground is what is not of the window's commonest class, so that any class can be the
        background. Of ten random crops mmsegmentation takes the first whose commonest class holds
        less than a share, ``cat_max_ratio``, 0.75 in its recipes, or the last. If none does, this
        takes the one with most foreground, the first of equals. Ignored pixels do not count.
        """
        best, most = 0, -1.0
        for number, (top, left, height, width) in enumerate(choices(*target.shape)):
            found = foreground(target[top : top + height, left : left + width])
            if found > MIN_FOREGROUND:
                return number
            if found > most:
                best, most = number, found
        return best

    def crop(
        self, target: Classes, window: Window, size: tuple[int, int], image_size: ImageSize
    ) -> Classes:
        """Return the mask of a window, resized to ``image_size`` by the nearest pixel.

        Raises:
            CorruptSampleError: If the mask has another shape than its image.
        """
        if target.shape != size:
            problem = f"its mask is {_show(target.shape)} and its image {_show(size)}"
            raise CorruptSampleError("", problem, "pack it again")
        top, left, height, width = window
        return _resize(target[top : top + height, left : left + width], height_width(image_size))

    def crop_all(
        self, cuts: Sequence[Cut], image_size: ImageSize
    ) -> list[Target | CorruptSampleError]:
        """Return the cropped target of each image, or why it has none."""
        return crop_each(self, cuts, image_size)

    def collate(self, targets: Classes) -> Classes:
        """Return the masks of a batch, ``[B, H, W]``."""
        return targets

    def draw(
        self, picture: NDArray[np.uint8], target: Classes, classes: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Return the picture with each class in its own colour over it."""
        mask = target if target.shape == picture.shape[:2] else _resize(target, picture.shape[:2])
        return overlay(picture, mask, len(classes))

    def turn(self, targets: "Tensor", turned: Dihedral, image_size: ImageSize) -> "Tensor":
        """Return the masks of images that were flipped and transposed."""
        from rsdl.data.dihedral import apply_dihedral

        return apply_dihedral(targets[..., None], *turned)[..., 0]

    def rotate(self, targets: "Tensor", angles: "Tensor", image_size: ImageSize) -> "Tensor":
        """Return the masks of images that were turned about their centres.

        Each pixel is the nearest one; those from outside of the image are ignored.
        """
        from rsdl.data.rotation import rotate

        shifted = targets[:, None].float() - IGNORE  # what comes in from outside is 0
        return (rotate(shifted, angles, mode="nearest")[:, 0] + IGNORE).to(targets.dtype)


def count_pixels(mask: Classes) -> NDArray[np.int64]:
    """Return the pixels of each class but 255, ``[255]``."""
    if mask.size > FLOAT_EXACT:
        return np.bincount(mask.reshape(-1), minlength=IGNORE + 1)[:IGNORE]
    counts = cv2.calcHist([mask], [0], None, [IGNORE + 1], [0, IGNORE + 1])
    return counts.astype(np.int64).ravel()[:IGNORE]


def foreground(mask: Classes) -> float:
    """Return the share of the labelled pixels of a mask that are not of its commonest class."""
    counts = count_pixels(mask)
    labelled = float(counts.sum())
    return 1 - float(counts.max()) / labelled if labelled else 0.0


def overlay(
    picture: NDArray[np.uint8], mask: Classes, num_classes: int, opacity: float = OPACITY
) -> NDArray[np.uint8]:
    """Return a picture with the colours of a mask over it; ignored pixels stay as they are.

    Args:
        picture: ``[H, W, 3]``.
        mask: ``[H, W]``.
        num_classes: Classes of the data set.
        opacity: Share of the class's colour.
    """
    colours = class_colours(num_classes)[np.minimum(mask, num_classes - 1)]
    mixed = np.rint(picture * (1 - opacity) + colours * opacity).astype(np.uint8)
    return np.where((mask == IGNORE)[..., None], picture, mixed)


def class_colours(num_classes: int) -> NDArray[np.uint8]:
    """Return a colour of red, green and blue for each class, ``[C, 3]``.

    Hues are a golden angle apart, so that any first few are far from each other, and turn darker
    and lighter in steps of three.
    """
    numbers = np.arange(num_classes)
    hsv = np.stack(
        ((numbers * 111.25 + 10) % 180, 200 - numbers // 3 % 2 * 60, 235 - numbers % 3 * 45), axis=1
    )
    rgb = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)
    return np.asarray(rgb[0], np.uint8)


def _resize(mask: Classes, size: tuple[int, ...]) -> Classes:
    """Return a mask of another size; each pixel is the nearest one, centre to centre."""
    if mask.shape == size:
        return mask
    resized = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return resized.astype(np.uint8, copy=False)


def _show(size: tuple[int, ...]) -> str:
    return f"{size[0]} x {size[1]} px"
