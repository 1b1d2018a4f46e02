"""The objects of a scene as a table: score, size and direction on the ground.

Lengths are metres of the ground and angles are from true north, whatever the CRS. A scene without a
CRS is a picture: its objects are in pixels, and their angles from its upper edge.
"""

import csv
import io
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.predict.detect import Detections, Numbers
from rsdl.raster.georef import apply, ground_vectors
from rsdl.raster.scenes import Scene


def polygons_of(found: Detections) -> NDArray[np.object_]:
    """Return boxes as polygons of pixels, clockwise on the screen, ``[N]``."""
    return np.asarray(shapely.polygons(found.corners), object)


def columns_of(found: Detections, scene: Scene, *, oriented: bool) -> dict[str, NDArray[Any]]:
    """Return what is said of each object, its class apart.

    Args:
        found: The objects.
        scene: Where they are.
        oriented: Whether boxes have an angle.

    Returns:
        ``score``; ``length_m`` and ``width_m``, the longer and the shorter side; and
        ``angle_deg`` of oriented boxes, the direction of the longer side clockwise from true north,
        0 to 180. Without a CRS ``length_px`` and ``width_px``, and the angle is from the upper
        edge of the picture.

    Raises:
        DataError: If an object lies nowhere on Earth.
    """
    sides = _sides(found.boxes, scene)  # [2, N, 2]
    lengths = np.hypot(*np.moveaxis(sides, 2, 0))  # [2, N]
    longer = lengths.argmax(axis=0)
    unit = "px" if scene.crs is None else "m"
    columns = {
        "score": found.scores.round(4),
        f"length_{unit}": lengths.max(axis=0).round(2),
        f"width_{unit}": lengths.min(axis=0).round(2),
    }
    if oriented:
        east, north = np.take_along_axis(sides, longer[None, :, None], axis=0)[0].T
        columns["angle_deg"] = np.degrees(np.arctan2(east, north)).round(1) % 180
    return columns


def to_csv(found: Detections, columns: dict[str, NDArray[Any]], classes: tuple[str, ...]) -> bytes:
    """Return the objects of a scene without a CRS: a header, and a line each, in pixels.

    Args:
        found: The objects; corners are x1, y1 to x4, y4, from the outer corner of the first pixel.
        columns: ``class``, and those of :func:`columns_of`.
        classes: Names of the classes.
    """
    corners = found.corners.reshape(-1, 8).round(2)
    names = [f"{axis}{number}" for number in range(1, 5) for axis in "xy"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *columns, *names])
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    labels = found.labels.tolist()
    for label, said, places in zip(labels, rows, corners.tolist(), strict=True):
        writer.writerow([classes[label], *said, *places])
    return text.getvalue().encode()


def _sides(boxes: Numbers, scene: Scene) -> Numbers:
    """Return how far east and north each side reaches: width and height of boxes, ``[2, N, 2]``."""
    x, y, width, height, angle = boxes.T
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * width[:, None]
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=-1) * height[:, None]
    if scene.crs is None:
        return np.stack([along, across]) * (1, -1)
    middle = np.stack([x, y], axis=-1)
    sides = []
    for side in (along, across):
        ends = np.stack([middle - side / 2, middle + side / 2])
        moved = ground_vectors(apply(scene.transform, ends), scene.crs)
        if moved is None:
            problem = "has objects that lie nowhere on Earth"
            raise DataError(str(scene.path), problem, "set its CRS")
        sides.append(moved[0])
    return np.stack(sides)
