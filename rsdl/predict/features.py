"""Write polygons of a map to a GeoPackage or a GeoJSON file, some at a time.

GDAL writes both. A GeoPackage is in the scene's CRS. GeoJSON is in longitude and latitude (RFC
7946: right-hand rule, cut at the 180th meridian, 7 decimals): GDAL writes a line a feature, which
are joined to a collection here, as it appends to no collection without reading it first.
"""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from pyogrio.raw import write

from rsdl.core.errors import DataError
from rsdl.predict.writers import translated
from rsdl.raster.georef import apply, centre, project
from rsdl.raster.scenes import Scene

Format = Literal["gpkg", "geojson"]
Shapes = NDArray[np.object_]
Columns = Mapping[str, NDArray[Any]]
# Polygons with corners as (column, row), and their class numbers and further columns.
WriteFeatures = Callable[[Shapes, Columns], None]
LAYERS = {False: "classes", True: "objects"}  # of a GeoPackage
# A straight edge of the scene's CRS is none of another: edges are cut before they are projected.
LONGEST_EDGE_PX = 256
MAX_CORNERS = 30_000  # that a page shows; more make it slow
# GDAL would write the time into a GeoPackage, and keep a journal beside it that no one sweeps up.
SAME_BYTES = {"OGR_CURRENT_DATE": "2000-01-01T00:00:00.000Z", "OGR_SQLITE_JOURNAL": "OFF"}


class FewFeatures:
    """Keeps the features of a map for a page, as long as they are few."""

    def __init__(self) -> None:
        self._features: list[Any] = []
        self._corners = 0

    @property
    def are_many(self) -> bool:
        """Whether they are too many, and were dropped."""
        return self._corners > MAX_CORNERS

    def add(self, polygons: Shapes, columns: Columns, crs: rasterio.CRS | None) -> None:
        """Add polygons in a projected CRS, or in the pixels of a scene that has none."""
        self._corners += int(shapely.get_num_coordinates(polygons).sum())
        if self.are_many:
            self._features.clear()
        elif crs is None:
            self._features += _pixel_features(polygons, columns)
        else:
            self._features += map(json.loads, geojson_lines(polygons, columns, crs))

    def collection(self) -> dict[str, Any] | None:
        """Return them as GeoJSON, or ``None`` if they are many."""
        found = {"type": "FeatureCollection", "features": self._features}
        return None if self.are_many else found


class Ground:
    """Where the pixels of a scene are, and how large.

    Args:
        scene: The scene.
        boxes: Whether polygons are boxes, which keep their four corners.

    Attributes:
        crs: An equal-area CRS around the scene, in metres.

    Raises:
        DataError: If the scene's CRS has no place on Earth.
    """

    def __init__(self, scene: Scene, *, boxes: bool = False) -> None:
        self._scene, self._boxes = scene, boxes
        # Polygons of a map are optional, boxes are the result.
        self._remedy = "set its CRS" if boxes else "leave out --vectorize, or set its CRS"
        if (place := centre(scene)) is None:
            problem = f"cannot be placed on Earth: its CRS is {scene.crs.to_string()[:80]}"
            raise DataError(str(scene.path), problem, self._remedy)
        lon, lat = place
        # Equal-area, and least distorted where the scene is (Lambert 1772).
        laea = f"+proj=laea +lat_0={lat:.4f} +lon_0={lon:.4f} +datum=WGS84 +units=m"
        self.crs = rasterio.CRS.from_string(laea)

    def place(self, polygons: Shapes) -> Shapes:
        """Return polygons of pixels in the scene's CRS."""
        affine = self._scene.transform
        return np.asarray(shapely.transform(polygons, lambda points: apply(affine, points)), object)

    def project(self, polygons: Shapes) -> Shapes:
        """Return polygons of pixels in :attr:`crs`, where areas are square metres of the ground.

        Raises:
            DataError: If a corner cannot be projected.
        """

        def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
            moved = project(points, self._scene.crs, self.crs)
            if moved is None:
                problem = "has pixels that lie nowhere on Earth"
                raise DataError(str(self._scene.path), problem, self._remedy)
            return moved

        if not self._boxes:
            polygons = shapely.segmentize(polygons, LONGEST_EDGE_PX)
        placed = self.place(polygons)
        return np.asarray(shapely.transform(placed, move), object)


@contextmanager
def write_features(
    part: Path,
    scene: Scene,
    classes: tuple[str, ...],
    kind: Format,
    *,
    boxes: bool = False,
    min_area_m2: float = 0.0,
    few: FewFeatures | None = None,
) -> Iterator[WriteFeatures]:
    """Yield what writes polygons; ``part`` is the file once the block ends.

    Each has ``class``, ``name`` and ``area_m2``, and the columns that are given. Those that are
    smaller than ``min_area_m2`` are left out, and the others added to ``few``. ``boxes`` tells that
    they are objects, and keep their four corners.

    Raises:
        DataError: If the scene's CRS has no place on Earth.
        StorageError: If GDAL cannot write.
    """
    ground, names = Ground(scene, boxes=boxes), np.array(classes, object)
    is_gpkg = kind == "gpkg"
    opened = _geopackage(part, scene.crs, LAYERS[boxes]) if is_gpkg else _geojson(part, ground.crs)
    with translated(part), opened as append:

        def write(polygons: Shapes, columns: Columns) -> None:
            projected = ground.project(polygons)
            areas = shapely.area(projected)
            large = areas >= min_area_m2
            kept = {name: values[large] for name, values in columns.items()}
            fields = {
                "class": kept.pop("class").astype(np.int32),
                "name": names[columns["class"][large]],
                "area_m2": areas[large].round(4),
            }
            chosen = ground.place(polygons[large]) if is_gpkg else projected[large]
            append(chosen, fields | kept)
            if few is not None:
                few.add(projected[large], fields | kept, ground.crs)

        yield write


@contextmanager
def _geopackage(part: Path, crs: rasterio.CRS, layer: str) -> Iterator[WriteFeatures]:
    scratch = part.with_name(f"{part.name}.gpkg")  # GDAL wants the suffix

    def append(polygons: Shapes, columns: Columns) -> None:
        more = {"layer": layer, "append": scratch.exists()}
        _write_layer(scratch, "GPKG", polygons, columns, crs, **more)

    pyogrio.set_gdal_config_options(SAME_BYTES)
    try:
        yield append
        os.replace(scratch, part)
    finally:
        pyogrio.set_gdal_config_options(dict.fromkeys(SAME_BYTES))
        scratch.unlink(missing_ok=True)


@contextmanager
def _geojson(part: Path, crs: rasterio.CRS) -> Iterator[WriteFeatures]:
    with part.open("wb") as file:
        file.write(b'{"type": "FeatureCollection", "features": [')
        between = b"\n"

        def append(polygons: Shapes, columns: Columns) -> None:
            nonlocal between
            for line in geojson_lines(polygons, columns, crs):
                file.write(between + line)
                between = b",\n"

        yield append
        file.write(b"\n]}\n")


def geojson_lines(polygons: Shapes, columns: Columns, crs: rasterio.CRS) -> list[bytes]:
    """Return polygons in a projected CRS as GeoJSON features in longitude and latitude."""
    if not len(polygons):
        return []
    lines = io.BytesIO()
    _write_layer(lines, "GeoJSONSeq", polygons, columns, crs)
    return lines.getvalue().splitlines()


def _pixel_features(polygons: Shapes, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield polygons of pixels as features whose y is up, as on a page."""
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    upright = shapely.transform(polygons, lambda points: points * (1, -1))
    for shape, values in zip(upright, rows, strict=True):
        geometry = json.loads(shapely.to_geojson(shape))
        named = dict(zip(columns, values, strict=True))
        yield {"type": "Feature", "properties": named, "geometry": geometry}


def _write_layer(
    target: Path | io.BytesIO,
    driver: str,
    polygons: Shapes,
    columns: Columns,
    crs: rasterio.CRS,
    **options: Any,  # noqa: ANN401 - of GDAL
) -> None:
    write(
        target,
        driver=driver,
        geometry=shapely.to_wkb(polygons),
        geometry_type="Polygon",
        crs=crs.to_wkt(),
        fields=np.array(list(columns)),
        field_data=list(columns.values()),
        **options,
    )
