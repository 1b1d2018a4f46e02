"""Open the labels at a path that the user gives, and check that they overlap the scenes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.raster.class_raster import RasterLabels
from rsdl.raster.dataset_pool import DatasetPool
from rsdl.raster.georef import Floats, apply, bounding_box, outline, project
from rsdl.raster.rasterize import LabelRules, Labels, PolygonLabels
from rsdl.raster.scenes import Scene
from rsdl.raster.vectors import SUFFIXES


class OnGround(Protocol):
    """What has a place on the ground and in scenes; see :class:`rsdl.raster.rasterize.Labels`."""

    @property
    def extent(self) -> tuple[Floats, rasterio.CRS]:
        """Bounding box (x0, y0, x1, y1), and its CRS."""
        ...

    def boxes(self, scene: int) -> Floats:
        """Return the boxes (top, left, bottom, right) in pixels of a scene."""
        ...


def open_labels(
    path: Path, rules: LabelRules, scenes: Sequence[Scene], pool: DatasetPool
) -> Labels:
    """Return the labels at a path.

    Args:
        path: A vector file of polygons, or else a class raster or a folder of them.
        rules: The user's options for the labels.
        scenes: The scenes to label.
        pool: Pool of open files for each thread.

    Raises:
        DataError: If the labels cannot be read or overlap no scene.
        ConfigError: If the options do not fit the labels.
    """
    labels: Labels
    if path.suffix.lower() in SUFFIXES:
        labels = PolygonLabels(path, rules, scenes)
    else:
        labels = RasterLabels(path, rules, scenes, pool)
    check_inside(labels, path, scenes)
    return labels


def check_inside(labels: OnGround, path: Path, scenes: Sequence[Scene]) -> None:
    """Check that labels lie in at least one scene.

    Raises:
        DataError: If they lie in none.
    """
    if not any(len(labels.boxes(number)) for number in range(len(scenes))):
        raise outside_error(str(path), "labels", *labels.extent, scenes)


def outside_error(
    where: str, what: str, box: Floats, crs: rasterio.CRS, scenes: Sequence[Scene]
) -> DataError:
    """Return the error for something on the ground that lies in no scene.

    Args:
        where: Its file, or the option.
        what: What it is, in the plural.
        box: Box (x0, y0, x1, y1) around it.
        crs: CRS of the box.
        scenes: The scenes.
    """
    ground = _extent(scenes, crs)
    place = f"{scenes[0].crs.to_string()}, outside of it" if ground is None else _text(ground)
    remedy = f'give {what} of this area; GeoJSON without "crs" is longitude, latitude'
    if ground is not None and _meet(box[[1, 0, 3, 2]], ground):
        remedy = "their axes look swapped: write x (longitude) before y (latitude)"
    covers = f"the {what} cover {_text(box)} in {crs.to_string()}"
    return DataError(where, f"{covers}, but the scenes lie in {place}", remedy)


def _extent(scenes: Sequence[Scene], crs: rasterio.CRS) -> NDArray[np.float64] | None:
    """Return the box around all scenes in ``crs``, ``None`` if they cannot be projected to it."""
    edges = (
        project(apply(scene.transform, outline(scene.height, scene.width)), scene.crs, crs)
        for scene in scenes
    )
    known = [bounding_box(edge) for edge in edges if edge is not None]
    if not known:
        return None
    return bounding_box(np.concatenate([box.reshape(2, 2) for box in known]))


def _meet(box: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((box[:2] < other[2:]).all() and (box[2:] > other[:2]).all())


def _text(box: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in box) + ")"
