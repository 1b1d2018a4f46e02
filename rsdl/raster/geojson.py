"""Find what GDAL silently skips in a GeoJSON file, by parsing the file where needed."""

import json
import re
from pathlib import Path
from typing import Any

import rasterio

from rsdl.core.errors import DataError

SUFFIXES = (".geojson", ".json", ".geojsonl", ".geojsons", ".ndjson", ".jsonl")
FEATURE = re.compile(rb'"type"\s*:\s*"Feature"')
REMEDY = "export it as GeoJSON again"


def explain(path: Path) -> None:
    """Raise the specific error for a file that GDAL cannot read, if the reason is known.

    Raises:
        DataError: If it is not JSON, or not GeoJSON.
    """
    page = _load(path)
    if not isinstance(page, dict) or not isinstance(page.get("features"), list):
        raise DataError(str(path), "is not a GeoJSON FeatureCollection", REMEDY)


def check(path: Path, found: list[bool]) -> rasterio.CRS | None:
    """Check that GDAL has read everything in a file.

    Args:
        path: The file.
        found: For each feature that GDAL has read, whether it has a geometry.

    Returns:
        The CRS that an old-style ``crs`` member names, ``None`` without one.

    Raises:
        DataError: If GDAL skipped a feature, its coordinates or the CRS.
    """
    data = path.read_bytes()
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    if len(lines) > 1 and isinstance(page := _parse(lines[0]), dict) and "features" not in page:
        features = [_parse(line) for line in lines] if _is_odd(data, found) else []
        for number, feature in enumerate(features):
            if feature is None:
                where = f"{path}: line {number + 1}"
                raise DataError(where, "is not JSON", REMEDY)
    elif _is_odd(data, found) or b'"crs"' in data:
        page = _load(path)
        features = page.get("features", []) if isinstance(page, dict) else []
    else:
        return None
    _check_features(features, found, path)
    crs = page.get("crs") if isinstance(page, dict) else None
    return None if crs is None else read_crs(crs, path)


def _is_odd(data: bytes, found: list[bool]) -> bool:
    return not all(found) or len(FEATURE.findall(data)) != len(found)


def _check_features(features: list[Any], found: list[bool], path: Path) -> None:
    for number, feature in enumerate(features):
        where = f"{path}: feature {number}"
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise DataError(where, "is no GeoJSON Feature", REMEDY)
        if feature.get("geometry") is not None and number < len(found) and not found[number]:
            raise DataError(where, "has broken coordinates", "export it again")
    if features and len(features) != len(found):
        problem = f"has {len(features)} features, of which GDAL reads {len(found)}"
        raise DataError(str(path), problem, REMEDY)


def read_crs(crs: Any, path: Path) -> rasterio.CRS:  # noqa: ANN401 - a JSON value
    """Return the CRS of an old-style ``crs`` member.

    Raises:
        DataError: If it names none that is known.
    """
    try:
        return rasterio.CRS.from_user_input(crs["properties"]["name"])
    except (KeyError, TypeError, UnicodeError, rasterio.errors.CRSError) as error:
        raise DataError(
            str(path),
            f'unknown "crs": {json.dumps(crs)[:80]}',
            "export it in EPSG:4326 (RFC 7946)",
        ) from error


def _parse(line: bytes) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(line.strip(b"\x1e \t\r"))
    except (ValueError, RecursionError):
        return None


def _load(path: Path) -> Any:  # noqa: ANN401 - a JSON value
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(str(path), f"is not JSON: {error}", REMEDY) from error
