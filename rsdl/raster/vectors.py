"""Read polygons with a class from a vector file: GeoJSON, Shapefile, GeoPackage, FlatGeobuf.

GDAL reads them through pyogrio. Input that GDAL skips silently (a line that is not JSON,
coordinates that are not numbers, an unknown CRS) is detected and rejected with the number of its
feature, counted from 0: a silently lost label looks like background.
"""

import logging
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError

from rsdl.core.errors import ConfigError, DataError
from rsdl.raster import geojson
from rsdl.raster.dataset_pool import WARNINGS

# Class names that mean "no class".
EMPTY = frozenset({"", "nan", "none", "null"})
SUFFIXES = (*geojson.SUFFIXES, ".shp", ".zip", ".gpkg", ".fgb")
# Files that belong to a Shapefile.
SIDECARS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
AREAS = (3, 6, 7)  # GEOS' numbers of Polygon, MultiPolygon and GeometryCollection
COLLECTION = 7
FARTHEST = 1e12  # limit of a coordinate in any unit; damaged ones can be near the largest float
# Errors of pyogrio. UnicodeError: names that are not valid text. UnboundLocalError: a CRS that GDAL
# cannot export leaves a local variable of pyogrio unset.
UNREADABLE = (DataSourceError, DataLayerError, UnicodeError, UnboundLocalError)
WHOLE = re.compile(r"([+-]?\d+)\.0*")
# Heights are unused here, and they would give the CRS three axes.
FLAT = {"EPSG:4979": "EPSG:4326"}

Objects = NDArray[np.object_]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Polygons:
    """Polygons in the order of their file, valid, without heights.

    Attributes:
        names: Name of the class of each.
        shapes: The polygons, ``[N]``; parts of a MultiPolygon one by one.
        crs: Their coordinate reference system.
        features: Number of the feature that each is a part of, ``[N]``.
        left_out: Reason -> number of features that label nothing.
    """

    names: list[str]
    shapes: Objects
    crs: rasterio.CRS
    features: NDArray[np.int64]
    left_out: dict[str, int] = field(default_factory=dict)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a vector file consists of."""
    if path.suffix.lower() != ".shp":
        return (path,)
    beside = (file for file in sorted(path.parent.glob(f"{glob_safe(path.stem)}.*")))
    return tuple(file for file in beside if file.suffix.lower() in SIDECARS)


def glob_safe(text: str) -> str:
    """Return text with glob's special characters escaped."""
    return re.sub(r"([*?[])", r"[\1]", text)


def read_polygons(path: Path, column: str | None, layer: str | None = None) -> Polygons:
    """Return the polygons of a vector file.

    Args:
        path: The file.
        column: Field that names the class; ``None``: all are of one class without a name, and of
            the features some may have no area.
        layer: Layer of the file, needed if it has several.

    Raises:
        DataError: If it cannot be read, or a feature has no class or is not an area.
        ConfigError: If ``layer`` does not exist, or is missing where the file has several.
    """
    if not path.is_file():
        raise DataError(str(path), "no such file", "give a vector file or a class raster")
    meta, blobs, columns = _read(path, _choose_layer(path, layer))
    given = np.array([blob is not None for blob in blobs], bool)
    crs = meta["crs"] and rasterio.CRS.from_user_input(FLAT.get(meta["crs"], meta["crs"]))
    if path.suffix.lower() in geojson.SUFFIXES:
        crs = geojson.check(path, given.tolist()) or crs
    if not crs:
        remedy = 'set it with "ogr2ogr -a_srs EPSG:CODE OUT IN"'
        raise DataError(str(path), "has no coordinate reference system", remedy)
    shapes = _parse(blobs, given, path)
    there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    _check_geometry(shapes, given, path, areas_only=column is not None)
    known = meta["fields"].tolist()
    if column is not None and column not in known and there.any():
        where = f"{path}: feature {int(np.flatnonzero(there)[0])}"
        has = ", ".join(known) or "none"
        remedy = "name it with --label-field"
        raise DataError(where, f'has no property "{column}" (it has {has})', remedy)
    numbers = np.flatnonzero(there)
    names = dict.fromkeys(numbers.tolist(), "")
    if column is not None and column in known:
        values = columns[known.index(column)]
        names = {n: _name(values[n], f"{path}: feature {n}", column) for n in names}
    parts, owners = _explode(shapes[there], numbers)
    parts, owners = _repair(parts, owners, path)
    left_out = {
        "without geometry": int((~there).sum()),
        "without area": len(set(numbers.tolist()) - set(owners.tolist())),
    }
    return Polygons(
        [names[number] for number in owners.tolist()],
        parts,
        crs,
        owners,
        {reason: count for reason, count in left_out.items() if count},
    )


def _choose_layer(path: Path, layer: str | None) -> str | None:
    if path.suffix.lower() in geojson.SUFFIXES:
        if layer is not None:
            raise ConfigError("label_layer", f"{path} has no layers", "leave it out")
        return None
    try:
        with WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reading repeats these warnings
            listed = pyogrio.list_layers(path)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    found = [str(name) for name, kind in listed if kind is not None]
    if layer is not None and layer not in found:
        raise ConfigError(
            "label_layer", f'{path} has no layer "{layer}"', f"use {', '.join(found)}"
        )
    if layer is None and len(found) > 1:
        raise ConfigError(
            "label_layer",
            f"{path} has {len(found)} layers",
            f"name one with --label-layer: {', '.join(found)}",
        )
    if not found:
        raise DataError(str(path), "has no polygons", "give a layer of polygons")
    return layer or found[0]


def _read(path: Path, layer: str | None) -> tuple[dict[str, Any], Objects, list[NDArray[Any]]]:
    try:
        with WARNINGS, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            meta, _, blobs, columns = pyogrio.raw.read(path, layer=layer, force_2d=True)
    except UNREADABLE as error:
        if path.suffix.lower() in geojson.SUFFIXES:
            geojson.explain(path)
        raise _unreadable(path, error) from error
    for text in sorted({" ".join(str(warning.message).split()) for warning in caught}):
        if not text.startswith("Non closed ring"):  # names no feature; `_parse` reports it
            log.warning("%s: %s", path, text)
    if blobs is None:
        raise DataError(str(path), "has no polygons", "give a layer of polygons")
    return meta, blobs, columns


def _parse(blobs: Objects, given: NDArray[np.bool_], path: Path) -> Objects:
    """Return geometries without heights, with their rings closed.

    Raises:
        DataError: If a ring has too few positions.
    """
    shapes = shapely.from_wkb(blobs, on_invalid="ignore")
    unread = np.flatnonzero(shapely.is_missing(shapes) & given)
    if len(unread):
        shapes[unread] = shapely.from_wkb(blobs[unread], on_invalid="fix")
        polygons, owners = _leaves(shapes[unread], unread)
        polygons, index = shapely.get_parts(polygons, return_index=True)
        for ring, owner in zip(shapely.get_exterior_ring(polygons), owners[index], strict=True):
            if len(np.unique(shapely.get_coordinates(ring), axis=0)) < 3:
                where = f"{path}: feature {owner}"
                problem = "has broken coordinates: a ring needs four positions or more"
                raise DataError(where, problem, "export it again")
        more = f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
        log.warning("%s: feature %d%s has a ring that is not closed: closed", path, unread[0], more)
    return np.asarray(shapely.force_2d(shapes), object)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(str(path), f"cannot be read: {reason}", "export it again")


def _check_geometry(
    shapes: Objects, given: NDArray[np.bool_], path: Path, *, areas_only: bool
) -> None:
    """Reject a feature that has broken coordinates, and name its number; likewise one of no area.

    Unless ``areas_only``, only a file without any area is rejected.
    """
    broken = given & shapely.is_missing(shapes)
    points, owners = shapely.get_coordinates(shapes, return_index=True)
    broken[owners[~(np.abs(points) < FARTHEST).all(axis=1)]] = True
    if broken.any():
        where = f"{path}: feature {int(np.flatnonzero(broken)[0])}"
        raise DataError(where, "has broken coordinates: no ring of numbers", "export it again")
    leaves, owners = _leaves(shapes[given], np.flatnonzero(given))
    others = ~_is_area(leaves)
    if not areas_only and not others.all():
        return
    for kind, owner in zip(leaves[others], owners[others], strict=True):
        where = f"{path}: feature {int(owner)}"
        what = kind.geom_type
        raise DataError(where, f"is a {what}, not a Polygon or MultiPolygon", "remove or buffer it")


def _is_area(shapes: Objects) -> NDArray[np.bool_]:
    kinds = np.isin(shapely.get_type_id(shapes), AREAS)
    return np.asarray(kinds | shapely.is_empty(shapes))


def _leaves(shapes: Objects, owners: NDArray[np.int64]) -> tuple[Objects, NDArray[np.int64]]:
    """Return the members of collections, recursively, and the owner of each."""
    while (shapely.get_type_id(shapes) == COLLECTION).any():
        shapes, index = shapely.get_parts(shapes, return_index=True)
        owners = owners[index]
    return shapes, owners


def _explode(shapes: Objects, owners: NDArray[np.int64]) -> tuple[Objects, NDArray[np.int64]]:
    """Return the single polygons in areas, and the owner of each."""
    leaves, owners = _leaves(shapes, owners)
    parts, index = shapely.get_parts(leaves, return_index=True)
    areas = (shapely.get_type_id(parts) == AREAS[0]) & (shapely.area(parts) > 0)
    crossing = (shapely.get_type_id(parts) == AREAS[0]) & ~shapely.is_valid(parts)
    kept = areas | crossing  # the two halves of a bow-tie have opposite areas
    return parts[kept], owners[index][kept]


def _repair(
    parts: Objects, owners: NDArray[np.int64], path: Path
) -> tuple[Objects, NDArray[np.int64]]:
    """Repair polygons that cross themselves, and log a warning."""
    invalid = np.flatnonzero(~shapely.is_valid(parts))
    if not len(invalid):
        return parts, owners
    more = f" (and {len(invalid) - 1} more)" if len(invalid) > 1 else ""
    reason = shapely.is_valid_reason(parts[invalid[0]])
    log.warning(
        "%s: feature %d%s is no valid polygon (%s): repaired; what its outline encloses is inside",
        path, owners[invalid[0]], more, reason,
    )  # fmt: skip
    parts = parts.copy()
    for number in invalid.tolist():
        repaired = make_valid(parts[number])
        if repaired is None:
            where, problem = f"{path}: feature {owners[number]}", "cannot be made a valid polygon"
            raise DataError(where, problem, "draw it again, or remove it")
        parts[number] = repaired
    return _explode(parts, owners)


def make_valid(shape: shapely.Polygon) -> shapely.Geometry | None:
    """Return the area that an outline and its holes enclose, or ``None`` if GEOS cannot tell.

    Edges that cross at a very flat angle can defeat GEOS. Then the corners are rounded: to 5
    micrometres in UTM, or to a millimetre at most, which is below the precision of any label.
    """
    largest = float(np.abs(shapely.get_coordinates(shape)).max())
    for digits in (None, 2.0**-40, 2.0**-36, 2.0**-32):
        rounded = shape
        if digits is not None:
            rounded = shapely.set_precision(shape, largest * digits, mode="pointwise")
        try:
            return shapely.make_valid(rounded, method="structure", keep_collapsed=False)
        except shapely.GEOSException:
            continue
    return None


def _name(value: Any, where: str, column: str) -> str:  # noqa: ANN401 - any value that GDAL reads
    """Return a class value as text: 1, 1.0 and "1" are one class.

    Raises:
        DataError: If it is empty or stands for no class.
    """
    text = "" if value is None else str(value)
    if text.casefold().strip() in EMPTY:
        shown = "null" if value is None else f'"{text}"'
        raise DataError(where, f'its "{column}" is {shown}', "give it a class, or remove it")
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text
