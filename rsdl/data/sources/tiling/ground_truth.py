"""From the path that a user gives as labels to labels that lie on the scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import DataError
from rsdl.data.sources.tiling.class_raster import RasterLabels
from rsdl.data.sources.tiling.ground import apply, bounding_box, outline, project
from rsdl.data.sources.tiling.handles import Handles
from rsdl.data.sources.tiling.labels import Labels, PolygonLabels
from rsdl.data.sources.tiling.scenes import Scene


def open_labels(
    path: Path,
    field: str,
    classes: Sequence[str] | None,
    scenes: Sequence[Scene],
    handles: Handles,
) -> Labels:
    """Return the labels at a path.

    Args:
        path: ``.geojson`` or ``.json``: polygons; anything else: a class raster, or a folder.
        field: Property of a polygon that names its class.
        classes: Classes wanted, ``None`` for all.
        scenes: The scenes to label.
        handles: Open files of each thread.

    Raises:
        DataError: If the labels cannot be read or lie on no scene.
        ConfigError: If ``classes`` does not fit them.
    """
    labels: Labels
    if path.suffix.lower() in (".geojson", ".json"):
        labels = PolygonLabels(path, field, classes, scenes)
    else:
        labels = RasterLabels(path, classes, scenes, handles)
    if not any(len(labels.boxes(number)) for number in range(len(scenes))):
        box, crs = labels.extent
        raise DataError(
            str(path),
            f"the labels cover {_text(box)} in {crs.to_string()}, but the scenes lie in "
            f"{_extent(scenes, crs)}",
            'give labels of this area; GeoJSON without "crs" is longitude, latitude',
        )
    return labels


def _extent(scenes: Sequence[Scene], crs: rasterio.CRS) -> str:
    edges = (
        project(apply(scene.transform, outline(scene.height, scene.width)), scene.crs, crs)
        for scene in scenes
    )
    known = [bounding_box(edge) for edge in edges if edge is not None]
    if not known:
        return f"{scenes[0].crs.to_string()}, outside of it"
    return _text(bounding_box(np.concatenate([box.reshape(2, 2) for box in known])))


def _text(box: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in box) + ")"
