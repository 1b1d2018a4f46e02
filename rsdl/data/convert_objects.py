"""Write a data set of objects as images and annotation files, for tools that read no shards.

Images are the stored ones. COCO has a JSON file for each split, with corners as ``segmentation``
and their hull as ``bbox``; YOLO a file of four corners for each image, as shares of its size, and
``data.yaml``; DOTA a file of corners, class and difficult (2 for what is ignored) for each image.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import yaml

from rsdl.core.errors import DataError
from rsdl.data.dataset import DataSet
from rsdl.data.manifest import Manifest
from rsdl.data.targets import KINDS
from rsdl.data.targets.corners import areas
from rsdl.data.targets.objects import DIFFICULT, IGNORED, Objects
from rsdl.storage.store import Store

LAYOUTS = ("coco", "yolo", "dota")
KIND = "objects"
Progress = Callable[[int, int], None]


class _Image(NamedTuple):
    """A sample: its key, the name of its image below ``images/SPLIT``, and its objects."""

    key: str
    name: str
    objects: Objects


def convert_objects(
    dataset: DataSet, layout: str, target: Store, progress: Progress | None = None
) -> Counter[str]:
    """Write images and annotations, and return what the format cannot hold, by reason.

    Args:
        dataset: The data set.
        layout: One of ``LAYOUTS``.
        target: Where to write; must be empty.
        progress: Called with samples done and total.

    Raises:
        DataError: If the data set holds no objects, ``target`` is not empty, or two class names
            would be the same in the format.
        CorruptSampleError: If a sample cannot be read.
        StorageError: If a store cannot be read or written.
    """
    manifest = dataset.manifest
    if manifest.target != KIND:
        problem = f"has {KINDS[manifest.target].counts} of each class, and no objects"
        raise DataError(dataset.store.url, problem, "convert a data set of objects")
    if next(target.list(), None) is not None:
        raise DataError(target.url, "is not empty", "choose another --out")
    names = _names(manifest, layout)
    lost: Counter[str] = Counter()
    total = sum(split.samples for split in manifest.splits.values())
    done = 0
    for split in manifest.splits:
        rows: list[_Image] = []
        for image in _copy_images(dataset, split, target):
            if layout in LINES:
                folder, lines = LINES[layout]
                text = "".join(line + "\n" for line in lines(image.objects, names))
                target.write(f"{folder}/{split}/{image.key}.txt", text.encode())
            else:
                rows.append(image)
            if layout == "yolo":
                lost += _lost_to_yolo(image.objects)
            done += 1
            if progress is not None:
                progress(done, total)
        if layout == "coco":
            page = json.dumps(_coco_page(rows, split, names), separators=(",", ":"))
            target.write(f"annotations/instances_{split}.json", page.encode())
    if layout == "yolo":
        target.write("data.yaml", _yolo_page(manifest).encode())
    return +lost


def _names(manifest: Manifest, layout: str) -> tuple[str, ...]:
    """Return the class names; DOTA's columns are divided by blanks, so its names hold none."""
    if layout != "dota":
        return manifest.classes
    names = tuple(re.sub(r"\s+", "-", name) for name in manifest.classes)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        problem = f'would have two classes "{twice[0]}", as DOTA\'s names hold no blanks'
        raise DataError("--to", problem, "use coco or yolo")
    return names


def _copy_images(dataset: DataSet, split: str, target: Store) -> Iterator[_Image]:
    data, kind = dataset.split(split, "--split"), KINDS[KIND]
    with closing(data.open_reader(shrink=False)) as reader:
        for sample in range(len(data.index)):
            stored = reader.locate(sample)
            key = data.index.rows["key"][sample].decode()
            name = f"{key}.{stored.extension}"
            target.write(f"images/{split}/{name}", reader.read(stored))
            yield _Image(key, name, reader.target(sample, kind))


def _dota_lines(objects: Objects, names: tuple[str, ...]) -> Iterator[str]:
    for corners, label, flags in _rows(objects):
        difficult = 2 if flags & IGNORED else int(bool(flags & DIFFICULT))
        yield f"{_join(corners)} {names[label]} {difficult}"


def _yolo_lines(objects: Objects, names: tuple[str, ...]) -> Iterator[str]:
    height, width = objects.size
    for corners, label, flags in _rows(objects):
        if not flags & IGNORED:
            shares = [n / (height if place % 2 else width) for place, n in enumerate(corners)]
            yield f"{label} {_join(shares)}"


def _lost_to_yolo(objects: Objects) -> Counter[str]:
    ignored = (objects.flags & IGNORED) != 0
    difficult = ~ignored & ((objects.flags & DIFFICULT) != 0)
    return Counter({
        "ignored objects, which YOLO cannot mark": int(ignored.sum()),
        "difficult objects, which YOLO takes as any other": int(difficult.sum()),
    })  # fmt: skip


# Folder of the annotations, and the lines of an image's objects.
LINES = {"yolo": ("labels", _yolo_lines), "dota": ("labelTxt", _dota_lines)}


def _yolo_page(manifest: Manifest) -> str:
    page: dict[str, Any] = {split: f"images/{split}" for split in manifest.splits}
    page["names"] = dict(enumerate(manifest.classes))
    text: str = yaml.safe_dump({"path": ".", **page}, sort_keys=False, allow_unicode=True)
    return text


def _coco_page(images: list[_Image], split: str, names: tuple[str, ...]) -> dict[str, Any]:
    shown: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        height, width = image.objects.size
        name = f"images/{split}/{image.name}"
        shown.append({"id": number, "file_name": name, "height": height, "width": width})
        sizes = areas(image.objects.corners).tolist()
        for (corners, label, flags), area in zip(_rows(image.objects), sizes, strict=True):
            left, top = min(corners[::2]), min(corners[1::2])
            box = [left, top, max(corners[::2]) - left, max(corners[1::2]) - top]
            row: dict[str, Any] = {
                "id": len(rows) + 1,
                "image_id": number,
                "category_id": label + 1,
            }
            row |= {"bbox": box, "segmentation": [corners], "area": area}
            row |= {"iscrowd": int(bool(flags & IGNORED))}
            rows.append(row | ({"difficult": 1} if flags & DIFFICULT else {}))
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"images": shown, "annotations": rows, "categories": categories}


def _rows(objects: Objects) -> Iterator[tuple[list[float], int, int]]:
    """Yield the eight coordinates, label and flags of each object."""
    columns = (objects.corners.reshape(-1, 8), objects.labels, objects.flags)
    return zip(*(column.tolist() for column in columns), strict=True)


def _join(numbers: list[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)
