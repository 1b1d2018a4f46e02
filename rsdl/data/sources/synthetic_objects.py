"""Procedural scenes with ships, planes and vehicles: boxes to detect, without a download.

Ships lie in harbours, planes stand on aprons and vehicles on roads and lots, at any angle, between
parcels of land use without objects. Scenes are functions of (seed, number), as in ``synthetic.py``.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine

from rsdl.data.sources.synthetic import (
    CRS_NAME,
    FINER,
    Drawn,
    draw_parcels,
    paint_ground,
    take_picture,
    write_drawn,
)
from rsdl.synthetic.objects import Standing, paint_object, place_objects

BOXES = "boxes.geojson"
PIXEL_M = (0.22, 0.3)
# None but the first three kinds has something that looks like an object and is not labelled.
LAND_USES = (
    "apron", "harbour", "lot", "apron", "harbour", "lot", "desert", "farmland", "forest", "river",
)  # fmt: skip


def write_object_scenes(folder: Path, *, num_scenes: int, size: int, seed: int) -> Path:
    """Write scenes ``scene_000.tif``, ... and the boxes of their objects.

    Args:
        folder: The destination; created if missing.
        num_scenes: Number of scenes, at least 1.
        size: Side of a scene in pixels, at least 256.
        seed: Seed of all random choices.

    Returns:
        Path of the GeoJSON: polygons of four corners in the scenes' CRS, from the bow's or nose's
        left around, with the properties ``class`` and ``scene``.

    Raises:
        ConfigError: If ``num_scenes`` or ``size`` is too small.
        StorageError: If the folder cannot be written.
    """

    def draw(place: Affine, pixel_m: float, rng: np.random.Generator) -> Drawn:
        pixels, objects = paint_objects(size, pixel_m, rng)
        return pixels, [_feature(one, place) for one in objects]

    return write_drawn(
        folder, draw, num_scenes=num_scenes, size=size, key=("objects", seed), pixel_m=PIXEL_M,
        labels=BOXES, crs=CRS_NAME,
    )  # fmt: skip


def paint_objects(
    size: int, pixel_m: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Standing]]:
    """Return a scene's pixels ``[size, size, 3]``, and its objects, ``FINER`` times as fine."""
    parcels = draw_parcels(size, rng, LAND_USES)
    albedo, height = paint_ground(parcels, size, pixel_m, rng)
    fine = [(land_use, corners * FINER) for land_use, corners in parcels]
    objects = place_objects(fine, height, pixel_m / FINER, rng)
    for one in objects:
        paint_object(one, albedo, height, pixel_m / FINER, rng)
    return take_picture(albedo, height, pixel_m, rng), objects


def _feature(one: Standing, transform: Affine) -> dict[str, Any]:
    ring = [
        (round(transform.c + transform.a * x, 4), round(transform.f + transform.e * y, 4))
        for x, y in (one.corners() / FINER).tolist()
    ]
    # Corners run clockwise, in pixels as on the map; GeoJSON requires counterclockwise rings.
    ring = [*ring[::-1], ring[-1]]
    return {
        "type": "Feature",
        "properties": {"class": one.label},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
