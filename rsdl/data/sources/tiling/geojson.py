"""GeoJSON polygons (RFC 7946), checked feature by feature.

Only what labels need is understood: polygons with a class. Anything else is refused with the number
of its feature instead of passed over, since a label that is silently lost looks like background.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from rsdl.core.errors import DataError

Rings = tuple[NDArray[np.float64], ...]


def load_page(path: Path) -> dict[str, Any]:
    """Return the FeatureCollection in a file.

    Raises:
        DataError: If there is none.
    """
    try:
        page = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(
            str(path), "no such file", "give a GeoJSON file or a class raster"
        ) from error
    except json.JSONDecodeError as error:
        remedy = "export it as GeoJSON again"
        if error.msg == "Extra data":  # newline-delimited: a feature in each line
            remedy = f'convert it with "ogr2ogr labels.geojson GeoJSONSeq:{path}"'
        raise DataError(str(path), f"is not JSON: {error}", remedy) from error
    except (ValueError, OSError) as error:
        raise DataError(str(path), f"is not JSON: {error}", "export it as GeoJSON again") from error
    if not isinstance(page, dict) or not isinstance(page.get("features"), list):
        raise DataError(
            str(path), "is not a GeoJSON FeatureCollection", "export it as GeoJSON again"
        )
    return page


def read_crs(page: dict[str, Any], path: Path) -> rasterio.CRS:
    """Return the CRS of a page: longitude and latitude unless an old-style ``crs`` says otherwise.

    Raises:
        DataError: If it names a CRS that nobody knows.
    """
    if page.get("crs") is None:
        return rasterio.CRS.from_epsg(4326)
    try:
        return rasterio.CRS.from_user_input(page["crs"]["properties"]["name"])
    except (KeyError, TypeError, rasterio.errors.CRSError) as error:
        raise DataError(
            str(path),
            f'unknown "crs": {json.dumps(page["crs"])[:80]}',
            "export it in EPSG:4326 (RFC 7946)",
        ) from error


def list_polygons(page: dict[str, Any], path: Path, field: str) -> Iterator[tuple[str, Rings]]:
    """Yield class name and rings, closed, of each polygon in the order of the file.

    Args:
        page: The FeatureCollection.
        path: Its file, for errors.
        field: Property that names the class.

    Raises:
        DataError: If a feature has no class, is not a polygon, or has broken coordinates.
    """
    for number, feature in enumerate(page["features"]):
        where = f"{path}: feature {number}"
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        if geometry is None:  # RFC 7946: a feature without a place
            continue
        name = (feature.get("properties") or {}).get(field)
        if name is None and field in (feature.get("properties") or {}):
            raise DataError(where, f'has null as "{field}"', "give it a class, or remove it")
        if name is None:
            known = ", ".join(feature.get("properties") or {}) or "none"
            raise DataError(
                where, f'has no property "{field}" (it has {known})', "name it with --label-field"
            )
        for rings in _polygons(geometry, where):
            yield _class_name(name, where, field), rings


def _class_name(value: object, where: str, field: str) -> str:
    """Return the class that a value names: 1, 1.0 and "1" are the same."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    odd = isinstance(value, float) and not math.isfinite(value)
    if odd or not isinstance(value, str | int | float) or not str(value).strip():
        raise DataError(
            where, f'has {json.dumps(value)[:40]} as "{field}"', "give it a class, or remove it"
        )
    return str(value)


def _polygons(geometry: dict[str, Any], where: str) -> Iterator[Rings]:
    kind: Any = geometry.get("type")
    coordinates: Any = geometry.get("coordinates")
    if kind == "GeometryCollection" and isinstance(parts := geometry.get("geometries"), list):
        for part in parts:
            yield from _polygons(part if isinstance(part, dict) else {}, where)
        return
    if kind not in ("Polygon", "MultiPolygon"):
        raise DataError(where, f"is a {kind}, not a Polygon or MultiPolygon", "remove or buffer it")
    try:
        for polygon in [coordinates] if kind == "Polygon" else coordinates:
            rings = tuple(np.array([xy[:2] for xy in ring], np.float64) for ring in polygon)
            if any(r.shape != (len(r), 2) or len(r) < 4 or not np.isfinite(r).all() for r in rings):
                raise ValueError("a ring needs four positions or more")
            if rings:
                yield tuple(_close(ring) for ring in rings)
    except (TypeError, ValueError) as error:
        raise DataError(where, f"has broken coordinates: {error}", "export it again") from error


def _close(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    return ring if (ring[0] == ring[-1]).all() else np.concatenate([ring, ring[:1]])
