"""Scenes of painted rectangles, and a detector that finds them exactly in the pixels."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from rsdl.data.targets.objects import rectangle_corners
from tests.unit.predict.scenes import PLACE

NUM_CLASSES = 3


def scatter(
    size: tuple[int, int], longest: int, *, step: int, oriented: bool, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return boxes ``[N, 5]`` apart, one near each place of a grid, and their labels."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[step // 2 : size[0] : step, step // 2 : size[1] : step].reshape(2, -1)
    number, room = len(row), (step - longest * 1.2) / 2
    boxes = np.stack(
        [
            col + rng.uniform(-room, room, number),
            row + rng.uniform(-room, room, number),
            rng.uniform(0.7, 1, number) * longest,
            rng.uniform(0.2, 0.5, number) * longest,
            rng.uniform(0, np.pi, number) if oriented else np.zeros(number),
        ],
        axis=1,
    ).astype(np.float32)
    return boxes, rng.integers(0, NUM_CLASSES, number)


def paint(
    size: tuple[int, int], boxes: NDArray[Any], labels: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Return an image ``[H, W, 3]``: 1, and in boxes 50 more than the label in each band."""
    image = np.ones((*size, 3), np.uint8)
    for corners, label in zip(rectangle_corners(boxes), labels.tolist(), strict=True):
        cv2.fillPoly(image, [np.round(corners - 0.5).astype(np.int32)], (50 + label,) * 3)
    return image


def find_boxes(windows: NDArray[Any], *, oriented: bool = True) -> list[NDArray[np.float64]]:
    """Return the smallest rectangle around each painted box, cut ones as they are seen.

    The score of a box is its area, so that a cut one has another than the whole one.
    """
    found = []
    for window in windows:
        mask = (window[..., 0] >= 50).astype(np.uint8)
        count, places = cv2.connectedComponents(mask)
        rows = []
        for number in range(1, count):
            row, col = np.nonzero(places == number)
            pixels = np.stack([col, row], 1)[:, None] + [[0, 0], [1, 0], [1, 1], [0, 1]]
            points = pixels.reshape(-1, 2)
            low, high = points.min(axis=0), points.max(axis=0)
            box = [*(low + high) / 2, *(high - low), 0.0]
            if oriented:
                # Around the middle: float32 then sees the same points wherever the window lies.
                middle = np.floor(points.min(axis=0))
                (x, y), (w, h), turn = cv2.minAreaRect((points - middle).astype(np.float32))
                box = [x + middle[0], y + middle[1], w, h, np.radians(turn)]
            score = min(len(row) / 1000, 1)
            rows.append([*box, score, window[row[0], col[0], 0] - 50])
        found.append(np.array(rows, np.float64).reshape(-1, 7))
    return found


def write_scene(
    path: Path,
    image: NDArray[np.uint8],
    *,
    crs: str | None = "EPSG:32633",
    place: Affine = PLACE,
    nodata: int | None = None,
) -> Path:
    """Write an image as a scene."""
    profile = {} if crs is None else {"crs": crs, "transform": place}
    driver = {".png": "PNG", ".jpg": "JPEG"}.get(path.suffix, "GTiff")
    with rasterio.open(
        path, "w", driver=driver, dtype="uint8", count=3, nodata=nodata,
        height=image.shape[0], width=image.shape[1], **profile,
    ) as raster:  # fmt: skip
        raster.write(np.moveaxis(image, 2, 0))
    return path
