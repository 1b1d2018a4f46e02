"""Compute the crop box of an image from its size and the sample's own random numbers.

A box that is to hold foreground is chosen among boxes of one size at several positions. Whoever
reads the target chooses (``rsdl/data/sample_loader.py``), by putting the numbers of that position
into their place. So the box remains a function of size and numbers, whoever decodes the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]

# As torchvision's RandomResizedCrop: ten tries, then the largest central box within the ratios.
NUM_TRIES = 10

# Places of a box's position among its numbers.
ROW, COLUMN = 2 * NUM_TRIES, 2 * NUM_TRIES + 1


@dataclass(frozen=True, slots=True)
class CropRule:
    """Random resized crop for training, central or whole image for evaluation.

    Attributes:
        random: Whether the box is random.
        scale: Smallest and largest share of the image's area, if random.
        ratio: Smallest and largest width over height, if random.
        central: Share of the largest central box with the aspect ratio, if not random; ``None``:
            the whole image.
        aspect: Width over height of the central box.
        foreground: Whether a random box is to hold foreground, which targets define.
    """

    random: bool = False
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    central: float | None = 1.0
    aspect: float = 1.0
    foreground: bool = False

    @property
    def num_uniforms(self) -> int:
        """Random numbers needed for one sample's box."""
        if not self.random:
            return 0
        positions = NUM_TRIES if self.foreground else 1
        return 2 * NUM_TRIES + 2 * positions


Box = tuple[int, int, int, int]


def crop_box(rule: CropRule, height: int, width: int, numbers: Sequence[float]) -> Box:
    """Return the box (top, left, height, width) of an image in pixels.

    Args:
        rule: The kind of box.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        numbers: ``rule.num_uniforms`` numbers in ``[0, 1)``.
    """
    if rule.random:
        return random_box(rule, height, width, numbers)
    return central_box(rule, height, width)


def random_box(rule: CropRule, height: int, width: int, numbers: Sequence[float]) -> Box:
    """Return a box of random area and shape (Szegedy et al. 2015, as torchvision draws it)."""
    low, high = math.log(rule.ratio[0]), math.log(rule.ratio[1])
    for attempt in range(NUM_TRIES):
        share = rule.scale[0] + numbers[2 * attempt] * (rule.scale[1] - rule.scale[0])
        ratio = math.exp(low + numbers[2 * attempt + 1] * (high - low))
        area = height * width * share
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(numbers[ROW] * (height - h + 1))
            left = int(numbers[COLUMN] * (width - w + 1))
            return top, left, h, w
    return _widest_box(rule, height, width)


def position_choices(numbers: Sequence[float]) -> list[list[float]]:
    """Return the numbers of boxes of one size at other positions, those that are given first.

    Args:
        numbers: ``rule.num_uniforms`` numbers in ``[0, 1)``.
    """
    size, positions = numbers[:ROW], numbers[ROW:]
    return [
        [*size, *positions[first : first + 2], *positions[2:]]
        for first in range(0, len(positions), 2)
    ]


def _widest_box(rule: CropRule, height: int, width: int) -> Box:
    ratio = width / height
    w, h = width, height
    if ratio < rule.ratio[0]:
        h = min(height, max(1, round(width / rule.ratio[0])))
    elif ratio > rule.ratio[1]:
        w = min(width, max(1, round(height * rule.ratio[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def central_box(rule: CropRule, height: int, width: int) -> Box:
    """Return the box around the image's center that is evaluated."""
    if rule.central is None:
        return 0, 0, height, width
    largest = min(height, width / rule.aspect)  # height of the largest box
    h = max(1, round(largest * rule.central))
    w = max(1, round(largest * rule.aspect * rule.central))
    return (height - h) // 2, (width - w) // 2, h, w


def crop_boxes(
    rule: CropRule, heights: Int64s, widths: Int64s, numbers: NDArray[np.float64]
) -> Int64s:
    """Return the boxes of many images at once, each equal to that of :func:`crop_box`.

    Args:
        rule: The kind of box.
        heights: Heights of the images in pixels, ``[N]``.
        widths: Widths of the images in pixels, ``[N]``.
        numbers: ``rule.num_uniforms`` numbers in ``[0, 1)`` for each, ``[N, K]``.

    Returns:
        Top, left, height and width of each box in pixels, ``[N, 4]``.
    """
    # One by one: for the few rows of a batch that a thread gets, columns would not be faster.
    sizes = zip(heights.tolist(), widths.tolist(), numbers.tolist(), strict=True)
    boxes = [crop_box(rule, height, width, row) for height, width, row in sizes]
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)
