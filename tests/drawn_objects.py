"""Images of rectangles at any angle, in three classes, as a source to pack."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.core.pixels import Dtype
from rsdl.data.sample import Sample, ShardPlan
from rsdl.data.targets.objects import Objects, make_objects, rectangle_corners

CLASSES = ("square", "van", "ship")
COLOURS = np.array([(220, 60, 60), (60, 200, 80), (70, 90, 230)])
ASPECTS = (1.0, 2.2, 4.0)


def draw_scene(seed: int, side: int = 128, count: int = 6) -> tuple[NDArray[np.uint8], Objects]:
    """Return an image ``[side, side, 3]`` and its objects, which do not touch each other."""
    random = np.random.default_rng(seed)
    image = cv2.GaussianBlur(random.normal(110, 18, (side, side, 3)), (5, 5), 0)
    taken = np.zeros((side, side), np.uint8)
    corners, labels = [], []
    for _ in range(50 * count):
        if len(labels) == count:
            break
        label = int(random.integers(3))
        long = random.uniform(0.16, 0.36) * side
        sides = long, long / ASPECTS[label]
        place = (*random.uniform(0.1, 0.9, 2) * side, *sides, random.uniform(-np.pi / 2, np.pi / 2))
        polygon = rectangle_corners(np.array([place]))[0]
        if polygon.min() < 1 or polygon.max() > side - 1:
            continue
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [np.round((polygon - 0.5) * 16).astype(np.int32)], 1, shift=4)
        if (cv2.dilate(mask, np.ones((5, 5), np.uint8)) & taken).any():
            continue
        taken |= mask
        image[mask > 0] = image[mask > 0] * 0.15 + COLOURS[label] * 0.85
        corners.append(polygon)
        labels.append(label)
    return image.clip(0, 255).astype(np.uint8), make_objects(corners, labels, (side, side))


class DrawnObjects:
    """A source of drawn scenes, the same ones in each split.

    Args:
        count: Images of each split.
        side: Sides of the images in pixels.
        splits: Names of the splits.
    """

    dataset, target = "drawn", "objects"
    dtype: Dtype = "uint8"
    classes: tuple[str, ...] = CLASSES
    bands: tuple[str, ...] = ("red", "green", "blue")
    left_out: dict[str, int] = {}  # noqa: RUF012

    def __init__(
        self, count: int = 8, side: int = 128, splits: tuple[str, ...] = ("train", "val", "test")
    ) -> None:
        self.count, self.side, self.splits = count, side, splits
        self.provenance: dict[str, Any] = {"source": f"drawn {count} {side}"}

    def shards(self, shard_bytes: int) -> list[ShardPlan]:
        return [
            ShardPlan(split, [(split, number) for number in range(self.count)])
            for split in self.splits
        ]

    def read(self, item: tuple[str, int]) -> Sample:
        split, number = item
        image, objects = draw_scene(number, self.side)
        encoded = cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()
        key = f"{split}-{number}"
        return Sample(key, "png", encoded, objects, {"source": f"{key}.png"}, image)
