"""RarePlanes (Shermeyer et al. 2020): aircraft as outlines, with attributes to choose classes from.

Annotations are GeoJSON files of the images' names, in the CRS of the ground, or COCO's JSON. An
outline goes around nose, wing tips and tail.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from rsdl.core.errors import DataError
from rsdl.data.sources.annotation_files import pair_labels, read_labels
from rsdl.data.sources.annotations import AnnotatedImages, AnnotationReader, AnnotationRules
from rsdl.data.sources.coco import attribute, read_coco
from rsdl.data.sources.json_annotations import read_json
from rsdl.raster.geojson import read_crs
from rsdl.raster.georef import LONLAT, Floats, apply, project

AIRCRAFT = "aircraft"


def read_rareplanes(
    root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()
) -> AnnotatedImages:
    """Return RarePlanes' images and aircraft; all are of one class unless ``class_from`` says.

    Raises:
        DataError: If an image with GeoJSON is not georeferenced, or an aircraft lacks an attribute.
    """
    if any(label.lower().endswith(".json") for label in labels):
        # Its COCO files have a "category" for each aircraft, which names no class.
        one = rules.single or (None if rules.class_from else AIRCRAFT)
        return read_coco(root, replace(rules, single=one), labels)._replace(layout="rareplanes")
    pairs = pair_labels(root, (".geojson",), labels)
    listed = None if rules.class_from else (AIRCRAFT,)
    reader = AnnotationReader(rules, rules.choose_classes(listed), listed or ())
    return read_labels(pairs, reader, partial(_read, rules.class_from), "rareplanes")


def _read(field: str | None, path: Path, image: Path, reader: AnnotationReader) -> None:
    page = read_json(path)
    source = read_crs(page["crs"], path) if page.get("crs") else LONLAT
    try:
        features = list(page["features"])
    except (KeyError, TypeError) as error:
        raise DataError(str(path), "is no GeoJSON of features", "replace it") from error
    if not features:
        return
    target, transform = _place_of(image, path)
    for number, feature in enumerate(features):
        where = f"{path}: feature {number}"
        points = project(_ring(feature, where), source, target)
        if points is None:
            raise DataError(where, "lies outside of its image's CRS", "correct it")
        name = (
            AIRCRAFT if field is None else attribute(feature.get("properties") or {}, field, where)
        )
        reader.add(apply(~transform, points).ravel().tolist(), name, where)


def _place_of(image: Path, path: Path) -> tuple[rasterio.CRS, rasterio.Affine]:
    try:
        with rasterio.open(image) as opened:
            crs, transform = opened.crs, opened.transform
    except rasterio.errors.RasterioError as error:
        raise DataError(str(image), f"cannot be read: {error}", "replace it") from error
    if crs is None:
        problem = f"is not georeferenced, and the annotations in {path.name} are"
        remedy = "keep its .aux.xml beside it, or name COCO's JSON with --labels"
        raise DataError(str(image), problem, remedy)
    return crs, transform


def _ring(feature: Mapping[str, Any], where: str) -> Floats:
    """Return the outer ring of a polygon, or those of several together, ``[N, 2]``."""
    try:
        shape = feature["geometry"]
        polygons = (
            shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        )
        if shape["type"] not in ("Polygon", "MultiPolygon"):
            raise ValueError
        points = [position[:2] for polygon in polygons for position in polygon[0]]
        return np.array(points, np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(where, "is no polygon", "correct it") from error
