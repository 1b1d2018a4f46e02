"""The area that is mapped: polygons of a file, or a box. Of each scene, the window around it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster.cover import PolygonCover, pixel_boxes
from rsdl.raster.densify import Objects
from rsdl.raster.georef import LONLAT, apply, shift
from rsdl.raster.labels import outside_error
from rsdl.raster.scenes import Clip, Scene
from rsdl.raster.vectors import SUFFIXES, read_polygons

BOX = "write WEST,SOUTH,EAST,NORTH in degrees, as 13.3,52.4,13.5,52.6"
# Of a pixel: an edge of the area that lies on an edge of pixels reaches no other ones.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Area:
    """Where scenes are mapped.

    Attributes:
        where: The file or option that says it.
        record: The box, or a digest of the polygons and their CRS, whatever the file.
        shapes: Valid polygons, ``[N]``.
        crs: Their coordinate reference system.
    """

    where: str
    record: str
    shapes: Objects
    crs: rasterio.CRS

    def clip(self, scenes: Sequence[Scene]) -> tuple[Scene, ...]:
        """Return scenes clipped to the window around the area, without those it does not touch.

        Raises:
            DataError: If it touches none, or a scene has no CRS.
        """
        tree = shapely.STRtree(self.shapes)
        clipped = [each for scene in scenes if (each := self._clip(scene, tree)) is not None]
        if not clipped:
            box = np.asarray(shapely.total_bounds(self.shapes))
            raise outside_error(self.where, "polygons", box, self.crs, scenes)
        return tuple(clipped)

    def touched(self, scenes: Sequence[Scene]) -> tuple[Scene, ...]:
        """Return the scenes that the area touches; errors as :meth:`clip`."""
        return tuple(scene.clip.whole for scene in self.clip(scenes) if scene.clip is not None)

    def _clip(self, scene: Scene, tree: shapely.STRtree) -> Scene | None:
        if scene.crs is None:
            problem = f"has no coordinate reference system, and {self.where} is on Earth"
            raise DataError(str(scene.path), problem, "set its CRS, or leave out the area")
        codes = np.ones(len(self.shapes), np.int32)
        cover = PolygonCover(self.shapes, codes, tree, self.crs, scene)
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [scene.width, scene.height]
        frame = shapely.Polygon(apply(scene.transform, corners))
        inside = shapely.intersection(shapely.make_valid(cover.shapes), frame)
        inside = inside[shapely.area(inside) > 0]
        if not len(inside):
            return None
        boxes = pixel_boxes(shapely.bounds(inside).reshape(-1, 4), scene)
        top, left = (math.floor(side + ROUNDING) for side in boxes[:, :2].min(axis=0))
        bottom, right = (math.ceil(side - ROUNDING) for side in boxes[:, 2:].max(axis=0))
        top, left = max(0, top), max(0, left)
        bottom, right = min(bottom, scene.height), min(right, scene.width)
        if bottom <= top or right <= left:
            return None

        def covers(row: int, col: int, height: int, width: int) -> NDArray[np.bool_] | bool:
            painted = cover.paint(row, col, height, width)
            return bool(painted) if isinstance(painted, int) else painted > 0

        return replace(
            scene,
            height=bottom - top,
            width=right - left,
            transform=shift(scene.transform, top, left),
            clip=Clip(scene, (top, left), covers),
        )


def find_area(aoi: str | None, bbox: str | None) -> Area | None:
    """Return the area that a user gives, ``None`` without one.

    Raises:
        ConfigError: If the box is none, or both are given.
        DataError: If the file cannot be read.
    """
    if aoi is not None and bbox is not None:
        raise ConfigError("--bbox", "does not go with --aoi", "give one of them")
    if aoi is not None:
        return read_area(Path(aoi).expanduser())
    return None if bbox is None else parse_box(bbox)


def read_area(path: Path) -> Area:
    """Return the polygons of a vector file as an area.

    Raises:
        ConfigError: If it has several layers.
        DataError: If it cannot be read, or has no polygons.
    """
    if path.suffix.lower() not in SUFFIXES:
        problem = f"{path} is no vector file that rsdl reads"
        raise ConfigError("--aoi", problem, f"give one of {', '.join(SUFFIXES)}")
    try:
        found = read_polygons(path, None)
    except ConfigError as error:
        remedy = 'write one layer to a file of its own, with "ogr2ogr OUT IN LAYER"'
        raise ConfigError("--aoi", error.problem, remedy) from error
    if not len(found.shapes):
        raise ConfigError("--aoi", f"{path} has no polygons", "give a layer of polygons")
    digest = hashlib.sha256(found.crs.to_string().encode())
    for shape in shapely.normalize(found.shapes):
        digest.update(shapely.to_wkb(shape, byte_order=1))
    return Area("--aoi", f"sha256:{digest.hexdigest()}", found.shapes, found.crs)


def parse_box(text: str) -> Area:
    """Return a box of longitude and latitude, ``WEST,SOUTH,EAST,NORTH`` in degrees, as an area.

    Raises:
        ConfigError: If it is none.
    """
    try:
        west, south, east, north = (float(side) for side in text.split(","))
    except ValueError as error:
        raise ConfigError("--bbox", f'"{text}" is no box', BOX) from error
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise ConfigError("--bbox", f"{text} is not in degrees of longitude, latitude", BOX)
    if west > east:
        problem = f"{text} has a west beyond its east"
        raise ConfigError("--bbox", problem, f"{BOX}; over the 180th meridian give two by --aoi")
    if not (west < east and south < north):  # also what is not a number
        raise ConfigError("--bbox", f"{text} is empty", BOX)
    record = ",".join(repr(side) for side in (west, south, east, north))
    return Area("--bbox", record, np.array([shapely.box(west, south, east, north)]), LONLAT)
