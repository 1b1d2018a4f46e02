"""xView's annotations (Lam et al. 2018): one GeoJSON file, with boxes in pixels of each image."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsdl.core.errors import DataError
from rsdl.data.sources.annotations import (
    AnnotatedImages,
    AnnotationReader,
    AnnotationRules,
    box_outline,
)
from rsdl.data.sources.json_annotations import JsonImages, find_files, read_json

CLASSES = {
    11: "Fixed-wing Aircraft", 12: "Small Aircraft", 13: "Cargo Plane", 15: "Helicopter",
    17: "Passenger Vehicle", 18: "Small Car", 19: "Bus", 20: "Pickup Truck", 21: "Utility Truck",
    23: "Truck", 24: "Cargo Truck", 25: "Truck w/Box", 26: "Truck Tractor", 27: "Trailer",
    28: "Truck w/Flatbed", 29: "Truck w/Liquid", 32: "Crane Truck", 33: "Railway Vehicle",
    34: "Passenger Car", 35: "Cargo Car", 36: "Flat Car", 37: "Tank car", 38: "Locomotive",
    40: "Maritime Vessel", 41: "Motorboat", 42: "Sailboat", 44: "Tugboat", 45: "Barge",
    47: "Fishing Vessel", 49: "Ferry", 50: "Yacht", 51: "Container Ship", 52: "Oil Tanker",
    53: "Engineering Vehicle", 54: "Tower crane", 55: "Container Crane", 56: "Reach Stacker",
    57: "Straddle Carrier", 59: "Mobile Crane", 60: "Dump Truck", 61: "Haul Truck",
    62: "Scraper/Tractor", 63: "Front loader/Bulldozer", 64: "Excavator", 65: "Cement Mixer",
    66: "Ground Grader", 71: "Hut/Tent", 72: "Shed", 73: "Building", 74: "Aircraft Hangar",
    76: "Damaged Building", 77: "Facility", 79: "Construction Site", 83: "Vehicle Lot",
    84: "Helipad", 86: "Storage Tank", 89: "Shipping container lot", 91: "Shipping Container",
    93: "Pylon", 94: "Tower",
}  # fmt: skip
# Ids that occur in the published file, and that its list of classes does not name.
UNNAMED = (75, 82)


def read_xview(root: Path, rules: AnnotationRules, labels: tuple[str, ...] = ()) -> AnnotatedImages:
    """Return xView's images and objects.

    Args:
        root: Folder of the images.
        rules: Which objects are taken.
        labels: The GeoJSON file, or one of each split as ``SPLIT=FILE``; none: that below ``root``.

    Raises:
        DataError: If a feature has no image, no bounds or an unknown type.
    """
    images = JsonImages(root)
    listed = tuple(CLASSES.values())
    reader = AnnotationReader(rules, rules.choose_classes(listed), listed)
    for split, path in find_files(root, labels, (".geojson",)):
        by_image: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        try:
            for number, feature in enumerate(read_json(path)["features"]):
                facts = feature["properties"]
                by_image.setdefault(str(facts["image_id"]), []).append((number, facts))
        except (KeyError, TypeError) as error:
            problem = "is not as xView's: it needs features with properties and image_id"
            raise DataError(str(path), problem, "export it again") from error
        for name, rows in by_image.items():
            file = images.find(name, split, str(path))
            if file is None:
                images.left_out["objects of images that are missing"] += len(rows)
                continue
            for number, facts in rows:
                _add(reader, facts, f"{path}: feature {number}")
            images.set(file, reader.take(), str(path), split)
    return images.done(reader, "xview")


def _add(reader: AnnotationReader, facts: Mapping[str, Any], where: str) -> None:
    if facts.get("bounds_imcoords") in ([], ""):  # xView's own tools leave these out
        reader.left_out["objects without bounds"] += 1
        return
    try:
        label = int(facts["type_id"])
        if label != float(facts["type_id"]):
            raise ValueError
        left, top, right, bottom = (float(part) for part in facts["bounds_imcoords"].split(","))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = 'has no type_id, or no bounds_imcoords "xmin,ymin,xmax,ymax"'
        raise DataError(where, problem, "correct it") from error
    if label in UNNAMED:
        reader.left_out["objects of types without a name (75, 82)"] += 1
        return
    if label not in CLASSES:
        raise DataError(
            where, f"has type_id {label}, which xView's list does not name", "correct it"
        )
    reader.add(box_outline(left, top, right, bottom), CLASSES[label], where)
