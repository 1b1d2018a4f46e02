"""Draws scenes and maps of known classes for tests of pictures and pages."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from rsdl.predict.legend import LegendEntry, PixelCounts
from rsdl.predict.writers import class_layer, write_cog
from rsdl.raster.scenes import Scene
from tests.unit.predict.scenes import PLACE, describe, draw_scene


def draw_map(
    folder: Path,
    classes: NDArray[np.uint8],
    names: tuple[str, ...],
    *,
    crs: str = "EPSG:32633",
    place: Affine = PLACE,
) -> tuple[Path, Scene, list[LegendEntry]]:
    """Write a scene and a map of it; return the map's file, the scene and the map's legend."""
    draw_scene(folder / "scene.tif", classes.shape, crs=crs, transform=place)
    scene = describe(folder / "scene.tif")
    with write_cog(folder / "map.tif", scene, class_layer(names, {})) as write:
        write(0, classes[None])
    return folder / "map.tif", scene, PixelCounts().add(classes).legend(names)
