"""Preview imagery: convert any bands and type to small RGB pictures."""

import base64
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsdl.core.bands import find_rgb
from rsdl.data.dataset import SplitData
from rsdl.data.manifest import Manifest
from rsdl.data.targets import KINDS

GAP = 6


def rgb_bands(bands: Sequence[str]) -> tuple[int, int, int]:
    """Return the bands to show as red, green and blue: by name if known, else the first ones."""
    return find_rgb(bands) or ((0, 1, 2) if len(bands) >= 3 else (0, 0, 0))


def to_rgb(pixels: NDArray[Any], manifest: Manifest) -> NDArray[np.uint8]:
    """Return pixels as RGB, ``[H, W, C] -> [H, W, 3]``.

    8-bit colours are unchanged; other types are stretched from two standard deviations below the
    dataset's mean to two above.
    """
    chosen = list(rgb_bands(manifest.bands))
    picture = pixels[:, :, chosen]
    if manifest.dtype == "uint8":
        return np.ascontiguousarray(picture)
    mean, std = np.array(manifest.mean)[chosen], np.array(manifest.std)[chosen]
    low = mean - 2 * std
    span = np.where(std > 0, 4 * std, 1.0)
    return np.ascontiguousarray((np.clip((picture - low) / span, 0, 1) * 255).astype(np.uint8))


def read_pictures(
    data: SplitData, samples: Sequence[int], side: int, *, targets: bool = False
) -> list[NDArray[np.uint8] | None]:
    """Return samples as RGB pictures, ``None`` for corrupt ones.

    Args:
        data: The split.
        samples: Sample numbers.
        side: Most pixels along the longer side.
        targets: Whether to draw the target on each picture.
    """
    pictures: list[NDArray[np.uint8] | None] = []
    manifest, kind = data.manifest, KINDS[data.manifest.target]
    with closing(data.open_reader(shrink=False)) as reader:
        for sample in samples:
            try:
                picture = to_rgb(reader.pixels(reader.locate(sample)), manifest)
                if targets:
                    picture = kind.draw(picture, reader.target(sample, kind), manifest.classes)
            except Exception:  # a report shows the samples that can be read
                pictures.append(None)
                continue
            pictures.append(shrink(picture, side))
    return pictures


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a picture whose longer side is at most ``side``."""
    factor = side / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def encode_jpeg(picture: NDArray[np.uint8], quality: int = 85) -> bytes:
    """Return an RGB picture as JPEG."""
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Return an RGB picture as a ``data:`` URI of a JPEG."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode_jpeg(picture)).decode()}"


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture as PNG."""
    _, data = cv2.imencode(".png", picture[:, :, ::-1])
    return data.tobytes()


def contact_sheet(data: SplitData, *, columns: int = 8, side: int = 96) -> NDArray[np.uint8]:
    """Return one sheet with samples of every class and their targets, one labelled row per class.

    Where the target is not one class, all samples share one row.

    Args:
        data: The split to show.
        columns: Samples of each class.
        side: Side of one picture in pixels.
    """
    labels = data.index.labels
    rows = []
    # The index holds -1 where a target is not one class.
    for label, name in [(-1, "samples"), *enumerate(data.manifest.classes)]:
        members = np.flatnonzero(labels == label)
        if not len(members):
            continue
        chosen = members[np.linspace(0, len(members) - 1, min(columns, len(members))).astype(int)]
        pictures = read_pictures(data, chosen.tolist(), side, targets=True)
        rows.append(_row(name, pictures, columns, side))
    return np.concatenate(rows) if rows else np.full((side, side, 3), 255, np.uint8)


def _row(
    name: str, pictures: Sequence[NDArray[np.uint8] | None], columns: int, side: int
) -> NDArray[np.uint8]:
    left = 180
    row = np.full((side + GAP, left + columns * (side + GAP), 3), 255, np.uint8)
    text = name if len(name) <= 22 else name[:21] + "~"
    place = (8, side // 2 + 5)
    cv2.putText(row, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (30, 30, 30), 1, cv2.LINE_AA)
    for number, picture in enumerate(pictures):
        if picture is None:
            continue
        height, width = picture.shape[:2]
        x = left + number * (side + GAP)
        row[GAP // 2 : GAP // 2 + height, x : x + width] = picture
    return row
